"""Figures that say whether a map shows what the model decides by, from scores and maps."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def average_drop(before: Array, after: Array) -> float:
    """Return the mean of `max(0, Y - O) / Y`, 0..1 (Chattopadhay et al., Grad-CAM++, arXiv 1710.11063, section 4.1).

    Args:
        before: Y, the class's score for each picture, `[B]`, at least 0; where it is 0, nothing drops.
        after: O, the same for the picture times its map, `[B]`.
    """
    return float(np.mean(np.maximum(0, before - after) / np.where(before > 0, before, 1)))


def increase_in_confidence(before: Array, after: Array) -> float:
    """Return the share of pictures whose score rises, `Y < O`, 0..1 (the same section).

    Args:
        before: Y, `[B]`.
        after: O, `[B]`.
    """
    return float(np.mean(before < after))


def coherency(saliency: Array, again: Array) -> float:
    """Return `(Pearson + 1) / 2` of the map of a picture and that of the picture times its map, 0..1.

    Poppi et al., ADCC, arXiv 2104.10252, section 3. A flat map is related to none: 0.

    Args:
        saliency: `[H,W]`.
        again: `[H,W]`.
    """
    one, other = (values.astype(np.float64).ravel() for values in (saliency, again))
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return (float(np.clip(one @ other / scale, -1, 1)) + 1) / 2 if scale > 0 else 0.0


def complexity(saliency: Array) -> float:
    """Return the sum of a map over its number of pixels, 0..1 (the same section).

    Args:
        saliency: `[H,W]`, 0..1.
    """
    return float(np.abs(saliency).mean(dtype=np.float64))


def adcc(coherency: float, complexity: float, average_drop: float) -> float:
    """Return the harmonic mean of coherency, 1 - complexity and 1 - average drop, 0..1 (the same section).

    Args:
        coherency: the mean of all pictures, 0..1.
        complexity: the mean of all pictures, 0..1.
        average_drop: 0..1.
    """
    parts = (coherency, 1 - complexity, 1 - average_drop)
    return 3 / sum(1 / part for part in parts) if min(parts) > 0 else 0.0


def road(most_relevant_first: Array, least_relevant_first: Array) -> float:
    """Return combined ROAD, `(LeRF - MoRF) / 2`: how much more the hottest pixels count than the coldest, -0.5..0.5.

    Rong et al., arXiv 2202.00449; combined as in pytorch-grad-cam. 0 is what a map that knows nothing gets.

    Args:
        most_relevant_first: scores without the hottest shares of the pixels, `[...]`.
        least_relevant_first: scores without the coldest, `[...]`.
    """
    return float(np.mean(least_relevant_first - most_relevant_first) / 2)


def spearman(one: Array, other: Array) -> float:
    """Return the rank correlation of two maps, -1..1, equal values sharing their mean rank.

    What is flat is related to nothing: 0, but 1 where both are the same.

    Args:
        one: any shape.
        other: the same shape.
    """
    if np.array_equal(one, other):
        return 1.0
    first, second = _ranks(one) - (one.size - 1) / 2, _ranks(other) - (other.size - 1) / 2
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale > 0 else 0.0


def _ranks(values: Array) -> Array:
    _, groups, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[groups.ravel()]
