"""Upsampling, colour maps and blending: a heatmap over its picture."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from gradcam_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, np.dtype[Any]]

COLORMAPS: Final = ("grey", "inferno", "jet", "magma", "turbo", "viridis")


def upsample(heatmap: Array, height: int, width: int) -> Array:
    """Resize a map bilinearly, pixel centres at halves: what `tf.image.resize` does.

    Args:
        heatmap: `[h, w]`.
        height: rows of the result, `H`.
        width: columns of the result, `W`.

    Returns:
        `[H, W]` float32; beyond the outermost centres the outermost value.
    """
    rows = _interpolate(np.asarray(heatmap, np.float32), height)
    return np.ascontiguousarray(_interpolate(rows.T, width).T)


def _interpolate(values: Array, size: int) -> Array:
    """Resize the first axis of `values` to `size`."""
    length = len(values)
    centres = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
    low = np.floor(centres).astype(np.intp)
    high = np.minimum(low + 1, length - 1)
    weight = (centres - low).astype(np.float32)[:, None]
    return values[low] + (values[high] - values[low]) * weight  # type: ignore[no-any-return]


@functools.cache
def _tables() -> Mapping[str, Array]:
    with np.load(Path(__file__).with_name("colormaps.npz")) as tables:
        return dict(tables)


def colorize(heatmap: Array, colormap: str = "jet") -> Array:
    """Paint a map.

    Args:
        heatmap: `[H, W]`, 0..1.
        colormap: one of `COLORMAPS`.

    Returns:
        `[H, W, 3]` uint8, RGB.

    Raises:
        OptionError: there is no such colour map.
    """
    if colormap not in COLORMAPS:
        raise OptionError(f"no colour map {colormap!r}: choose one of {', '.join(COLORMAPS)}")
    table = _tables()[colormap]
    return table[np.rint(np.clip(heatmap, 0, 1) * 255).astype(np.uint8)]  # type: ignore[no-any-return]


def blend(image: Image.Image, heatmap: Array, *, colormap: str = "jet", alpha: float = 0.4) -> Image.Image:
    """Lay a painted map over its picture.

    The colour covers each pixel by the map's strength there, so that a picture shows unchanged where nothing
    raised the score, and a map of zeros changes nothing.

    Args:
        image: the picture, any size.
        heatmap: `[h, w]`, 0..1; upsampled to the picture's size.
        colormap: one of `COLORMAPS`.
        alpha: how much of the picture the strongest colour covers, 0..1.

    Returns:
        RGB, the picture's size.

    Raises:
        OptionError: `colormap` or `alpha` has a value it cannot have.
    """
    if not 0 <= alpha <= 1:
        raise OptionError(f"alpha {alpha}: give an opacity between 0 and 1")
    strength = upsample(heatmap, image.height, image.width)
    colour = Image.fromarray(colorize(strength, colormap))
    mask = Image.fromarray(np.rint(coverage(strength) * (255 * alpha)).astype(np.uint8))
    return Image.composite(colour, image.convert("RGB"), mask)


def coverage(strength: Array) -> Array:
    """Share of the full opacity that a value of the map takes: none at 0, all from half the maximum on.

    Proportional to the value alone, the colours between blue and red would hardly show; equal everywhere, the map's
    background would tint the whole picture.

    Args:
        strength: any shape, 0..1.
    """
    return np.clip(2 * strength, 0, 1)  # type: ignore[no-any-return]
