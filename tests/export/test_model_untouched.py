"""The user's model is the same object afterwards."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifiers import FAMILIES, INPUT_SHAPE, functional, photographs
from gradcam_export import ExportOptions, export_classifier
from gradcam_export.graph.trace import classifier_of, trace
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.keras_model.tap import tap
from lean import LEAN


@pytest.mark.parametrize("family", ["nested", "subclassed"])
def test_weights_calls_and_answers_are_as_before(family, tmp_path):
    model = FAMILIES[family].model()
    images = photographs(2).astype(np.float32)
    layers = list(model._flatten_layers())
    weights, answers = model.get_weights(), model.predict(images, verbose=0)
    attributes = [set(vars(layer)) for layer in layers]
    calls = [layer.call for layer in layers]
    model.trainable = False
    export_classifier(model, tmp_path / "m", image_size=INPUT_SHAPE[:2], **LEAN)
    assert [set(vars(layer)) for layer in layers] == attributes
    assert [layer.call for layer in layers] == calls
    assert not model.trainable
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(model.predict(images, verbose=0), answers)
    assert not tf.config.functions_run_eagerly()


def test_a_failing_trace_leaves_the_model_and_tensorflow_as_they_were():
    model = functional()
    layer = model.get_layer("stem")

    def broken(images):
        raise RuntimeError("preprocessing failed")

    classifier = classifier_of(load_classifier(model), ExportOptions(preprocessing=broken))
    with pytest.raises(RuntimeError, match="preprocessing failed"):
        trace(classifier)
    assert "call" not in vars(layer)
    assert not tf.config.functions_run_eagerly()


def test_a_call_that_the_user_replaced_is_put_back():
    model = functional()
    layer = model.get_layer("features")
    own = layer.call
    object.__setattr__(layer, "call", own)
    with tap(model) as outputs:
        model(np.zeros((1, *INPUT_SHAPE), np.float32))
    assert vars(layer)["call"] is own
    assert "features" in [output.path for output in outputs]


def test_the_first_record_of_a_tensor_is_the_innermost_layer():
    model = FAMILIES["twice_nested"].model()
    with tap(model) as outputs:
        model(np.zeros((1, *INPUT_SHAPE), np.float32))
    last = next(output for output in outputs if output.path == "encoder")
    same = [output.path for output in outputs if output.tensor is last.tensor]
    assert same == ["encoder/base/features", "encoder/base", "encoder"]


def test_training_mode_is_never_traced(tmp_path):
    images = keras.Input(INPUT_SHAPE)
    x = keras.layers.Conv2D(8, 3, activation="relu")(images / 255.0)
    x = keras.layers.GaussianNoise(0.9)(keras.layers.Dropout(0.9)(x))
    model = keras.Model(images, keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalMaxPooling2D()(x)))
    published = export_classifier(model, tmp_path / "m", **LEAN)
    operations = set(published.manifest.ops)
    assert not {operation for operation in operations if "Random" in operation}
