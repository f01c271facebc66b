"""A heatmap at its picture's size, and over it: the same picture as the client's overlay."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

ALPHA: Final = 0.4
"""How much of a picture the strongest colour covers; the client's default."""
_COLORMAPS: Final = Path(__file__).parents[1] / "graph" / "colormaps.npz"


def upsample(heatmap: Array, size: tuple[int, int]) -> Array:
    """Resize maps bilinearly, pixel centres at halves: what `tf.image.resize` does.

    Args:
        heatmap: `[...,h,w]`.
        size: `(H, W)`.

    Returns:
        `[...,H,W]` float32; beyond the outermost centres the outermost value.
    """
    values = np.asarray(heatmap, np.float32)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        low, high, weight = _neighbours(values.shape[axis], length)
        weight = weight if axis == -1 else weight[:, np.newaxis]
        first = values.take(low, axis)
        values = first + (values.take(high, axis) - first) * weight
    return values


def overlay(pixels: Array, heatmap: Array) -> Array:
    """Lay a map over its picture in the colours of `jet`, each pixel covered by `ALPHA * min(1, 2 * map)`.

    Args:
        pixels: uint8 `[H,W,C]`, C 1 or 3.
        heatmap: `[h,w]`, 0..1.

    Returns:
        uint8 `[H,W,3]`; unchanged where the map is 0.
    """
    height, width, channels = pixels.shape
    picture = Image.fromarray(pixels if channels > 1 else pixels[:, :, 0]).convert("RGB")
    strength = np.clip(upsample(heatmap, (height, width)), 0, 1)
    colours = Image.fromarray(_jet()[np.rint(strength * 255).astype(np.uint8)])
    mask = Image.fromarray(np.rint(np.minimum(2 * strength, 1) * (255 * ALPHA)).astype(np.uint8))
    return np.asarray(Image.composite(colours, picture, mask))


@functools.cache
def _jet() -> Array:
    with np.load(_COLORMAPS) as tables:
        table: Array = tables["jet"]
    return table


def _neighbours(cells: int, size: int) -> tuple[Array, Array, Array]:
    """Return the cells before and after each pixel's centre, and the second one's weight."""
    centres = np.clip((np.arange(size) + 0.5) * (cells / size) - 0.5, 0, cells - 1)
    low = np.floor(centres).astype(np.intp)
    return low, np.minimum(low + 1, cells - 1), (centres - low).astype(np.float32)
