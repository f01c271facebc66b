"""Zeros that a layer lays around an input become the convolution's own, where it has a word for them."""

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.folding.paddings import fold_paddings
from hand_built import HandBuilt


def convolved(built, x, ends, kernel=3, stride=2, dilation=1, padding="VALID"):
    x = tf.pad(x, [(0, 0), *ends, (0, 0)])
    return tf.nn.conv2d(x, built.weight(kernel, kernel, 4, 6), stride, padding, dilations=dilation)


def depthwise(built, x, ends):
    return tf.nn.depthwise_conv2d(tf.pad(x, [(0, 0), *ends, (0, 0)]), built.weight(3, 3, 4, 2), [1, 2, 2, 1], "VALID")


def volume(built, x, ends):
    return tf.nn.conv3d(tf.pad(x, [(0, 0), *ends, (0, 0)]), built.weight(3, 3, 3, 4, 6), [1, 2, 2, 2, 1], "VALID")


SAME = {
    "even, stride 2": ((8, 6, 4), lambda b, x: convolved(b, x, [(0, 1), (0, 1)])),
    "odd, stride 2": ((7, 9, 4), lambda b, x: convolved(b, x, [(1, 1), (1, 1)])),
    "odd and even": ((7, 6, 4), lambda b, x: convolved(b, x, [(1, 1), (0, 1)])),
    "five wide": ((8, 8, 4), lambda b, x: convolved(b, x, [(1, 2), (1, 2)], kernel=5)),
    "stride 1": ((8, 6, 4), lambda b, x: convolved(b, x, [(1, 1), (1, 1)], stride=1)),
    "dilated": ((8, 6, 4), lambda b, x: convolved(b, x, [(2, 2), (2, 2)], stride=1, dilation=2)),
    "stride beyond the kernel": ((9, 9, 4), lambda b, x: convolved(b, x, [(0, 0), (0, 0)], kernel=1, stride=4)),
    "depthwise": ((8, 6, 4), lambda b, x: depthwise(b, x, [(0, 1), (0, 1)])),
    "3-D": ((8, 6, 7, 4), lambda b, x: volume(b, x, [(0, 1), (0, 1), (1, 1)])),
}


@pytest.mark.parametrize("pattern", SAME)
def test_zeros_that_same_lays_on_too_are_left_to_the_convolution(pattern):
    shape, build = SAME[pattern]
    built = HandBuilt()
    with built.graph.as_default():
        result = build(built, built.input(*shape))
    feeds = {"x": built.random.normal(size=(2, *shape))}
    after, (before,), (value,) = built.both([result], feeds, fold_paddings)
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-13)
    assert after.ops["Pad"] == 0


LEFT = {
    "the other side": lambda b, x: convolved(b, x, [(1, 0), (1, 0)]),
    "too many": lambda b, x: convolved(b, x, [(1, 2), (1, 2)]),
    "on one axis alone": lambda b, x: convolved(b, x, [(0, 1), (0, 0)]),
    "before zeros of its own": lambda b, x: convolved(b, x, [(0, 1), (0, 1)], padding="SAME"),
    "of the batch": lambda b, x: tf.nn.conv2d(
        tf.pad(x, [(0, 1), (0, 1), (0, 1), (0, 0)]), b.weight(3, 3, 4, 6), 2, "VALID"
    ),
    "of the channels": lambda b, x: tf.nn.conv2d(
        tf.pad(x, [(0, 0), (0, 1), (0, 1), (0, 2)]), b.weight(3, 3, 6, 6), 2, "VALID"
    ),
    "no zeros": lambda b, x: tf.nn.conv2d(
        tf.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=0.5), b.weight(3, 3, 4, 6), 2, "VALID"
    ),
    "of an open size": lambda b, x: convolved(b, x[:, : 6 + tf.cast(0 * tf.reduce_max(x), tf.int32)], [(0, 1), (0, 1)]),
    "as many as the image tells": lambda b, x: tf.nn.conv2d(
        tf.pad(x, [(0, 0), (0, 1 + tf.cast(0 * tf.reduce_max(x), tf.int32)), (0, 1), (0, 0)]),
        b.weight(3, 3, 4, 6),
        2,
        "VALID",
    ),
}


@pytest.mark.parametrize("pattern", LEFT)
def test_other_zeros_stay(pattern):
    built = HandBuilt()
    with built.graph.as_default():
        result = LEFT[pattern](built, built.input(8, 6, 4))
    feeds = {"x": built.random.normal(size=(2, 8, 6, 4))}
    after, (before,), (value,) = built.both([result], feeds, fold_paddings)
    assert after.counts == [0]
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-13)


def test_what_others_read_is_still_padded():
    built = HandBuilt()
    with built.graph.as_default():
        padded = tf.pad(built.input(8, 6, 4), [(0, 0), (0, 1), (0, 1), (0, 0)])
        results = [tf.nn.conv2d(padded, built.weight(3, 3, 4, 6), 2, "VALID"), tf.reduce_max(padded, [1, 2])]
    feeds = {"x": -1 - built.random.random(size=(2, 8, 6, 4))}
    after, before, values = built.both(results, feeds, fold_paddings)
    assert after.counts == [1]
    for value, wanted in zip(values, before, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-13)
