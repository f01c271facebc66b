"""Whether a heatmap lies on the object."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

TOLERANCE_PIXELS: Final = 15
"""Of the pointing game (Zhang et al., arXiv 1608.00507), on pictures whose shorter side has `TOLERANCE_SIDE`."""
TOLERANCE_SIDE: Final = 224


def tolerance_for(size: tuple[int, int]) -> int:
    """Return the pointing game's tolerance for inputs of `(H, W)`, pixels: as large a share as 15 of 224."""
    return round(TOLERANCE_PIXELS * min(size) / TOLERANCE_SIDE)


def hottest_pixel(saliency: Array) -> tuple[int, int] | None:
    """Return row and column of the maximum, the first in reading order of equal ones; `None` of a map of zeros.

    Args:
        saliency: `[H,W]`, at least 0.
    """
    if not saliency.any():
        return None
    row, column = np.unravel_index(int(saliency.argmax()), saliency.shape)
    return int(row), int(column)


def points_at(saliency: Array, inside: Array, tolerance: float) -> bool:
    """Play the pointing game: is the hottest pixel at most `tolerance` pixels from one of the object?

    Args:
        saliency: `[H,W]`, at least 0; a map of zeros points at nothing.
        inside: bool `[H,W]`, the object.
        tolerance: 0 asks for a pixel of the object itself.
    """
    pixel = hottest_pixel(saliency)
    if pixel is None:
        return False
    rows, columns = np.ogrid[: inside.shape[0], : inside.shape[1]]
    near = (rows - pixel[0]) ** 2 + (columns - pixel[1]) ** 2 <= tolerance**2
    return bool((near & inside).any())


def energy_inside(saliency: Array, inside: Array) -> float:
    """Return the energy pointing game: the share of the map's sum that lies in the object, 0 of a map of zeros.

    Wang et al., arXiv 1910.01279, section 4.3.

    Args:
        saliency: `[H,W]`, at least 0.
        inside: bool `[H,W]`, the object.
    """
    total = float(saliency.sum(dtype=np.float64))
    return float(saliency[inside].sum(dtype=np.float64)) / total if total > 0 else 0.0
