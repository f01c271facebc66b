"""From a method's signed map to the heatmap of the contract."""

from __future__ import annotations

import tensorflow as tf


def normalise(signed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Keep what raised the score, and divide each image's map by its own maximum.

    Args:
        signed: `[B,P]`.

    Returns:
        The heatmap `[B,P]` in 0..1, all zeros where nothing raised the score, and its peak `[B]` before division.
        Only the maximum is divided by: subtracting the minimum as well would move the zero.
    """
    raised = tf.nn.relu(signed)
    peak = tf.reduce_max(raised, axis=1)
    return tf.math.divide_no_nan(raised, peak[:, tf.newaxis]), peak
