"""Hold the weights of a version against those that folding the live model gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradcam_export.checks.comparison import Array

WEIGHTS = "weights/"
"""How the names of the live model's folded weights begin: `weights/NUMBER/NAME`, in the order of the version's."""

_ROUNDING = 1e-5
"""Relative to the largest value of a weight: scales may be folded in another order by another release."""
_BFLOAT16 = 2**-8


def difference_of_weights(version: Path, expected: Mapping[str, Array]) -> str | None:
    """Return which weights of the version are not the model's, where there is anything to compare.

    Args:
        version: directory of a version whose weights are variables.
        expected: by `WEIGHTS` names what they should be.
    """
    names = [name for name in expected if name.startswith(WEIGHTS)]
    if not names or not (version / "variables" / "variables.index").is_file():
        return None
    reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    wrong = []
    for name in names:
        number, _, said = name.removeprefix(WEIGHTS).partition("/")
        key = f"weights/{number}/.ATTRIBUTES/VARIABLE_VALUE"
        if not reader.has_tensor(key):
            return None
        found, wanted = reader.get_tensor(key).astype(np.float64), expected[name].astype(np.float64)
        if found.shape != wanted.shape:
            return None
        scale = max(np.abs(wanted).max(initial=0.0), 1e-30)
        if np.abs(found - wanted).max(initial=0.0) > _ROUNDING * scale:
            wrong.append((said, found, wanted))
    return _say(wrong, len(names)) if wrong else None


def _say(wrong: list[tuple[str, Array, Array]], count: int) -> str:
    if len(wrong) > 1 and all(_rounded(found, wanted) for _, found, wanted in wrong):
        return f"{len(wrong)} of {count} weights are rounded to bfloat16"
    name, found, wanted = wrong[0]
    differ = found != wanted
    relative = np.abs(found - wanted)[differ] / np.maximum(np.abs(wanted[differ]), 1e-30)
    others = f", and {len(wrong) - 1} more weights differ" if len(wrong) > 1 else ""
    return (
        f"weight {name!r} is not the model's: {np.count_nonzero(differ)} of {differ.size} values differ by up to "
        f"{relative.max():.2g} of their size{others}"
    )


def _rounded(found: Array, wanted: Array) -> bool:
    return bool((np.abs(found - wanted) <= _BFLOAT16 * np.abs(wanted)).all())
