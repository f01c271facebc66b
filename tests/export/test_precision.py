"""Layers compute in half precision, what rounding would hurt does not, and the values are those of rounded layers."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export import OptionError
from gradcam_export.graph.folding.precision import compute_in_half
from hand_built import HandBuilt

HALVES = [
    pytest.param("bfloat16", ml_dtypes.bfloat16, 2**-8, id="bfloat16"),
    pytest.param("float16", np.float16, 2**-11, id="float16"),
]
"""Type, and the largest relative error of rounding to it."""


def halved(built, outputs, precision="bfloat16"):
    """Return the graph in half precision; the first of `outputs` are the predictions."""
    return built.rewritten(outputs, lambda graph: compute_in_half(graph, precision, outputs[0].name))


def types(rewritten) -> dict[str, str]:
    """Return the element type of each operation that has one, by its name."""
    return {
        node.name: tf.as_dtype(node.attr["T"].type).name for node in rewritten.graph_def.node if node.attr["T"].type
    }


def perceptron():
    """Return a graph of two layers, the second the head, with the hidden units and the predictions."""
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(40)
        hidden = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, built.weight(40, 30), name="inner"), built.constant(30)))
        scores = tf.matmul(hidden, built.weight(30, 5), name="head")
        return built, hidden, tf.nn.softmax(scores, name="predictions")


@pytest.mark.parametrize(("precision", "numpy_type", "rounding"), HALVES)
def test_a_layer_multiplies_rounded_values_and_the_head_does_not_round_again(precision, numpy_type, rounding):
    built, hidden, predictions = perceptron()
    after = halved(built, [predictions, hidden], precision)
    x = built.random.normal(size=(6, 40)).astype(np.float32)
    found, features = after.run([predictions.name, hidden.name], {"x": x})
    rounded = [value.astype(numpy_type).astype(np.float64) for value in (x, *built.weights.values())]
    bias = next(
        tf.make_ndarray(node.attr["value"].tensor) for node in built.graph.as_graph_def().node if node.op == "Const"
    )
    exact = np.maximum(rounded[0] @ rounded[1] + bias.astype(numpy_type).astype(np.float64), 0)
    size = np.abs(rounded[0]) @ np.abs(rounded[1]) + 1.5
    assert features.dtype == numpy_type
    # Of the product, of the sum, and of the result.
    assert (np.abs(features.astype(np.float64) - exact) <= 3 * rounding * size).all()
    scores = features.astype(np.float64) @ rounded[2]
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=2e-5)
    assert (types(after)["inner"], types(after)["head"], types(after)["predictions"]) == (
        precision,
        "float32",
        "float32",
    )


def test_all_float32_weights_are_stored_in_half_and_other_types_as_they_are():
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(4)
        offset = tf.gather(built.weight(20, dtype="int32"), tf.cast(x[:, 0], tf.int32))
        inner = tf.matmul(tf.nn.relu(tf.matmul(x, built.weight(4, 30))), built.weight(30, 5))
        predictions = tf.identity(inner + tf.cast(offset, tf.float32)[:, tf.newaxis], name="predictions")
    after = halved(built, [predictions])
    assert sorted(str(value.dtype) for value in after.weights.values()) == ["bfloat16", "bfloat16", "int32"]
    assert after.counts == [1]


def test_norms_and_attention_s_softmax_stay_float32():
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(6, 8)
        embedded = tf.reshape(tf.matmul(tf.reshape(x, [-1, 8]), built.weight(8, 8)), [-1, 6, 8])
        attention = tf.nn.softmax(tf.matmul(embedded, embedded, transpose_b=True, name="products"), name="attention")
        mixed = tf.matmul(attention, embedded)
        centre = tf.reduce_mean(mixed, -1, keepdims=True, name="centre")
        spread = tf.reduce_mean(tf.math.squared_difference(mixed, centre, name="squares"), -1, keepdims=True)
        normed = (mixed - centre) * tf.math.rsqrt(spread + 1e-6, name="rsqrt")
        inner = tf.nn.relu(tf.matmul(tf.reshape(normed, [-1, 8]), built.weight(8, 8), name="inner"))
        pooled = tf.reduce_mean(tf.reshape(inner, [-1, 6, 8]), 1, name="pooled")
        predictions = tf.nn.softmax(tf.matmul(pooled, built.weight(8, 3), name="head"), name="predictions")
    feeds = {"x": built.random.normal(size=(5, 6, 8))}
    after, (before,), (value,) = built.both(
        [predictions], feeds, lambda graph: compute_in_half(graph, "bfloat16", predictions.name)
    )
    found = types(after)
    assert (found["products"], found["inner"]) == ("bfloat16", "bfloat16")
    for name in ("attention", "centre", "squares", "rsqrt", "pooled", "head", "predictions"):
        assert found[name] == "float32", name
    np.testing.assert_allclose(value, before, atol=0.02)
    assert np.abs(value - before).max() > 1e-5


def test_rows_of_a_weight_are_looked_up_before_they_are_cast():
    built = HandBuilt("float32")
    with built.graph.as_default():
        tokens = tf.compat.v1.placeholder(tf.int32, [None, 7], name="x")
        embedded = tf.gather(built.weight(1000, 16), tokens, name="embedded")
        inner = tf.nn.relu(tf.matmul(tf.reduce_mean(embedded, 1), built.weight(16, 9)))
        predictions = tf.matmul(inner, built.weight(9, 3), name="predictions")
    after = halved(built, [predictions])
    (lookup,) = [node for node in after.graph_def.node if node.op == "GatherV2"]
    assert tf.as_dtype(lookup.attr["Tparams"].type) == tf.bfloat16
    assert lookup.input[0] in after.weights
    ids = built.random.integers(0, 1000, (4, 7))
    np.testing.assert_allclose(
        after.run([predictions.name], {"x": ids})[0], built.plain().run([predictions.name], {"x": ids})[0], atol=0.05
    )


def test_the_map_s_own_products_stay_float32():
    """Eigen-CAM multiplies features with features, and others weigh them: neither leads to the predictions."""
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(9, 4)
        features = tf.nn.relu(tf.reshape(tf.matmul(tf.reshape(x, [-1, 4]), built.weight(4, 6)), [-1, 9, 6]))
        predictions = tf.matmul(tf.reduce_mean(features, 1), built.weight(6, 3), name="predictions")
        gram = tf.matmul(features, features, transpose_a=True, name="gram")
        weighted = tf.multiply(features, tf.constant(0.5), name="weighted")
    feeds = {"x": built.random.normal(size=(2, 9, 4))}
    after = halved(built, [predictions, gram, weighted])
    assert (types(after)["gram"], types(after)["weighted"]) == ("float32", "float32")
    found, products, weighed = after.run([predictions.name, gram.name, weighted.name], feeds)
    assert (found.dtype, products.dtype, weighed.dtype) == (np.float32, np.float32, np.float32)
    halves = weighed.astype(np.float64) * 2
    np.testing.assert_allclose(products, np.einsum("bpk,bpl->bkl", halves, halves), rtol=1e-6)


def test_gradients_through_layers_are_computed_as_the_layers_are():
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(8, 8, 2)
        features = tf.nn.conv2d(x, built.weight(3, 3, 2, 4), 1, "SAME")
        later = tf.nn.relu(tf.nn.conv2d(tf.nn.relu(features), built.weight(3, 3, 4, 5), 2, "SAME"))
        predictions = tf.matmul(tf.reduce_mean(later, [1, 2]), built.weight(5, 3), name="predictions")
        (gradients,) = tf.gradients(predictions[:, 1], [features])
        weights = tf.reduce_mean(gradients, [1, 2], name="weights")
    feeds = {"x": built.random.normal(size=(2, 8, 8, 2))}
    after, (_, before), (_, value) = built.both(
        [predictions, weights], feeds, lambda graph: compute_in_half(graph, "bfloat16", predictions.name)
    )
    found = {node.op: tf.as_dtype(node.attr["T"].type).name for node in after.graph_def.node if node.attr["T"].type}
    assert (found["Conv2DBackpropInput"], found["Mean"]) == ("bfloat16", "float32")
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, before, atol=0.03 * np.abs(before).max())


def test_one_cast_serves_all_readers_and_measuring_a_shape_needs_none():
    built = HandBuilt("float32")
    with built.graph.as_default():
        x = built.input(40)
        first = tf.matmul(x, built.weight(40, 30))
        second = tf.matmul(x, built.weight(40, 30))
        both = tf.nn.relu(first + second)
        rows = tf.shape(both, name="rows")[0]
        flat = tf.reshape(both, tf.stack([rows, 30]))
        predictions = tf.matmul(flat, built.weight(30, 5), name="predictions")
    after = halved(built, [predictions])
    casts = [node.input[0] for node in after.graph_def.node if node.op == "Cast"]
    # The input; the activations and the weights of the head.
    assert len(casts) == len(set(casts)) == 3
    assert after.counts == [2]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda built, x: tf.matmul(x, built.weight(40, 5)), "this one has none"),
        (
            lambda built, x: tf.matmul(
                tf.cast(tf.matmul(tf.cast(x, tf.float16), built.weight(40, 30, dtype="float16")), tf.float32),
                built.weight(30, 5),
            ),
            "this one has layers in float16",
        ),
    ],
    ids=["linear", "half already"],
)
def test_a_classifier_without_a_float32_layer_before_the_last_is_refused(build, message):
    built = HandBuilt("float32")
    with built.graph.as_default():
        predictions = tf.identity(build(built, built.input(40)), name="predictions")
    with pytest.raises(OptionError, match=rf"precision='bfloat16' is for .* in float32 before the last; {message}"):
        halved(built, [predictions])
