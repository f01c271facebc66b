"""One value held against another: by how much they differ, and where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison."""

    name: str
    tolerance: float
    largest_difference: float
    """In units of the compared values; infinite where shapes or kinds differ or a value is not finite."""
    message: str
    """Where the largest difference lies."""

    @property
    def passed(self) -> bool:
        """Whether the difference is tolerable."""
        return self.largest_difference <= self.tolerance

    def told(self, diagnosis: str | None) -> Check:
        """Return the check with what its difference comes from, where that is known, behind its message."""
        return replace(self, message=f"{self.message}: {diagnosis}") if diagnosis else self


@dataclass(frozen=True, kw_only=True)
class Report:
    """All comparisons of one version."""

    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def to_manifest(self) -> dict[str, Any]:
        """Return what the manifest says of the verification."""
        return {
            check.name: {"tolerance": check.tolerance, "largest_difference": check.largest_difference}
            for check in self.checks
        }


def compare(name: str, found: Array, wanted: Array, tolerance: float, slack: Array | None = None) -> Check:
    """Compare numbers, or strings, which differ infinitely.

    Args:
        name: what is compared.
        found: values of any shape.
        wanted: what they should be.
        tolerance: the largest difference that passes.
        slack: `[B]`, divides the differences of each row.
    """
    if found.shape != wanted.shape:
        return failed(name, f"{name} has shape {found.shape} instead of {wanted.shape}", tolerance)
    if found.dtype == object:
        differences = np.where(found == wanted, 0.0, np.inf)
    else:
        differences = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    if slack is not None:
        differences = differences / slack.reshape(-1, *[1] * (differences.ndim - 1))
    differences = np.nan_to_num(differences, nan=np.inf, posinf=np.inf)
    if not differences.size:
        return Check(name=name, tolerance=tolerance, largest_difference=0.0, message=name)
    where = np.unravel_index(int(differences.argmax()), differences.shape)
    place = ",".join(map(str, where))
    message = (
        f"{name}[{place}] is {found[where]!s} instead of {wanted[where]!s} "
        f"(difference {differences[where]:.3g}, tolerance {tolerance:.3g})"
    )
    return Check(name=name, tolerance=tolerance, largest_difference=float(differences[where]), message=message)


def holds(name: str, message: str = "") -> Check:
    """Return a check of something that either holds or not, and does."""
    return Check(name=name, tolerance=0.0, largest_difference=0.0, message=message or name)


def failed(name: str, message: str, tolerance: float = 0.0) -> Check:
    """Return a check that no tolerance lets pass."""
    return Check(name=name, tolerance=tolerance, largest_difference=float("inf"), message=message)
