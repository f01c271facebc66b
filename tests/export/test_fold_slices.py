"""Slices that Keras replaces through XLA are replaced by an operation that a stock server runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.folding.slices import standard_slice_updates
from hand_built import HandBuilt


@pytest.mark.parametrize("start", [(0, 0), (1, 2), (3, 3), (9, -4)], ids=str)
def test_a_slice_is_replaced_where_xla_replaces_it(start):
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(5)
        begin = tf.cast(tf.stack(start), tf.int32) + tf.cast(tf.reduce_sum(0 * x), tf.int32)
        result = keras.ops.slice_update(x, begin, tf.reshape(tf.range(6.0), [2, 3]))
    feeds = {"x": built.random.normal(size=(4, 5))}
    after, (before,), (value,) = built.both([result], feeds, standard_slice_updates)
    row, column = np.clip(start, 0, (2, 2))
    wanted = feeds["x"].astype(np.float32)
    wanted[row : row + 2, column : column + 3] = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(before, wanted)
    np.testing.assert_array_equal(value, wanted)
    assert after.counts == [1]
    assert after.ops["XlaDynamicUpdateSlice"] == 0
