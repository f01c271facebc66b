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

COLORMAPS: Final = (
    "green",
    "grey",
    "inferno",
    "jet",
    "magma",
    "pink_green",
    "pink_white_green",
    "red",
    "red_green",
    "turbo",
    "viridis",
)
DIVERGING: Final = frozenset({"pink_green", "pink_white_green", "red_green"})
"""Maps whose middle is zero: below it evidence against the class, above it evidence for it."""
_ONE_HUE: Final = frozenset({"green", "red"})
# A line as wide as this share of the picture's shorter side is seen at any size.
_LINE: Final = 1 / 150


def upsample(heatmap: Array, height: int, width: int) -> Array:
    """Resize a map bilinearly, pixel centres at halves: what `tf.image.resize` does.

    Args:
        heatmap: `[h, w]`.
        height: rows of the result, `H`.
        width: columns of the result, `W`.

    Returns:
        `[H, W]` float32; beyond the outermost centres the outermost value.
    """
    rows = _interpolate(np.asarray(heatmap, np.float32), height, axis=0)
    return _interpolate(rows, width, axis=1)


def _interpolate(values: Array, size: int, *, axis: int) -> Array:
    """Resize an axis of `values` `[h, w]` to `size`."""
    length = values.shape[axis]
    centres = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
    low = np.floor(centres).astype(np.intp)
    weight = (centres - low).astype(np.float32)
    lower = values.take(low, axis)
    result = values.take(np.minimum(low + 1, length - 1), axis)
    # In place: of a picture of many pixels it is memory that takes the time.
    result -= lower
    result *= np.expand_dims(weight, 1 - axis)
    result += lower
    return result  # type: ignore[no-any-return]


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
    return np.asarray(_indexed(heatmap, colormap).convert("RGB"))


def paint(evidence: Array, colormap: str = "jet", *, signed: bool = False) -> Array:
    """Paint evidence for a class, against it, or both: `index` says how.

    Args:
        evidence: `[H, W]`, -1..1; below zero against the class.
        colormap: one of `COLORMAPS`.
        signed: whether both signs are shown, and have to be told apart.

    Returns:
        `[H, W, 3]` uint8, RGB.

    Raises:
        OptionError: there is no such colour map.
    """
    return np.asarray(index(evidence, colormap, signed=signed).convert("RGB"))


def index(evidence: Array, colormap: str = "jet", *, signed: bool = False) -> Image.Image:
    """Paint evidence with the colour map as the picture's palette: one byte a pixel instead of three.

    A map whose middle is zero (`DIVERGING`) has one side for each sign. Any other spans either sign's strength, from
    none to full; if `signed`, it spans both, the strongest evidence against the class at its low end. `green` and
    `red` have one hue, and always show the strength alone.

    Args:
        evidence: `[H, W]`, -1..1; below zero against the class.
        colormap: one of `COLORMAPS`.
        signed: whether both signs are shown, and have to be told apart.

    Returns:
        `H` by `W` pixels, mode P.

    Raises:
        OptionError: there is no such colour map.
    """
    if colormap in DIVERGING or (signed and colormap not in _ONE_HUE):
        return _indexed((evidence + 1) / 2, colormap)
    return _indexed(np.abs(evidence), colormap)


def _indexed(values: Array, colormap: str) -> Image.Image:
    if colormap not in COLORMAPS:
        raise OptionError(f"no colour map {colormap!r}: choose one of {', '.join(COLORMAPS)}")
    picture = Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
    picture.putpalette(_tables()[colormap].tobytes())
    return picture


def blend(image: Image.Image, heatmap: Array, *, colormap: str = "jet", alpha: float = 0.4) -> Image.Image:
    """Lay a painted map over its picture.

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
    return cover(image, index(strength, colormap), strength, alpha)


def cover(image: Image.Image, painted: Image.Image, strength: Array, alpha: float) -> Image.Image:
    """Cover a picture with a painted map by the strength at each pixel.

    A picture shows unchanged where nothing raised the score, and a map of zeros changes nothing.

    Args:
        image: the picture, `H` by `W` pixels.
        painted: the map, of the same size.
        strength: `[H, W]`, 0..1.
        alpha: how much of the picture the strongest colour covers, 0..1.

    Returns:
        RGB, the picture's size.
    """
    mask = Image.fromarray(np.rint(coverage(strength) * (255 * alpha)).astype(np.uint8))
    return Image.composite(painted.convert("RGB"), image.convert("RGB"), mask)


def coverage(strength: Array) -> Array:
    """Share of the full opacity that a value of the map takes: none at 0, all from half the maximum on.

    Proportional to the value alone, the colours between blue and red would hardly show; equal everywhere, the map's
    background would tint the whole picture.

    Args:
        strength: any shape, 0..1.
    """
    return np.clip(2 * strength, 0, 1)  # type: ignore[no-any-return]


def reveal(image: Image.Image, strength: Array) -> Image.Image:
    """Darken a picture to black where a map is weak; from half the map's maximum on it shows unchanged.

    Args:
        image: the picture, `H` by `W` pixels.
        strength: `[H, W]`, 0..1.
    """
    mask = Image.fromarray(np.rint(coverage(strength) * 255).astype(np.uint8))
    return Image.composite(image.convert("RGB"), Image.new("RGB", image.size), mask)


def outline(image: Image.Image, inside: Array, colour: tuple[int, int, int]) -> Image.Image:
    """Draw a line along the border of a region, with an edge that sets it off against any picture.

    Args:
        image: the picture, `H` by `W` pixels.
        inside: `[H, W]` bool, the region; where it reaches the picture's own border, no line is drawn.
        colour: the line's, RGB.

    Returns:
        RGB, the picture's size.
    """
    width = max(1, round(min(image.size) * _LINE))
    outer = ~_eroded(~inside, width)
    line, edge = inside & ~_eroded(inside, width), outer & ~inside
    pixels = np.array(image.convert("RGB"))
    pixels[edge] = 0 if sum(colour) > 3 * 127 else 255
    pixels[line] = colour
    return Image.fromarray(pixels)


def _eroded(region: Array, width: int) -> Array:
    """Take `width` pixels off a region along its border, but not along the picture's."""
    window = 2 * width + 1
    for _ in range(2):
        padded = np.pad(region, ((width + 1, width), (0, 0)), "edge")
        counts = np.cumsum(padded, axis=0, dtype=np.int32)
        region = (counts[window:] - counts[:-window] == window).T
    return region
