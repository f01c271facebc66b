"""Name the fault behind values that differ: the suspect whose values they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcam_export.checks import suspects
from gradcam_export.checks.weights import difference_of_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gradcam_export.checks.comparison import Array
    from gradcam_export.checks.suspects import Suspect


class Diagnosis:
    """What is known of the values that a version should have, and of those that known faults would give.

    Args:
        version: directory of the version.
        expected: values of the live model, those of `suspects.ALTERNATIVES` among them.
        tolerance: of predictions.
    """

    def __init__(self, version: Path, expected: Mapping[str, Array], tolerance: float) -> None:
        self._version, self._tolerance = version, tolerance
        self._expected = {name: expected[name] for name in expected}

    def of_predictions(self, found: Array) -> str | None:
        """Return what is wrong with predictions `[B,N]`, if it is known."""
        if found.shape != self._expected["predictions"].shape or not np.isfinite(found).all():
            return None
        named = _closest(found, suspects.of_predictions(self._expected), self._tolerance)
        if named:
            return named
        weights = difference_of_weights(self._version, self._expected)
        if weights:
            return weights
        factor = suspects.temperature(found.astype(np.float64), self._expected)
        return f"the logits are multiplied by {factor:.4g} (a temperature)" if factor else None

    def of_heatmap(self, method: str, found: Array, tolerance: float, slack: Array) -> str | None:
        """Return what is wrong with heatmaps `[rows,*grid]`, if it is known."""
        if "features" not in self._expected or f"{method}/score" in self._expected:
            return None
        rows, positions = self._expected["features"].shape[:2]
        flat = found.reshape(len(found), -1)
        if flat.shape != (rows, positions):
            return self._of_another_layer(flat)
        finite = np.isfinite(flat).all(axis=1)
        if not finite.all():
            return "it is NaN where nothing raised the score, for 0 is divided by 0" if finite.any() else None
        candidates = suspects.of_heatmaps(method, self._expected, found.shape[1:])
        return _closest(flat, candidates, tolerance, slack)

    def _of_another_layer(self, flat: Array) -> str | None:
        """Return which layer has as many positions."""
        layers = [
            what
            for what, values in suspects.alternatives(self._expected).items()
            if "features" in values and values["features"].shape[1] == flat.shape[1]
        ]
        return layers[0] if layers else None


def of_classes(found: Array, wanted: Array, classes: int) -> str | None:
    """Return what is wrong with class indices `[B]`, if it is known."""
    if found.shape != wanted.shape or np.array_equal(found, wanted):
        return None
    shifts = set((found.astype(int) - wanted.astype(int)) % classes)
    if shifts in ({1}, {classes - 1}):
        return "class index off by one"
    if len(set(found.tolist())) == 1 and found[0] == wanted[0]:
        return "the class of row 0 is that of all rows"
    if shifts <= {0, 1} or shifts <= {0, classes - 1}:
        return "class index off by one for some rows"
    return None


def _closest(found: Array, candidates: Iterable[Suspect], tolerance: float, slack: Array | None = None) -> str | None:
    """Return the suspect whose values `found` has within the tolerance, of several the closest."""
    best, name = np.inf, None
    divisor = 1.0 if slack is None else slack[:, np.newaxis]
    for what, values in candidates:
        if values.shape != found.shape:
            continue
        difference = float((np.abs(found - values) / divisor).max())
        if difference < best:
            best, name = difference, what
    return name if best <= tolerance else None
