"""What the graph would do to a weight on every call is done once; conversions there and back are left out."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.folding.weight_operations import drop_round_trips, fold_weight_operations
from hand_built import HandBuilt

HALVES = [
    pytest.param(tf.float16, np.float16, id="float16"),
    pytest.param(tf.bfloat16, ml_dtypes.bfloat16, id="bfloat16"),
]


@pytest.mark.parametrize(("half", "numpy_type"), HALVES)
def test_a_weight_is_cast_once_and_rounded_as_tensorflow_rounds(half, numpy_type):
    built = HandBuilt("float32")
    with built.graph.as_default():
        weight = built.weight(40, 30)
        product = tf.matmul(tf.cast(built.input(40), half), tf.cast(weight, half))
        result = tf.cast(product, tf.float32)
        built.weights[weight.op.name][0, :3] = [1 + 2**-11, 1 + 2**-8, 1e-9]  # ties, and below the normal numbers
    feeds = {"x": built.random.normal(size=(2, 40))}
    after, (before,), (value,) = built.both([result], feeds, fold_weight_operations)
    np.testing.assert_array_equal(value, before)
    assert after.counts == [1]
    (name,) = after.read()
    assert after.weights[name].dtype == numpy_type
    assert after.ops["Cast"] == 2


def test_casts_of_one_weight_share_the_result_and_other_readers_keep_the_weight():
    built = HandBuilt("float32")
    with built.graph.as_default():
        x, weight = built.input(40), built.weight(40, 30)
        halves = [tf.matmul(tf.cast(x, half), tf.cast(weight, half)) for half in (tf.float16, tf.bfloat16)]
        again = tf.matmul(tf.tanh(tf.cast(x, tf.float16)), tf.cast(weight, tf.float16))
        results = [*(tf.cast(half, tf.float32) for half in (*halves, again)), tf.matmul(x, weight)]
    feeds = {"x": built.random.normal(size=(2, 40))}
    after, before, values = built.both(results, feeds, fold_weight_operations)
    for value, wanted in zip(values, before, strict=True):
        np.testing.assert_array_equal(value, wanted)
    assert sorted(str(after.weights[name].dtype) for name in after.read()) == ["bfloat16", "float16", "float32"]


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_an_axis_is_added_once(axis):
    built = HandBuilt()
    with built.graph.as_default():
        widened = tf.expand_dims(tf.cast(built.weight(3, 4), tf.float32), axis)
        result = tf.reduce_sum(built.input()) * tf.cast(widened, tf.float64)
    after, (before,), (value,) = built.both([result], {"x": np.ones(2)}, fold_weight_operations)
    np.testing.assert_array_equal(value, before)
    assert "ExpandDims" not in after.ops
    assert after.counts == [3]


def test_quantised_weights_stay_small():
    built = HandBuilt("float32")
    with built.graph.as_default():
        small = tf.compat.v1.placeholder(tf.int8, [40, 30], name="small")
        built.weights["small"] = np.ones((40, 30), np.int8)
        result = tf.matmul(built.input(40), tf.cast(small, tf.float32))
    after = built.rewritten([result], fold_weight_operations)
    assert after.counts == [0]
    assert {value.dtype for value in after.weights.values()} == {np.dtype(np.int8)}


def test_an_input_is_no_weight():
    built = HandBuilt("float32")
    with built.graph.as_default():
        result = tf.cast(built.input(4), tf.float16)
    assert built.rewritten([result], fold_weight_operations).counts == [0]


@pytest.mark.parametrize("half", [tf.float16, tf.bfloat16], ids=["float16", "bfloat16"])
def test_a_value_widened_and_narrowed_back_is_itself(half):
    built = HandBuilt("float32")
    with built.graph.as_default():
        narrow = tf.cast(built.input(4), half)
        there_and_back = tf.cast(tf.identity(tf.cast(narrow, tf.float32)), half)
        result = tf.cast(tf.nn.relu(there_and_back), tf.float32)
    feeds = {"x": np.array([[1e-7, -1.0, 3.14159, 6e4]])}
    after, (before,), (value,) = built.both([result], feeds, drop_round_trips)
    np.testing.assert_array_equal(value, before)
    assert after.counts == [1]
    assert after.ops["Cast"] == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [(tf.float16, tf.bfloat16), (tf.bfloat16, tf.float16), (tf.int32, tf.float64), (tf.float16, tf.float64)],
    ids=["float16 to bfloat16", "bfloat16 to float16", "integers", "float16"],
)
def test_conversions_that_lose_something_stay(first, second):
    built = HandBuilt("float64")
    with built.graph.as_default():
        result = tf.cast(tf.cast(tf.cast(built.input(4), second), first), second)
    feeds = {"x": np.array([[1e-6, -1.5, 3.14159, 5e4]])}
    after, (before,), (value,) = built.both([result], feeds, drop_round_trips)
    assert after.counts == [0]
    np.testing.assert_array_equal(value, before)


def test_a_wide_value_that_others_feed_is_still_read():
    built = HandBuilt("float32")
    with built.graph.as_default():
        wide = tf.cast(tf.cast(built.input(4), tf.float16), tf.float32, name="wide")
        result = tf.cast(wide, tf.float16)
    after = built.rewritten([result, wide], drop_round_trips)
    feeds = {"x": np.zeros((1, 4)), "wide": np.full((1, 4), 2.0)}
    np.testing.assert_array_equal(after.run([result.name], feeds)[0], np.full((1, 4), 2.0))
