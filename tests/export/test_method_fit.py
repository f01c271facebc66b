"""Which methods a classifier has: CAM needs its own kind of head, Score-CAM an input that can be masked."""

import keras
import numpy as np
import pytest
from assembled import served
from classifiers import INPUT_SHAPE, photographs
from gradcam_export import ExplanationError, ExportOptions
from gradcam_export.graph.explain import make_choice
from gradcam_export.graph.trace import classifier_of, trace
from gradcam_export.keras_model.load import load_classifier
from keras import layers


def choice_of(model, **options):
    asked = ExportOptions(**options)
    return make_choice(trace(classifier_of(load_classifier(model), asked)).forward, asked)


def classifier(*tail):
    return keras.Sequential([keras.Input(INPUT_SHAPE), layers.Conv2D(6, 3, activation="relu", name="conv"), *tail])


POOL = layers.GlobalAveragePooling2D


@pytest.mark.parametrize(
    "tail",
    [
        lambda: [POOL(), layers.Dense(3, activation="softmax")],
        lambda: [POOL(), layers.Dropout(0.5), layers.Dense(3)],
        lambda: [POOL(), layers.Dense(1, activation="sigmoid", use_bias=False)],
        lambda: [POOL(keepdims=True), layers.Conv2D(3, 1), layers.Flatten(), layers.Softmax()],
    ],
)
def test_cam_is_for_global_average_pooling_and_one_linear_layer(tail):
    assert choice_of(classifier(*tail()), method="cam").methods == ("cam",)


@pytest.mark.parametrize(
    ("tail", "flaw"),
    [
        (lambda: [layers.GlobalMaxPooling2D(), layers.Dense(3)], r"Max \(.*\) stands between the feature map and"),
        (lambda: [POOL(), layers.Dense(4, activation="relu"), layers.Dense(3)], r"Relu \(.*\) stands between"),
        (lambda: [POOL(), layers.Dense(4), layers.Dense(3)], "2 linear layers follow the pooling"),
        (lambda: [layers.Flatten(), layers.Dense(3)], "no global average pooling comes before the linear layer"),
        (lambda: [POOL()], "0 linear layers follow the pooling"),
        (
            lambda: [layers.Lambda(lambda x: keras.ops.mean(x, axis=2)), layers.Flatten(), layers.Dense(3)],
            r"Mean \(.*\) averages over some positions alone",
        ),
    ],
)
def test_cam_is_refused_with_the_reason(tail, flaw):
    message = rf"Method 'cam' exists only where .* follow 'conv', but {flaw}.*Use --method gradcam, which is its gen"
    with pytest.raises(ExplanationError, match=message):
        choice_of(classifier(*tail()), method=("gradcam", "cam"))


def words():
    tokens = keras.Input((20,), dtype="int32")
    x = layers.Conv1D(6, 3, activation="relu", name="conv")(layers.Embedding(50, 4)(tokens))
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)), name="words")


@pytest.mark.parametrize("method", ["scorecam", "faster-scorecam"])
def test_tokens_cannot_be_masked_by_degrees(method):
    message = f"Method '{method}' masks the input by degrees, but 'words' takes int32. Use a method of gradients"
    with pytest.raises(ExplanationError, match=message):
        choice_of(words(), method=method)


def test_channels_of_tokens_can_be_left_out(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 50, (3, 20), np.int32)
    model = words()
    answer = served(model, tmp_path, method="ablationcam").run("explain", inputs=tokens, class_index=[0, 1, 2])
    features = model.get_layer("conv")(model.layers[1](tokens)).numpy().astype(float)
    kernel, bias = model.layers[-1].get_weights()
    scores = features.mean(axis=1) @ kernel + bias
    for row, chosen in enumerate((0, 1, 2)):
        weights = kernel[:, chosen] * features[row].mean(axis=0) / scores[row, chosen]
        wanted = np.maximum(features[row] @ weights, 0)
        np.testing.assert_allclose(answer["heatmap"][row], wanted / (wanted.max() or 1), rtol=0, atol=1e-4)


def test_the_methods_of_one_model_may_ask_different_things(tmp_path):
    version = served(classifier(POOL(), layers.Dense(3)), tmp_path, method=("eigencam", "cam", "ablationcam"))
    assert {"explain", "explain_cam", "explain_ablationcam"} <= set(version.loaded.signatures)
    by_class = version.run("explain", images=photographs(1), class_index=[0])["heatmap"]
    np.testing.assert_array_equal(by_class, version.run("explain", images=photographs(1), class_index=[2])["heatmap"])
