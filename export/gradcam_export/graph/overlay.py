"""A heatmap over its picture, as a finished JPEG; the same picture as the client's overlay."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf

from gradcam_export.errors import OptionError
from gradcam_export.graph.decoding import decode_original, for_each_image
from gradcam_export.graph.headers import refusal, require
from gradcam_export.graph.strips import by_strips

if TYPE_CHECKING:
    from gradcam_export.graph.headers import ImageLimits

QUALITY: Final = 90
# What libjpeg encodes.
_LONGEST_SIDE: Final = 65500


@functools.cache
def _tables() -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    with np.load(Path(__file__).with_name("colormaps.npz")) as tables:
        return dict(tables)


def colour_table(colormap: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a colour map: RGB `[256,3]` uint8, from no strength to full.

    Raises:
        OptionError: there is no such colour map.
    """
    if colormap not in _tables():
        raise OptionError(f"colormap must be one of {', '.join(sorted(_tables()))}; got {colormap!r}.")
    return _tables()[colormap]


def overlay_jpeg(
    image_bytes: tf.Tensor,
    heatmap: tf.Tensor,
    table: np.ndarray[Any, np.dtype[np.uint8]],
    alpha: float,
    limits: ImageLimits,
) -> tf.Tensor:
    """Draw heatmaps over their pictures, in the pictures' own size.

    Args:
        image_bytes: string `[B]`, JPEG or PNG files.
        heatmap: float32 `[B,h,w]`, 0..1.
        table: RGB `[256,3]`, a colour for each strength.
        alpha: how much of the picture the strongest colour covers, 0..1.
        limits: of each file's bytes and pixels.

    Returns:
        String `[B]`, JPEG files of quality 90. The graph refuses what `decode_images` refuses.

    Raises:
        OptionError: `alpha` is not in 0..1.
    """
    if not 0 <= alpha <= 1:
        raise OptionError(f"alpha must be an opacity from 0 to 1; got {alpha!r}.")

    def draw(row: tuple[tf.Tensor, ...]) -> tf.Tensor:
        index, data, strengths = row
        picture = decode_original(data, index, limits)
        height, width = tf.unstack(tf.shape(picture)[:2])
        encodable = require(
            tf.maximum(height, width) <= _LONGEST_SIDE,
            lambda: refusal("is {}×{}; an overlay has at most {} on a side", index, width, height, _LONGEST_SIDE),
        )
        with tf.control_dependencies([encodable]):
            picture = blend(tf.identity(picture), strengths, table, alpha)
        return tf.io.encode_jpeg(picture, format="rgb", quality=QUALITY)

    return for_each_image(draw, (image_bytes, heatmap), tf.TensorSpec([], tf.string))


def blend(
    picture: tf.Tensor, heatmap: tf.Tensor, table: np.ndarray[Any, np.dtype[np.uint8]], alpha: float
) -> tf.Tensor:
    """Cover `picture`, uint8 `[H,W,3]`, with the colours of `heatmap` `[h,w]`, 0..1.

    A pixel is covered by the map's strength there, in full from half the maximum on: a picture shows unchanged where
    nothing raised the score.
    """
    height, width = tf.unstack(tf.shape(picture)[:2])
    columns = _neighbours(tf.range(width), width, tf.shape(heatmap)[1])
    colours = tf.constant(table)

    def covered(strip: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        rows = _neighbours(tf.range(first, first + tf.shape(strip)[0]), height, tf.shape(heatmap)[0])
        strength = _interpolate(_interpolate(heatmap, rows, axis=0), columns, axis=1)
        colour = tf.gather(colours, tf.cast(tf.round(tf.clip_by_value(strength, 0, 1) * 255), tf.int32))
        mask = tf.round(tf.clip_by_value(2 * strength, 0, 1) * (255 * alpha))
        return _composite(colour, strip, tf.cast(mask, tf.uint8)[:, :, tf.newaxis])

    return by_strips(picture, covered, channels=3)


def _composite(over: tf.Tensor, under: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Blend by a mask of 0..255 as Pillow does, in integers: a division by 255, rounded."""
    over, under, mask = (tf.cast(part, tf.int32) for part in (over, under, mask))
    weighed = over * mask + under * (255 - mask) + 128
    return tf.cast(tf.bitwise.right_shift(tf.bitwise.right_shift(weighed, 8) + weighed, 8), tf.uint8)


def _neighbours(pixels: tf.Tensor, size: tf.Tensor, cells: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the cells before and after each pixel's centre, and the second one's weight; centres are at halves."""
    step = tf.cast(cells, tf.float64) / tf.cast(size, tf.float64)
    last = tf.cast(cells - 1, tf.float64)
    centres = tf.clip_by_value((tf.cast(pixels, tf.float64) + 0.5) * step - 0.5, 0, last)
    low = tf.floor(centres)
    cell = tf.cast(low, tf.int32)
    return cell, tf.minimum(cell + 1, cells - 1), tf.cast(centres - low, tf.float32)


def _interpolate(values: tf.Tensor, neighbours: tuple[tf.Tensor, tf.Tensor, tf.Tensor], axis: int) -> tf.Tensor:
    low, high, weight = neighbours
    first = tf.gather(values, low, axis=axis)
    return first + (tf.gather(values, high, axis=axis) - first) * tf.expand_dims(weight, 1 - axis)
