"""Scales and additions go into the convolution before them, whatever its kind, and only where that changes nothing."""

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.folding.scales import fold_scales, merge_additions
from gradcam_export.graph.folding.weight_operations import drop_round_trips, fold_weight_operations
from hand_built import HandBuilt

CONVOLUTIONS = {
    "2-D": ((7, 6, 4), lambda b, x: tf.nn.conv2d(x, b.weight(3, 3, 4, 6), 1, "SAME")),
    "1-D": ((9, 4), lambda b, x: tf.nn.conv1d(x, b.weight(3, 4, 6), 1, "SAME")),
    "1-D, one channel": ((9, 4), lambda b, x: tf.nn.conv1d(x, b.weight(3, 4, 1), 1, "SAME")),
    "3-D": ((5, 6, 4, 3), lambda b, x: tf.nn.conv3d(x, b.weight(2, 2, 2, 3, 6), [1] * 5, "VALID")),
    "grouped": ((7, 6, 4), lambda b, x: tf.nn.conv2d(x, b.weight(3, 3, 2, 6), 1, "SAME")),
    "depthwise": ((7, 6, 3), lambda b, x: tf.nn.depthwise_conv2d(x, b.weight(3, 3, 3, 2), [1] * 4, "SAME")),
}
NORMS = {
    "scale": lambda b, y: y * b.constant(y.shape[-1]),
    "scale and offset": lambda b, y: y * b.constant(y.shape[-1]) + b.constant(y.shape[-1]),
    "bias, scale and offset": lambda b, y: (
        (y + b.constant(*[1] * (y.shape.rank - 1), y.shape[-1])) * b.constant(y.shape[-1]) + b.constant(y.shape[-1])
    ),
    "BiasAdd, then a scalar": lambda b, y: 0.3 * tf.nn.bias_add(y, b.constant(y.shape[-1])),
    "two norms": lambda b, y: NORMS["bias, scale and offset"](b, NORMS["bias, scale and offset"](b, y)),
    "offsets alone": lambda b, y: 2.0 + (y + b.constant(y.shape[-1])),
}


def to_the_end(graph):
    total = 0
    while count := fold_scales(graph) + merge_additions(graph) + drop_round_trips(graph):
        total += count
    return total


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_every_convolution_takes_up_what_follows_it(convolution, norm):
    shape, convolve = CONVOLUTIONS[convolution]
    built = HandBuilt("float32" if convolution == "grouped" else "float64")
    with built.graph.as_default():
        result = tf.nn.relu(NORMS[norm](built, convolve(built, built.input(*shape))))
    feeds = {"x": built.random.normal(size=(2, *shape))}
    after, (before,), (value,) = built.both([result], feeds, fold_weight_operations, to_the_end)
    tolerance = 1e-13 if built.dtype == tf.float64 else 1e-5
    np.testing.assert_allclose(value, before, rtol=tolerance, atol=tolerance)
    assert not {"Mul", "AddV2", "Add"} & after.ops.keys()
    assert after.ops["BiasAdd"] == (norm != "scale")
    assert len(after.read()) == 1


SHORTCUTS = {
    "shortcut": lambda b, x, y: x + (y + b.constant(4)),
    "shortcut, norm": lambda b, x, y: x + (y * b.constant(4) + b.constant(4)),
    "norm, shortcut": lambda b, x, y: (y * b.constant(4) + b.constant(4)) + x,
    "shortcut of two": lambda b, x, y: (y * b.constant(4) + b.constant(4)) + tf.nn.tanh(x) + x,
    "a convolution on either side": lambda b, x, y: (
        tf.nn.conv2d(x, b.weight(1, 1, 4, 4), 1, "SAME") * b.constant(4) + b.constant(4) + (y + b.constant(4))
    ),
}


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_beside_a_shortcut_too_the_convolution_gets_its_bias(shortcut):
    built = HandBuilt()
    with built.graph.as_default():
        x = tf.nn.relu(built.input(7, 6, 4))
        y = tf.nn.conv2d(tf.nn.tanh(x), built.weight(3, 3, 4, 4), 1, "SAME")
        result = SHORTCUTS[shortcut](built, x, y)
    feeds = {"x": built.random.normal(size=(2, 7, 6, 4))}
    after, (before,), (value,) = built.both([result], feeds, to_the_end)
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-12)
    producers = {node.name: node.op for node in after.graph_def.node}
    convolutions = {name for name, op in producers.items() if op == "Conv2D"}
    biased = [node for node in after.graph_def.node if node.op == "BiasAdd" and node.input[0] in convolutions]
    assert biased
    assert after.ops["Mul"] == 0
    sums = [node for node in after.graph_def.node if node.op in ("AddV2", "AddN")]
    assert not [name for node in sums for name in node.input if producers[name.split(":")[0]] == "Const"]


LEFT = {
    "a sum that others read": lambda b, x: tf.concat(
        [(total := x + tf.nn.conv2d(x, b.weight(3, 3, 4, 4), 1, "SAME")) + b.constant(4), total], -1
    ),
    "transposed convolution": lambda b, x: (
        tf.nn.conv2d_transpose(x, b.weight(3, 3, 6, 4), [tf.shape(x)[0], 14, 12, 6], 2, "SAME") * b.constant(6)
    ),
    "channels in another axis": lambda b, x: (
        tf.nn.conv2d(x, b.weight(3, 3, 4, 6), 1, "SAME") * tf.reshape(b.constant(6), [6, 1])
    ),
    "more channels than the convolution made": lambda b, x: (
        tf.nn.conv2d(x, b.weight(3, 3, 4, 1), 1, "SAME") * b.constant(6) + b.constant(6)
    ),
    "one axis more": lambda b, x: (
        tf.nn.conv1d(x[:, 0], b.weight(3, 4, 6), 1, "SAME") * tf.reshape(b.constant(6), [1, 1, 1, 6])
    ),
    "a kernel of the input": lambda _, x: (
        tf.nn.conv2d(x, tf.nn.tanh(x[0, :3, :3, :, tf.newaxis]), 1, "SAME") * 0.5 + 2.0
    ),
    "ReLU between": lambda b, x: tf.nn.relu(tf.nn.conv2d(x, b.weight(3, 3, 4, 6), 1, "SAME")) * b.constant(6),
    "the input's own scale": lambda b, x: tf.nn.conv2d(x, b.weight(3, 3, 4, 6), 1, "SAME") * tf.reduce_max(x),
}


@pytest.mark.parametrize("pattern", LEFT)
def test_what_only_looks_alike_is_left_alone(pattern):
    built = HandBuilt()
    with built.graph.as_default():
        result = LEFT[pattern](built, built.input(7, 6, 4))
    feeds = {"x": built.random.normal(size=(2, 7, 6, 4))}
    after, (before,), (value,) = built.both([result], feeds, to_the_end)
    assert after.counts == [0]
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kept", ["convolution", "bias", "squeezed"])
def test_what_others_read_keeps_its_value(kept):
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(9, 4)
        squeezed = tf.nn.conv1d(x, built.weight(3, 4, 6), 1, "SAME")
        biased = squeezed + built.constant(6)
        tensors = {"convolution": squeezed.op.inputs[0], "squeezed": squeezed, "bias": biased}
        result = biased * built.constant(6) + built.constant(6)
    feeds = {"x": built.random.normal(size=(2, 9, 4))}
    _, before, values = built.both([result, tensors[kept]], feeds, fold_weight_operations, to_the_end)
    for value, wanted in zip(values, before, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-13)


def test_a_tensor_that_others_feed_still_feeds_what_follows():
    built = HandBuilt()
    with built.graph.as_default():
        x = built.input(7, 6, 4)
        fed = tf.identity(tf.nn.conv2d(x, built.weight(3, 3, 4, 6), 1, "SAME") + built.constant(6), name="fed")
        result = fed * built.constant(6) + built.constant(6)
    after = built.rewritten([result, fed], to_the_end)
    feeds = {"x": np.zeros((1, 7, 6, 4)), "fed": built.random.normal(size=(1, 7, 6, 6))}
    (before,), (value,) = (one.run([result.name], feeds) for one in (built.plain(), after))
    np.testing.assert_allclose(value, before, rtol=0, atol=1e-13)


HALVES = [pytest.param(tf.float16, 2**-10, id="float16"), pytest.param(tf.bfloat16, 2**-7, id="bfloat16")]


def normed_in_float32(built, x, half, scale, offset):
    """Add a convolution in half precision under a norm in float32, as the mixed policies do."""
    kernel = tf.cast(built.weight(3, 3, 4, 6), half)
    biased = tf.nn.bias_add(tf.nn.conv2d(tf.cast(x, half), kernel, 1, "SAME"), tf.cast(built.constant(6), half))
    return tf.cast(tf.cast(biased, tf.float32) * scale + offset, half)


@pytest.mark.parametrize(("half", "epsilon"), HALVES)
def test_a_norm_in_float32_goes_into_a_half_kernel_rounded_once(half, epsilon):
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(7, 6, 4)
        scale, offset = built.constant(6), built.constant(6)
        result = tf.cast(tf.nn.relu(normed_in_float32(built, x, half, scale, offset)), tf.float32)
    feeds = {"x": built.random.normal(size=(2, 7, 6, 4)).astype(np.float32)}
    after, (before,), (value,) = built.both([result], feeds, fold_weight_operations, to_the_end)
    assert after.ops["Cast"] == 2
    assert not {"Mul", "AddV2"} & after.ops.keys()
    np.testing.assert_allclose(value, before, rtol=0, atol=2 * epsilon * before.max())
    (name,) = after.read()
    assert after.weights[name].dtype == half.as_numpy_dtype


def test_a_kernel_is_scaled_before_it_is_rounded():
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(7, 6, 4)
        scale = tf.constant(np.linspace(0.7, 1.3, 6, dtype=np.float32))
        result = normed_in_float32(built, x, tf.bfloat16, scale, tf.zeros([6]) + 0.5)
    after = built.rewritten([result], fold_weight_operations, to_the_end)
    (name,) = after.read()
    wanted = (built.weights["weight_0"] * np.linspace(0.7, 1.3, 6, dtype=np.float32)).astype(after.weights[name].dtype)
    np.testing.assert_array_equal(after.weights[name].astype(np.float32), wanted.astype(np.float32))


@pytest.mark.parametrize("scale", [1e-7, 3e5], ids=["too small", "too large"])
def test_a_scale_that_float16_kernels_cannot_hold_stays_where_it_is(scale):
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(7, 6, 4)
        kernel = tf.cast(built.weight(3, 3, 4, 6), tf.float16)
        convolved = tf.nn.conv2d(tf.cast(x, tf.float16), kernel, 1, "SAME")
        result = tf.cast(convolved, tf.float32) * scale
    feeds = {"x": built.random.normal(size=(2, 7, 6, 4)).astype(np.float32)}
    after, (before,), (value,) = built.both([result], feeds, fold_weight_operations, to_the_end)
    assert after.counts == [1, 0]
    np.testing.assert_array_equal(value, before)


def test_a_sum_that_is_read_in_float32_is_not_rounded_to_half():
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(7, 6, 4)
        kernel = tf.cast(built.weight(3, 3, 4, 6), tf.bfloat16)
        convolved = tf.nn.conv2d(tf.cast(x, tf.bfloat16), kernel, 1, "SAME")
        result = tf.nn.relu(tf.cast(convolved, tf.float32) + built.constant(6))
    feeds = {"x": built.random.normal(size=(2, 7, 6, 4)).astype(np.float32)}
    after, (before,), (value,) = built.both([result], feeds, fold_weight_operations, to_the_end)
    assert after.counts == [1, 0]
    np.testing.assert_array_equal(value, before)
