"""The mean of a gradient over positions, taken before it is spread over them: the same to float64."""

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.folding.averages import average_kernels
from gradcam_export.graph.folding.one_hot import select_columns
from gradcam_export.graph.folding.weight_operations import fold_weight_operations
from hand_built import HandBuilt

SPREADING = {"MaxPoolGrad", "AvgPoolGrad", "MaxPool3DGrad", "AvgPool3DGrad", "BroadcastTo", "Tile"}


def mean_gradient(scores, features, direction=None, positions=True):
    """Add what Grad-CAM reads of the gradient, with the positions in one axis `[B,P,K]` as methods see them."""
    (gradient,) = tf.gradients(scores, [features], grad_ys=direction)
    if positions:
        gradient = tf.reshape(gradient, [tf.shape(features)[0], -1, features.shape[-1]])
    return tf.reduce_mean(gradient, axis=list(range(1, gradient.shape.rank - 1)))


def dense(built, tensor, units):
    """Flatten and multiply, as Keras does it."""
    flat = tf.reshape(tensor, [tf.shape(tensor)[0], int(np.prod(tensor.shape[1:]))])
    return tf.matmul(flat, built.weight(flat.shape[-1], units))


HEADS = {
    "dense": lambda built, x: dense(built, x, 5),
    "two dense": lambda built, x: dense(built, tf.nn.tanh(dense(built, x, 6)), 5),
    "max pool": lambda built, x: dense(built, tf.nn.max_pool2d(x, 2, 2, "VALID"), 5),
    "overlapping max pool": lambda built, x: dense(built, tf.nn.max_pool2d(x, 3, 2, "SAME"), 5),
    "overlapping average pool": lambda built, x: dense(built, tf.nn.avg_pool2d(x, 3, 2, "SAME"), 5),
    "two pools": lambda built, x: dense(built, tf.nn.avg_pool2d(tf.nn.max_pool2d(x, 2, 1, "SAME"), 2, 2, "VALID"), 5),
    "pool that skips": lambda built, x: dense(built, tf.nn.max_pool2d(x, 1, 2, "VALID"), 5),
    "scaled": lambda built, x: dense(built, tf.nn.max_pool2d(x * built.constant(4) * 0.25, 2, 2, "VALID") / 3, 5),
    "pooled after tanh": lambda built, x: dense(built, tf.nn.tanh(tf.nn.avg_pool2d(x, 2, 2, "VALID")), 5),
    "mean": lambda built, x: tf.matmul(tf.reduce_mean(x, [1, 2]), built.weight(4, 5)),
    "mean with axes kept": lambda built, x: dense(built, tf.nn.tanh(tf.reduce_mean(x, [1, 2], keepdims=True)), 5),
    "convolution": lambda built, x: dense(built, tf.nn.conv2d(x, built.weight(3, 2, 4, 3), 2, "VALID"), 5),
    "1x1 convolution with stride": lambda built, x: dense(
        built, tf.nn.conv2d(x, built.weight(1, 1, 4, 3), 2, "SAME"), 5
    ),
    "convolution and mean": lambda built, x: tf.reduce_mean(
        tf.nn.conv2d(x, built.weight(1, 1, 4, 5), 1, "VALID"), [1, 2]
    ),
    "convolution after which positions differ": lambda built, x: dense(
        built, tf.nn.tanh(tf.nn.conv2d(x, built.weight(3, 3, 4, 3), 1, "VALID")), 5
    ),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("reshaped", [True, False], ids=["one axis", "grid"])
def test_the_mean_is_the_same_and_nothing_is_spread(head, reshaped, batch):
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        scores = HEADS[head](built, x)
        mean = mean_gradient(scores, x, tf.one_hot(tf.argmax(scores, axis=-1), 5, dtype=tf.float64), reshaped)
    feeds = {"x": built.random.normal(size=(batch, 6, 8, 4))}
    after, (before_scores, before), (after_scores, value) = built.both([scores, mean], feeds, average_kernels)
    assert after.counts == [1]
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(after_scores, before_scores)
    assert value.shape == (batch, 4)
    assert not SPREADING & after.ops.keys()
    assert "Conv2DBackpropInput" not in after.ops


@pytest.mark.parametrize(
    ("shape", "pool"),
    [
        ((12, 4), lambda x: tf.squeeze(tf.nn.max_pool2d(tf.expand_dims(x, 1), [1, 2], [1, 2], "VALID"), 1)),
        ((4, 6, 4, 3), lambda x: tf.nn.max_pool3d(x, 2, 2, "VALID")),
        ((4, 6, 4, 3), lambda x: tf.nn.avg_pool3d(x, 3, 2, "SAME")),
    ],
    ids=["1-D", "3-D max", "3-D average"],
)
def test_other_grids_have_means_too(shape, pool):
    built = HandBuilt("float32")  # no 3-D pooling in float64
    with built.graph.as_default():
        x = built.input(*shape)
        mean = mean_gradient(dense(built, pool(x), 5)[:, 2], x)
    feeds = {"x": built.random.normal(size=(2, *shape))}
    after, (before,), (value,) = built.both([mean], feeds, average_kernels)
    assert after.counts == [1]
    np.testing.assert_allclose(value, before, rtol=1e-5, atol=1e-7)
    assert not SPREADING & after.ops.keys()


def test_axes_can_be_kept():
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        (gradient,) = tf.gradients(dense(built, x, 5)[:, 0], [x])
        mean = tf.reduce_mean(gradient, axis=[-3, -2], keepdims=True)
    after, (before,), (value,) = built.both([mean], {"x": np.ones((2, 6, 8, 4))}, average_kernels)
    assert after.counts == [1]
    assert value.shape == before.shape == (2, 1, 1, 4)
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-15)


def test_who_reads_the_gradient_at_each_position_still_does():
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        scores = dense(built, tf.nn.max_pool2d(x, 2, 2, "VALID"), 5)
        (gradient,) = tf.gradients(scores[:, 1], [x])
        mean, positive = tf.reduce_mean(gradient, [1, 2]), tf.nn.relu(gradient)
    feeds = {"x": built.random.normal(size=(2, 6, 8, 4))}
    after, before, values = built.both([mean, positive], feeds, average_kernels)
    assert after.counts == [1]
    for value, wanted in zip(values, before, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-14)
    assert after.ops["MaxPoolGrad"] == 1


def test_several_means_share_one_averaged_kernel():
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        scores = dense(built, x, 5)
        means = [mean_gradient(scores[:, index], x) for index in range(3)]
    feeds = {"x": built.random.normal(size=(2, 6, 8, 4))}
    after, before, values = built.both(means, feeds, average_kernels)
    assert after.counts == [3]
    np.testing.assert_allclose(values, before, rtol=0, atol=1e-14)
    assert len(after.weights) == 2


def test_a_single_dense_layer_is_left_with_columns_of_the_averaged_kernel():
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        index = tf.compat.v1.placeholder(tf.int32, [None], name="index")
        scores = dense(built, x, 5)
        mean = mean_gradient(scores, x, tf.one_hot(index, 5, dtype=tf.float64))
    feeds = {"x": built.random.normal(size=(3, 6, 8, 4)), "index": np.array([4, 0, 2])}
    after, (before,), (value,) = built.both([mean], feeds, average_kernels, select_columns)
    assert after.counts[0] == 1
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-15)
    assert not {"MatMul", "OneHot"} & after.ops.keys()
    assert [after.weights[name].shape for name in after.read()] == [(4, 5)]


@pytest.mark.parametrize(("half", "epsilon"), [(tf.float16, 2**-10), (tf.bfloat16, 2**-7)], ids=["float16", "bfloat16"])
def test_kernels_cast_to_half_are_averaged_in_float64_and_rounded_once(half, epsilon):
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        flat = tf.reshape(tf.nn.max_pool2d(tf.cast(x, half), 2, 2, "VALID"), [-1, 48])
        hidden = tf.nn.relu(tf.matmul(flat, tf.cast(built.weight(48, 16), half)))
        scores = tf.matmul(hidden, tf.cast(built.weight(16, 5), half))
        mean = mean_gradient(tf.cast(scores, tf.float32)[:, 3], x)
    feeds = {"x": built.random.normal(size=(3, 6, 8, 4))}
    after, (before,), (value,) = built.both([mean], feeds, fold_weight_operations, average_kernels)
    assert after.counts == [2, 1]
    assert not SPREADING & after.ops.keys()
    np.testing.assert_allclose(value, before, rtol=0, atol=4 * epsilon)


NOT_CONSERVED = {
    "a convolution that crops": lambda built, x: dense(built, tf.nn.conv2d(x, built.weight(3, 3, 4, 4), 1, "SAME"), 5),
    "a kernel that depends on the input": lambda _, x: tf.matmul(
        tf.reshape(x, [-1, 192]), tf.tile(tf.reduce_max(x, [0, 1, 2])[:, tf.newaxis], [48, 5])
    ),
    "ReLU": lambda built, x: dense(built, tf.nn.relu(x), 5),
    "max over positions": lambda built, x: tf.matmul(tf.reduce_max(x, [1, 2]), built.weight(4, 5)),
    "batch and positions in one axis": lambda built, x: tf.reduce_max(
        tf.reshape(tf.nn.tanh(tf.matmul(tf.reshape(x, [-1, 4]), built.weight(4, 5))), [-1, 48, 5]), 1
    ),
    "depthwise convolution": lambda built, x: dense(
        built, tf.nn.depthwise_conv2d(x, built.weight(2, 2, 4, 1), [1, 1, 1, 1], "VALID"), 5
    ),
}


@pytest.mark.parametrize("head", NOT_CONSERVED)
def test_other_gradients_are_left_alone(head):
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        mean = mean_gradient(NOT_CONSERVED[head](built, x)[:, 1], x)
    feeds = {"x": built.random.normal(size=(2, 6, 8, 4))}
    after, (before,), (value,) = built.both([mean], feeds, average_kernels)
    assert after.counts == [0]
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-14)


def test_a_grouped_convolution_is_left_alone():
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        grouped = tf.nn.conv2d(x, built.weight(2, 2, 2, 4), 1, "VALID")
        mean = mean_gradient(dense(built, grouped, 5), x)
    assert built.rewritten([mean], average_kernels).counts == [0]  # TensorFlow has no kernel to run it on CPUs


@pytest.mark.parametrize(
    "reduce",
    [
        lambda gradient: tf.reduce_mean(gradient, axis=[1]),
        lambda gradient: tf.reduce_mean(gradient, axis=[1, 2, 3]),
        lambda gradient: tf.reduce_mean(gradient, axis=[0, 1, 2]),
        lambda gradient: tf.reduce_mean(tf.transpose(gradient, [0, 3, 1, 2]), axis=[1, 2]),
        lambda gradient: tf.reduce_mean(tf.reshape(gradient, [-1, 16, 12]), axis=1),
        lambda gradient: tf.reduce_mean(tf.reshape(gradient, [-1, 8, 4]), axis=1),
    ],
    ids=["rows", "channels too", "batch too", "other axes", "channels mixed", "batch mixed"],
)
def test_other_means_are_right(reduce):
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        (gradient,) = tf.gradients(dense(built, tf.nn.max_pool2d(x, 2, 2, "VALID"), 5)[:, 1], [x])
        mean = reduce(gradient)
    feeds = {"x": built.random.normal(size=(2, 6, 8, 4))}
    after, (before,), (value,) = built.both([mean], feeds, average_kernels)
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-14)
    assert value.shape == before.shape
    assert after.ops["MaxPoolGrad"] == 1


def test_a_tensor_that_others_feed_is_not_gone_past():
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(4)
        tiled = tf.tile(x[:, tf.newaxis, tf.newaxis], [1, 3, 2, 1], name="fed")
        mean = tf.reduce_mean(tiled, [1, 2])
    feeds = {"x": np.ones((2, 4)), "fed": np.full((2, 3, 2, 4), 7.0)}
    after = built.rewritten([mean, tiled], average_kernels)
    assert after.counts == [0]
    np.testing.assert_array_equal(after.run([mean.name], feeds)[0], np.full((2, 4), 7.0))


def test_two_images_side_by_side_are_not_one():
    """The same sizes in another order: a batch of the grid's size must not pass for the grid."""
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(6, 8, 4)
        (gradient,) = tf.gradients(dense(built, x, 5)[:, 1], [x])
        swapped = tf.reshape(gradient, [48, -1, 4])  # [P,B,K] in shape, [B,P,K] in order
        mean = tf.reduce_mean(swapped, axis=1)
    feeds = {"x": built.random.normal(size=(48, 6, 8, 4))}
    after, (before,), (value,) = built.both([mean], feeds, average_kernels)
    assert after.counts == [0]
    np.testing.assert_array_equal(value, before)
