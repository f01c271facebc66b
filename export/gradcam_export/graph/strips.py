"""Large pictures a strip at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

_PIXELS: Final = 2**20


def by_strips(picture: tf.Tensor, compute: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], channels: int) -> tf.Tensor:
    """Compute the rows of a picture, about a million pixels at once, so that floats of all are never held together.

    Args:
        picture: uint8 `[H,W,C]`.
        compute: takes a strip of it and the number of its first row, and returns as many rows.
        channels: of the result.

    Returns:
        uint8 `[H,·,channels]`.
    """
    height, width = tf.unstack(tf.shape(picture)[:2])
    rows = tf.maximum(_PIXELS // width, 1)
    count = (height + rows - 1) // rows
    strips = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None, None, channels])

    def strip(number: tf.Tensor, strips: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        first = number * rows
        return number + 1, strips.write(number, compute(picture[first : first + rows], first))

    _, strips = tf.while_loop(lambda number, _: number < count, strip, (0, strips), parallel_iterations=1)
    return strips.concat()
