"""Folding changes no value, and leaves nothing to multiply after a convolution."""

from collections import Counter, defaultdict

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifiers import FAMILIES, INPUT_SHAPE, functional, photographs
from conditioned import application, conditioned
from gradcam_export import OptionError
from gradcam_export.graph import fold as folding
from gradcam_export.graph.explain import explain, make_choice
from gradcam_export.graph.trace import classifier_of, trace
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.options import ExportOptions
from keras import layers


def folded_graph(model, image_size=None, **options):
    asked = ExportOptions(preprocessing="none", **options)
    traced = trace(classifier_of(load_classifier(model, image_size=image_size), asked))
    return folding.fold(explain(traced, make_choice(traced.forward, asked)), asked.weights)


def run(folded, images):
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(folded.graph_def, name="")
    feeds = {f"{name}:0": value for name, value in folded.weights.items()}
    feeds |= {folded.inputs["images"]: images, folded.inputs["class_index"]: np.full(len(images), -1)}
    with tf.compat.v1.Session(graph=graph) as session:
        answer = session.run(folded.outputs, feeds)
    return answer | {name: answer[f"{name}/gradcam"] for name in ("heatmap", "heatmap_peak")}


def normed(*convolution):
    """One kind of convolution under batch normalisation, in a classifier."""
    model = keras.Sequential(
        [
            keras.Input(INPUT_SHAPE),
            *convolution,
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    return conditioned(model, photographs(8).astype(np.float32))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "convolution",
    [
        lambda bias: [layers.Conv2D(32, 3, use_bias=bias)],
        lambda bias: [layers.Conv2D(48, 3, padding="same", use_bias=bias), layers.BatchNormalization(scale=False)],
        lambda bias: [layers.DepthwiseConv2D(3, depth_multiplier=3, use_bias=bias)],
        lambda bias: [layers.SeparableConv2D(40, 3, use_bias=bias)],
        lambda bias: [layers.Conv2D(20, 3, groups=1, use_bias=bias), layers.Rescaling(0.25)],
    ],
    ids=["conv", "two norms", "depthwise", "separable", "scalar"],
)
def test_scales_go_into_the_kernel_and_additions_into_one_biasadd(convolution, bias):
    model = normed(*convolution(bias))
    folded = folded_graph(model)
    images = photographs(3)
    answer = run(folded, images)
    np.testing.assert_allclose(answer["predictions"], model(images.astype(np.float32)), rtol=0, atol=2e-6)
    operations = Counter(node.op for node in folded.graph_def.node)
    producers = {node.name: node.op for node in folded.graph_def.node}
    after = [
        node.op
        for node in folded.graph_def.node
        for tensor in node.input
        if producers.get(tensor.split(":")[0]) in ("Conv2D", "DepthwiseConv2dNative")
    ]
    assert set(after) <= {"BiasAdd", "Conv2D"}
    assert operations["BiasAdd"] <= 2


def test_a_kernel_that_the_gradient_reads_is_not_changed_under_it():
    model = FAMILIES["functional"].model()
    early, late = folded_graph(model, layer="stem_relu"), folded_graph(model)
    images = photographs(2)
    first, second = run(early, images), run(late, images)
    np.testing.assert_allclose(first["predictions"], second["predictions"], rtol=0, atol=1e-6)
    assert any("Backprop" in operation for operation in early.ops)
    assert not any("Backprop" in operation for operation in late.ops)


def test_the_gradient_reads_one_column_of_the_dense_kernel_and_not_all_of_it():
    folded = folded_graph(FAMILIES["functional"].model())
    products = [node for node in folded.graph_def.node if node.op == "MatMul"]
    assert [product.attr["transpose_b"].b for product in products] == [False]
    assert "OneHot" not in folded.ops


def test_a_shared_convolution_keeps_its_own_scale_at_each_use():
    images = keras.Input(INPUT_SHAPE)
    shared = layers.Conv2D(3, 3, padding="same")
    x = layers.ReLU()(layers.BatchNormalization()(shared(images)))
    x = layers.ReLU()(layers.BatchNormalization()(shared(x)))
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    pictures = photographs(4)
    conditioned(model, pictures.astype(np.float32))
    np.testing.assert_allclose(
        run(folded_graph(model), pictures)["predictions"], model(pictures.astype(np.float32)), rtol=1e-4, atol=1e-4
    )


def test_kernels_never_lie_in_the_graph_while_it_is_optimised(monkeypatch):
    sizes = []

    def weighed(graph_def, *arguments):
        sizes.append(graph_def.ByteSize())
        return optimize(graph_def, *arguments)

    optimize = folding.optimize
    monkeypatch.setattr(folding, "optimize", weighed)
    model = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    folded = folded_graph(model)
    weights = sum(value.nbytes for value in folded.weights.values())
    assert max(sizes) < weights / 8
    assert folded.nodes[1] < folded.nodes[0] / 2


@pytest.mark.parametrize("network", ["MobileNetV2", "EfficientNetB0"])
def test_nothing_but_its_bias_lies_between_a_convolution_and_what_it_fuses_with(network):
    model, _ = application(network, input_shape=(64, 64, 3))
    folded = folded_graph(model)
    readers = defaultdict(set)
    for node in folded.graph_def.node:
        for tensor in node.input:
            readers[tensor.split(":")[0]].add(node.op)
    convolutions = [node.name for node in folded.graph_def.node if "Conv" in node.op and "Backprop" not in node.op]
    assert len(convolutions) > 50
    assert [name for name in convolutions if readers[name] != {"BiasAdd"}] == []
    operations = Counter(node.op for node in folded.graph_def.node)
    assert (operations["Pad"], operations["AddN"]) == (0, 0)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    np.testing.assert_allclose(run(folded, images)["predictions"], model(images.astype(np.float32)), rtol=0, atol=1e-5)


def test_a_raw_variable_is_a_weight_like_any_other():
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = layers.Conv2D(6, 3)
            self.raw = tf.Variable(tf.fill([64, 64, 3], 0.5))
            self.small = tf.Variable([2.0])
            self.scores = layers.Dense(3)

        def call(self, x):
            return self.scores(tf.reduce_mean(self.convolution(x * self.raw) * self.small, [1, 2]))

    model = Scaled()
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    wanted = model(images.astype(np.float32))
    folded = folded_graph(model, image_size=(64, 64))
    np.testing.assert_allclose(run(folded, images)["predictions"], wanted, rtol=1e-4)


def test_weights_too_large_for_a_graph_are_refused_as_constants(monkeypatch):
    monkeypatch.setattr(folding, "GRAPH_LIMIT", 10_000)
    with pytest.raises(OptionError, match=r"weights='constants' would make a graph of .*Use weights='variables'"):
        folded_graph(functional(), weights="constants")


def test_the_same_steps_give_the_same_graph():
    model = FAMILIES["nested"].model()
    first, second = (folded_graph(model).graph_def.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_an_image_that_raises_nothing_has_a_map_of_zeros():
    model = FAMILIES["functional"].model()
    kernel, bias = model.get_layer("scores").get_weights()
    model.get_layer("scores").set_weights([-np.abs(kernel), bias])
    answer = run(folded_graph(model), photographs(2))
    assert answer["heatmap"].tolist() == np.zeros((2, 16, 20)).tolist()
    assert answer["heatmap_peak"].tolist() == [0.0, 0.0]


def test_a_saturated_softmax_does_not_flatten_the_map():
    model = FAMILIES["functional"].model()
    images = photographs(2)
    before = run(folded_graph(model), images)
    kernel, bias = model.get_layer("scores").get_weights()
    bias[before["class_index"][0]] += 50
    model.get_layer("scores").set_weights([kernel, bias])
    after = run(folded_graph(model), images)
    assert after["score"][0] == pytest.approx(1.0)
    np.testing.assert_allclose(after["heatmap"][0], before["heatmap"][0], rtol=0, atol=1e-5)


def test_with_average_pooling_gradcam_is_cam():
    model = FAMILIES["functional"].model()
    images = photographs(3)
    answer = run(folded_graph(model), images)
    features = keras.Model(model.input, model.get_layer("features").output)(images.astype(np.float32))
    kernel = model.get_layer("scores").get_weights()[0].astype(np.float64)
    cam = np.einsum("bhwk,bk->bhw", features, kernel[:, answer["class_index"]].T) / (16 * 20)
    raised = np.maximum(cam, 0)
    np.testing.assert_allclose(answer["heatmap_peak"], raised.max(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(answer["heatmap"], raised / raised.max(axis=(1, 2), keepdims=True), rtol=0, atol=1e-4)
