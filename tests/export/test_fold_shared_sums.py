"""Kernels fuse where a sum that others read has an activation too."""

import numpy as np
import pytest
import tensorflow as tf
from assembled import Folded
from classifiers import photographs
from gradcam_export import contract
from gradcam_export.graph.folding.shared_sums import part_activations, part_sums
from hand_built import HandBuilt
from kernels import merges, profiled
from residual import preactivated


@pytest.mark.parametrize("batching", ["none", "in-graph"])
def test_convolutions_fuse_with_bias_and_shortcut(batching, tmp_path):
    version = Folded(preactivated(), batching=batching).served(tmp_path).loaded
    inputs = {contract.IMAGES: photographs(2)}
    version.run(contract.SERVING_DEFAULT, inputs)
    with profiled(tmp_path / "profile") as kernels:
        version.run(contract.SERVING_DEFAULT, inputs)
    convolutions = {operation for operation in kernels.operations() if "Conv2D" in operation}
    assert convolutions
    assert all("FusedConv2D" in operation for operation in convolutions)
    assert "BiasAdd" not in kernels.operations()
    assert "AddV2" not in {operation for node, operation in kernels.runs if not merges(node)}


SHARED = {
    "a sum": lambda b, x, y: (total := x + tf.nn.bias_add(y, b.constant(4)), tf.nn.relu(total)),
    "one of another shape": lambda b, x, y: (total := tf.nn.bias_add(y, b.constant(4)) + x[:, :1], tf.nn.elu(total)),
}
ALONE = {
    "no one else's": lambda b, x, y: (tf.nn.relu(x + tf.nn.bias_add(y, b.constant(4))),),
    "no convolution's": lambda _, x, y: (total := tf.nn.tanh(x) + tf.nn.relu(y), tf.nn.relu(total)),
    "no activation's": lambda b, x, y: (total := x + tf.nn.bias_add(y, b.constant(4)), tf.exp(total)),
}


@pytest.mark.parametrize("pattern", [*SHARED, *ALONE])
def test_only_shared_sums_of_convolutions_are_parted_from_their_activation(pattern):
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(7, 6, 4)
        y = tf.nn.conv2d(x, built.weight(3, 3, 4, 4), 1, "SAME")
        results = (SHARED | ALONE)[pattern](built, x, y)
    feeds = {"x": built.random.normal(size=(2, 7, 6, 4))}
    after, before, values = built.both(results, feeds, part_activations)
    assert after.counts == [pattern in SHARED]
    assert after.ops["EnsureShape"] == (pattern in SHARED)
    for value, wanted in zip(values, before, strict=True):
        np.testing.assert_array_equal(value, wanted)


def _read_later(built, x, y):
    total = x + tf.nn.bias_add(y, built.weight(4))
    return (tf.nn.relu(total) * x,)


def _kept(built, x, y):
    shortcut = tf.nn.tanh(x)
    return shortcut + tf.nn.bias_add(y, built.weight(4)), shortcut


def _read_before(built, x, y):
    shortcut = tf.nn.tanh(y)
    again = tf.nn.conv2d(shortcut, built.weight(1, 1, 4, 4), 1, "SAME")
    return (tf.nn.relu(shortcut + tf.nn.bias_add(again, built.weight(4))),)


def _read_beside(built, x, y):
    shortcut = tf.nn.tanh(y)
    again = tf.nn.conv2d(shortcut, built.weight(1, 1, 4, 4), 1, "SAME")
    return (tf.nn.relu(shortcut + tf.nn.bias_add(again, built.weight(4))) * tf.nn.tanh(shortcut),)


def _two_kernels(built, x, y):
    other = tf.nn.bias_add(tf.nn.conv2d(x, built.weight(1, 1, 4, 4), 1, "SAME"), built.weight(4))
    return (other + tf.nn.bias_add(y, built.weight(4)),)


@pytest.mark.parametrize(
    ("pattern", "parted"), [(_read_later, 1), (_kept, 1), (_read_beside, 1), (_read_before, 0), (_two_kernels, 0)]
)
@pytest.mark.parametrize("size", [(7, 6), (None, None)], ids=["fixed", "any size"])
def test_kernels_add_into_memory_that_nobody_reads_any_more(pattern, parted, size):
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(*size, 4)
        y = tf.nn.conv2d(x, built.weight(3, 3, 4, 4), 1, "SAME")
        results = pattern(built, x, y)
    feeds = {"x": built.random.normal(size=(2, 7, 6, 4))}
    after, before, values = built.both(results, feeds, part_sums)
    assert after.counts == [parted]
    assert after.ops["EnsureShape"] == parted
    for value, wanted in zip(values, before, strict=True):
        np.testing.assert_array_equal(value, wanted)
