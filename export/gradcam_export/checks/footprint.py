"""What a version takes: on the disk, and of the memory of the process that runs it."""

from __future__ import annotations

import math
import resource
import sys
from pathlib import Path

from gradcam_export.checks.comparison import Check

_STATUS = Path("/proc/self/status")


def check_size(version: Path, limit: int | None) -> Check:
    """Compare the bytes on the disk with the most that are allowed."""
    size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    return _within("bytes on disk", size, limit)


def check_memory(before: int, limit: int | None) -> Check:
    """Compare with its limit what this process takes more of the memory than `before`, in bytes."""
    return _within("bytes of memory", max(0, memory() - before), limit)


def memory() -> int:
    """Return the memory that this process takes, in bytes: now where the system says so, else at most so far."""
    if _STATUS.exists():
        (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _within(name: str, found: int, limit: int | None) -> Check:
    return Check(
        name=name,
        tolerance=math.inf if limit is None else float(limit),
        largest_difference=float(found),
        message=f"{name}: {found:,} where at most {limit or 0:,} are allowed",
    )
