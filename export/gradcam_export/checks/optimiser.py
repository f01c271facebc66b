"""Whether the runtime's own optimiser copes with a graph: where it gives up, answers are right, and take longer."""

from __future__ import annotations

import re

from gradcam_export.checks.comparison import Check, failed, holds

LOG_LEVEL = {"TF_CPP_MIN_LOG_LEVEL": "2"}
"""What a process must have in its environment to tell: errors are logged, warnings are not."""
_GAVE_UP = re.compile(r"meta_optimizer\.cc:\d+\] (\w+) failed: ([^\n]*)")


def check_optimiser(log: str) -> Check:
    """Look for an optimiser of the graph that failed, which TensorFlow goes on without (2.20).

    Args:
        log: what a process wrote to standard error that ran the version.
    """
    found = _GAVE_UP.search(log)
    if found is None:
        return holds("optimiser")
    name, reason = found.groups()
    return failed(
        "optimiser",
        f"TensorFlow's optimiser {name!r} gives up on this graph: its kernels are not fused, and every answer takes "
        f"longer ({reason}); report the model, or build with --layer of another feature map",
    )
