"""How far two heatmaps of one picture, for one class, lie apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gradcam_export.checks.heat_colours import upsample

Array = np.ndarray[Any, Any]

HOTTEST: Final = 0.2
"""The share of a map's area whose place is compared."""


@dataclass(frozen=True, kw_only=True)
class MapDrift:
    """How far two maps lie apart; none of it depends on the scale of either."""

    correlation: float
    """Pearson's, -1..1; 1: the same but for scale and offset."""
    iou: float
    """Intersection over union of the hottest 20 % of the area, 0..1."""
    shift: float
    """Distance of the centres of mass as a fraction of the picture's diagonal, 0..1."""


def map_drift(old: Array, new: Array, size: tuple[int, int]) -> MapDrift:
    """Hold the map of one version against that of another.

    Where the grids differ, both maps are first resized bilinearly, pixel centres at halves, to the finer of the two
    along each axis.

    Args:
        old: `[h,w]`, not negative, finite.
        new: `[h,w]` of any other grid over the same picture.
        size: `(H, W)` of the picture, pixels: gives the axes their lengths.
    """
    grid = (max(old.shape[0], new.shape[0]), max(old.shape[1], new.shape[1]))
    first, second = (upsample(one, grid) if one.shape != grid else one for one in (old, new))
    first, second = _of_unit_height(first), _of_unit_height(second)
    return MapDrift(
        correlation=correlation(first, second),
        iou=iou_of_hottest(first, second),
        shift=centre_shift(first, second, size),
    )


def correlation(first: Array, second: Array) -> float:
    """Return Pearson's correlation of two maps `[h,w]` of one grid.

    A map of one value has none. Two of those correlate by 1 where both are zero or neither is, and by 0 otherwise; with
    any other map such a one correlates by 0.
    """
    constant = [float(np.ptp(one)) == 0 for one in (first, second)]
    if any(constant):
        return float(all(constant) and first.any() == second.any())
    deviations = [one.astype(np.float64) - one.mean(dtype=np.float64) for one in (first, second)]
    lengths = math.sqrt(float((deviations[0] ** 2).sum()) * float((deviations[1] ** 2).sum()))
    return min(1.0, max(-1.0, float((deviations[0] * deviations[1]).sum()) / lengths))


def iou_of_hottest(first: Array, second: Array) -> float:
    """Return the intersection over union of the hottest 20 % of two maps `[h,w]` of one grid.

    The area is every cell that is as hot as the coldest of that many hottest cells, so that equal cells are in it or
    out of it together; what is 0 is never in it. Two zero maps have nothing to disagree on: 1; a single one: 0.
    """
    areas = [_hottest(one) for one in (first, second)]
    union = np.count_nonzero(areas[0] | areas[1])
    return np.count_nonzero(areas[0] & areas[1]) / union if union else 1.0


def centre_shift(first: Array, second: Array, size: tuple[int, int]) -> float:
    """Return how far the centres of mass of two maps `[h,w]` lie apart, as a fraction of the picture's diagonal.

    A zero map has no centre: two of them lie 0 apart, one and any other 1, further than two centres ever can.

    Args:
        first: a map over the whole picture.
        second: another.
        size: `(H, W)` of the picture, pixels.
    """
    old, new = _centre(first), _centre(second)
    if old is None or new is None:
        return float(old is not new)
    down, right = ((new - old) * size).tolist()
    return math.hypot(down, right) / math.hypot(*size)


def _of_unit_height(heatmap: Array) -> Array:
    """Divide by the maximum: nothing measured here depends on it, and nothing underflows then."""
    values = heatmap.astype(np.float64)
    peak = values.max()
    return values / peak if peak > 0 else values


def _hottest(heatmap: Array) -> Array:
    count = max(1, round(HOTTEST * heatmap.size))
    coldest = np.partition(heatmap, -count, axis=None)[-count]
    return (heatmap >= coldest) & (heatmap > 0)


def _centre(heatmap: Array) -> Array | None:
    """Return the centre of mass `(y, x)` as fractions of the picture's axes."""
    mass = heatmap.sum(dtype=np.float64)
    if not mass > 0:
        return None
    places = [(np.arange(length) + 0.5) / length for length in heatmap.shape]
    return np.array([heatmap.sum(axis=1) @ places[0], heatmap.sum(axis=0) @ places[1]]) / mass
