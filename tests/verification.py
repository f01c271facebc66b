"""Verify what tests export in their own process: starting another takes longer than all a small classifier does.

The same checks see the same values. That they run in a process of their own is tested where it matters.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from gradcam_export.checks.verify import Report, passed, verify, verify_in_fresh_process

EXPORT = importlib.import_module("gradcam_export.export")


@contextmanager
def verified_here() -> Iterator[None]:
    """Verify in this process."""

    def verify_here(version: Path, expected: Path) -> Report:
        with np.load(expected) as values:
            return passed(verify(version, values))

    with mock.patch.object(EXPORT, "verify_in_fresh_process", verify_here):
        yield


@contextmanager
def verified_in_fresh_process() -> Iterator[None]:
    """Verify as users do, also inside `verified_here`."""
    with mock.patch.object(EXPORT, "verify_in_fresh_process", verify_in_fresh_process):
        yield
