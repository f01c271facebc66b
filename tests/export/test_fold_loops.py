"""Loops pass through folding unharmed: their bodies are functions, which take weights as inputs."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.fold import fold
from gradcam_export.graph.trace import inlined
from keras import layers

RECURRENT = {
    "LSTM": lambda: layers.LSTM(64, return_sequences=False),
    "GRU": lambda: layers.GRU(64),
    "GRU, reset before": lambda: layers.GRU(64, reset_after=False, return_sequences=False),
    "bidirectional": lambda: layers.Bidirectional(layers.LSTM(48)),
    "two LSTMs": lambda: keras.Sequential([layers.LSTM(64, return_sequences=True), layers.LSTM(64)]),
    "masked": lambda: keras.Sequential([layers.Masking(), layers.LSTM(64)]),
}


def explained(recurrent):
    """Trace features, a recurrent layer and a head, with the gradient's mean; weights are left out."""
    keras.utils.set_random_seed(0)
    stem = keras.Sequential([keras.Input((8, 6, 3)), layers.Conv2D(12, 3, use_bias=False), layers.BatchNormalization()])
    head = keras.Sequential([keras.Input((6, 48)), recurrent, layers.Dense(5)])
    rows = layers.Reshape((6, 48))
    variables = [(variable, variable.value.numpy()) for variable in (*stem.variables, *head.variables)]
    weights, tensors = {}, {}

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 6, 3], tf.float32, name="images")], autograph=False)
    def trace(images):
        bindings = []
        for index, (variable, value) in enumerate(variables):
            placeholder = tf.compat.v1.placeholder(value.dtype, value.shape, name=f"weight_{index}")
            weights[placeholder.op.name] = value
            bindings.append((variable, placeholder))
        with keras.StatelessScope(state_mapping=bindings):
            features = tf.nn.relu(stem(images, training=False))
            scores = head(rows(features), training=False)
        (gradient,) = tf.gradients(scores[:, 2], [features])
        tensors.update(images=images, scores=tf.identity(scores), alpha=tf.reduce_mean(gradient, [1, 2]))
        return scores

    rows.build((None, 6, 4, 12))
    with inlined():
        graph = trace.get_concrete_function().graph
    outputs = {name: tensors[name] for name in ("scores", "alpha")}
    traced = SimpleNamespace(graph=graph, weights=weights)
    return SimpleNamespace(traced=traced, inputs={"images": tensors["images"]}, outputs=outputs)


def run(graph_def, weights, outputs, images):
    """Run a graph of the library's functions in a Session."""
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    present = {node.name for node in graph_def.node}
    feeds = {f"{name}:0": value for name, value in weights.items() if name in present} | {"images:0": images}
    with tf.compat.v1.Session(graph=graph) as session:
        return session.run(outputs, feeds)


@pytest.mark.parametrize(("name", "storage"), [*((name, "variables") for name in RECURRENT), ("LSTM", "constants")])
def test_recurrent_layers_and_their_gradients_keep_their_values(name, storage):
    classifier = explained(RECURRENT[name]())
    folded = fold(classifier, storage)
    images = np.random.default_rng(0).normal(size=(3, 8, 6, 3)).astype(np.float32)
    unfolded = classifier.traced.graph.as_graph_def()
    wanted = run(unfolded, classifier.traced.weights, {n: t.name for n, t in classifier.outputs.items()}, images)
    values = run(folded.graph_def, folded.weights, folded.outputs, images)
    np.testing.assert_allclose(values["scores"], wanted["scores"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(values["alpha"], wanted["alpha"], rtol=0, atol=1e-6)
    assert np.abs(values["alpha"]).max() > 1e-5
    assert "StatelessWhile" in folded.ops
    assert not {"Enter", "Switch"} & set(folded.ops)
    assert folded.graph_def.library.function
    large = [value for value in classifier.traced.weights.values() if value.size > 8192]
    assert len(large) >= 2
    if storage == "variables":
        assert sum(value.size > 8192 for value in folded.weights.values()) == len(large)
