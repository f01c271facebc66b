"""Scales and reversals of channels go into the kernel after them, through whatever lies between."""

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.folding.input_channels import fold_input_channels
from gradcam_export.graph.folding.paddings import fold_paddings
from hand_built import HandBuilt


def convolved(built, x, channels=3):
    return tf.nn.conv2d(x, built.weight(3, 3, channels, 6), 2, "VALID")


def padded(x):
    return tf.pad(x, [(0, 0), (3, 2), (1, 0), (0, 0)])


FOLDED = {
    "scale": (1, lambda b, x: x * b.constant(3)),
    "one factor": (1, lambda _, x: 0.25 * x),
    "scale and offset": (1, lambda b, x: x * b.constant(3) + b.constant(3)),
    "offset, then scale": (1, lambda b, x: (x - b.constant(3)) * b.constant(1, 1, 1, 3)),
    "tf": (1, lambda _, x: x / 127.5 - 1),
    "torch": (2, lambda b, x: (x / 255 - b.constant(3)) / b.constant(3)),
    "two scales around a bias": (2, lambda b, x: b.constant(3) * tf.nn.bias_add(x * 0.5, b.constant(3))),
    "less than a scalar": (1, lambda b, x: 1.5 - x * b.constant(3)),
    "caffe": (1, lambda b, x: x[..., ::-1] - b.constant(3)),
    "reversed by its last axis of four": (1, lambda b, x: b.constant(3) - x[:, :, :, ::-1]),
    "reversed by an operation": (1, lambda _, x: tf.reverse(x, [-1]) + 1),
    "reversed by an operation, from the front": (1, lambda _, x: tf.reverse(x, [3])),
    "reversed, then scaled": (2, lambda b, x: (x[..., ::-1] - b.constant(3)) * b.constant(3)),
    "scaled, then reversed": (2, lambda b, x: (x * b.constant(3))[..., ::-1] + b.constant(3)),
}


@pytest.mark.parametrize("pad", [False, True], ids=["bare", "padded"])
@pytest.mark.parametrize("pattern", FOLDED)
def test_the_kernel_takes_up_what_is_done_to_its_channels(pattern, pad):
    count, prepare = FOLDED[pattern]
    built = HandBuilt()
    with built.graph.as_default():
        x = prepare(built, built.input(7, 6, 3))
        result = tf.nn.relu(convolved(built, padded(x) if pad else x))
    feeds = {"x": built.random.normal(size=(2, 7, 6, 3))}
    after, (before,), (value,) = built.both([result], feeds, fold_input_channels)
    np.testing.assert_allclose(value, before, rtol=1e-12, atol=1e-12)
    assert after.counts == [count]
    assert not {"Mul", "RealDiv", "StridedSlice", "ReverseV2"} & after.ops.keys()
    assert len(after.read()) == 1


LEFT = {
    "a factor of none": lambda b, x: convolved(b, x * tf.constant([1.0, 0.0, 2.0], tf.float64)),
    "a factor for each column": lambda b, x: convolved(b, x * tf.reshape(b.constant(6), [6, 1])),
    "a factor of the image": lambda b, x: convolved(b, x * tf.reduce_max(x)),
    "ReLU between": lambda b, x: convolved(b, tf.nn.relu(x * b.constant(3))),
    "an addend of the image": lambda b, x: convolved(b, x * 0.5 + tf.nn.tanh(x)),
    "an addend for each column": lambda b, x: convolved(b, x * 0.5 + tf.reshape(b.constant(6), [6, 1])),
    "grey spread over three": lambda b, x: convolved(b, x[..., :1] * b.constant(3)),
    "grey reversed, then spread over three": lambda b, x: convolved(b, x[..., :1][..., ::-1] - b.constant(3)),
    "rows reversed": lambda b, x: convolved(b, x[:, ::-1]),
    "rows reversed by an operation": lambda b, x: convolved(b, tf.reverse(x, [1])),
    "columns and channels reversed": lambda b, x: convolved(b, x[:, :, ::-1, ::-1]),
    "two channels, reversed": lambda b, x: convolved(b, x[..., 1::-1], 2),
    "zeros for channels": lambda b, x: convolved(b, tf.pad(x * 0.5, [(0, 0), (0, 0), (0, 0), (1, 0)]), 4),
    "in groups": lambda b, x: tf.nn.depthwise_conv2d(x * b.constant(3), b.weight(3, 3, 3, 2), [1] * 4, "SAME"),
    "a kernel of the image": lambda _, x: tf.nn.conv2d(x * 0.5, tf.nn.tanh(x[0, :3, :3, :, tf.newaxis]), 1, "SAME"),
    "as the kernel": lambda b, x: tf.nn.conv2d(x, x[0, :3, :3, :, tf.newaxis] * b.constant(1), 1, "SAME"),
}


@pytest.mark.parametrize("pattern", LEFT)
def test_what_only_looks_alike_is_left_alone(pattern):
    built = HandBuilt()
    with built.graph.as_default():
        result = LEFT[pattern](built, built.input(7, 6, 3))
    feeds = {"x": built.random.normal(size=(2, 7, 6, 3))}
    after, (before,), (value,) = built.both([result], feeds, fold_input_channels)
    assert after.counts == [0]
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", ["scaled", "offset"])
def test_what_others_read_keeps_its_value(kept):
    built = HandBuilt()
    with built.graph.as_default():
        scaled = built.input(7, 6, 3) * built.constant(3)
        offset = scaled + built.constant(3)
        results = [convolved(built, offset), {"scaled": scaled, "offset": offset}[kept]]
    feeds = {"x": built.random.normal(size=(2, 7, 6, 3))}
    _, before, values = built.both(results, feeds, fold_input_channels)
    for value, wanted in zip(values, before, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-12)


def test_what_an_earlier_rewrite_left_over_is_in_nobodys_way():
    built = HandBuilt()
    with built.graph.as_default():
        x = tf.pad(built.input(8, 6, 3) / 255, [(0, 0), (0, 1), (0, 1), (0, 0)])
        result = tf.nn.relu(convolved(built, x))
    feeds = {"x": built.random.normal(size=(2, 8, 6, 3))}
    after, (before,), (value,) = built.both([result], feeds, fold_paddings, fold_input_channels)
    np.testing.assert_allclose(value, before, rtol=1e-12, atol=1e-12)
    assert after.counts == [1, 1]


def test_a_kernel_of_two_convolutions_stays_as_it_is_for_the_other():
    built = HandBuilt()
    with built.graph.as_default():
        x, kernel = built.input(7, 6, 3), built.weight(3, 3, 3, 6)
        results = [tf.nn.conv2d(x * built.constant(3), kernel, 1, "SAME"), tf.nn.conv2d(x, kernel, 1, "SAME")]
    feeds = {"x": built.random.normal(size=(2, 7, 6, 3))}
    after, before, values = built.both(results, feeds, fold_input_channels)
    assert after.counts == [0]
    for value, wanted in zip(values, before, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-12)


def test_half_precision_keeps_its_scales():
    built = HandBuilt("float16")
    with built.graph.as_default():
        result = convolved(built, built.input(7, 6, 3) / 255)
    after = built.rewritten([result], fold_input_channels)
    assert after.counts == [0]
    assert after.ops["Mul"] == 1
