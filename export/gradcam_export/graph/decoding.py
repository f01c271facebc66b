"""From encoded pictures to the pixels a client would have sent.

The same file must give the same pixels here and in the client, which decodes and resizes with Pillow: alpha is dropped,
not composited, 16-bit grey keeps its high byte, and colour profiles are ignored.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import tensorflow as tf

from gradcam_export.errors import OptionError
from gradcam_export.graph.headers import check
from gradcam_export.graph.orientation import find_orientation, is_transposed, mirror, turn_upright
from gradcam_export.graph.strips import by_strips

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcam_export.graph.headers import ImageLimits

IMAGES_AT_ONCE: Final = 2
"""How many pictures of a request are decoded at the same time: each may have the most pixels allowed."""

# ITU-R BT.601 luma in 16-bit fixed point, as Pillow converts RGB to L.
_LUMA: Final = (19595, 38470, 7471)


def decode_images(image_bytes: tf.Tensor, shape: tuple[int, int, int], limits: ImageLimits) -> tf.Tensor:
    """Decode pictures, turn them upright and bring them to a classifier's input.

    Args:
        image_bytes: string `[B]`, JPEG or PNG files.
        shape: `(H, W, C)`; C is 3 (RGB), or 1 for grey.
        limits: of each file's bytes and pixels.

    Returns:
        uint8 `[B,H,W,C]`, on the CPU. The graph answers INVALID_ARGUMENT where a file is neither JPEG nor PNG, breaks a
        limit by its header (before anything is decoded), or is damaged.

    Raises:
        OptionError: C is neither 1 nor 3.
    """
    if shape[2] not in (1, 3):
        raise OptionError(f"encoded images are for classifiers of 1 or 3 channels; this one takes {shape[2]}.")

    def decode(numbered: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        stored, orientation = _decoder(limits)(*numbered)
        return _fit(_grey(stored) if shape[2] == 1 else stored, orientation, shape)

    return for_each_image(decode, (image_bytes,), tf.TensorSpec(shape, tf.uint8))


def decode_original(data: tf.Tensor, index: tf.Tensor, limits: ImageLimits) -> tf.Tensor:
    """Decode one picture in its own size.

    Args:
        data: scalar string, a JPEG or PNG file.
        index: scalar int32, its place in the request, for messages.
        limits: of its bytes and pixels.

    Returns:
        uint8 RGB `[H,W,3]`, upright. The graph refuses what `decode_images` refuses.
    """
    return turn_upright(*_decoder(limits)(index, data))


def for_each_image(
    function: Callable[[tuple[tf.Tensor, ...]], tf.Tensor], rows: tuple[tf.Tensor, ...], one: tf.TensorSpec
) -> tf.Tensor:
    """Call `function` with the index and the values of each row, a few at once, on the CPU; returns `[B, *one]`."""
    with tf.device("/CPU:0"):
        indices = tf.range(tf.shape(rows[0])[0])
        return tf.map_fn(function, (indices, *rows), parallel_iterations=IMAGES_AT_ONCE, fn_output_signature=one)


@functools.cache
def _decoder(limits: ImageLimits) -> Any:
    """Return a function of a picture's index and file to its pixels `[H,W,3]` as they are stored, and orientation."""

    def decode(index: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.device("/CPU:0"):
            checked = check(data, index, limits)
            # The decoder's own choice, the fast transform, is up to 18 grey levels off. It decodes PNG as well.
            stored = tf.io.decode_jpeg(checked.data, channels=3, dct_method="INTEGER_ACCURATE")
            return stored, find_orientation(checked.metadata)

    # Traced once: reading headers is most of what there is to trace.
    return tf.function(decode, autograph=False).get_concrete_function(
        tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.string)
    )


def _grey(picture: tf.Tensor) -> tf.Tensor:
    def luma(strip: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        weighed = tf.cast(strip, tf.int32) * tf.constant(_LUMA)
        rounded = tf.reduce_sum(weighed, axis=2, keepdims=True) + 2**15
        return tf.cast(tf.bitwise.right_shift(rounded, 16), tf.uint8)

    return by_strips(picture, luma, channels=1)


def _fit(stored: tf.Tensor, orientation: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Resize bilinearly, the upright picture's width first, each pass rounded to uint8: what Pillow does."""
    height, width, channels = shape

    def transposed() -> tf.Tensor:
        return tf.transpose(_resize_columns(_resize_rows(stored, width), height), [1, 0, 2])

    def straight() -> tf.Tensor:
        narrow = by_strips(stored, lambda strip, _: _resize_columns(strip, width), channels)
        return _resize_rows(narrow, height)

    # Turned after resizing: the result is small, the original may be huge.
    fitted = tf.cond(is_transposed(orientation), transposed, straight)
    return tf.ensure_shape(mirror(fitted, orientation), shape)


def _resize_rows(picture: tf.Tensor, height: int) -> tf.Tensor:
    rows, columns, channels = tf.unstack(tf.shape(picture))
    # A row as one pixel of many channels: three times as fast.
    flat = tf.reshape(picture, [rows, 1, -1])
    return tf.reshape(_resample(flat, [height, 1], [height / rows, 1.0]), [height, columns, channels])


def _resize_columns(picture: tf.Tensor, width: int) -> tf.Tensor:
    rows, columns, _ = tf.unstack(tf.shape(picture))
    return _resample(picture, [rows, width], [1.0, width / columns])


def _resample(picture: tf.Tensor, size: list[tf.Tensor | int], scale: list[tf.Tensor | float]) -> tf.Tensor:
    resized = tf.raw_ops.ScaleAndTranslate(
        images=picture[tf.newaxis],
        size=size,
        scale=[tf.cast(factor, tf.float32) for factor in scale],
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )[0]
    # Pillow rounds halves up, and halves are frequent: every second row when a size is halved.
    return tf.cast(tf.floor(resized + 0.5), tf.uint8)
