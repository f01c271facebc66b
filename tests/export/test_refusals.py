"""What cannot be explained is refused in one line: the model, what was looked for, what there is, what to do.

Nothing is left on disk.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifiers import INPUT_SHAPE
from gradcam_export import ExplanationError, LayerNotFound, NoFeatureMap, UnsupportedHead, export_classifier
from keras import layers
from lean import LEAN


def refusal(kind, model, directory, **options):
    """Return the message that exporting `model` is refused with."""
    with pytest.raises(kind) as caught:
        export_classifier(model, directory / "model", **options)
    assert not (directory / "model").exists()
    message = str(caught.value)
    assert "\n" not in message
    return message


def convolutions(images, *names):
    x = images
    for name in names:
        x = layers.Conv2D(4, 3, padding="same", activation="relu", name=name)(x)
    return x


def classifier(end, *names, name="flowers"):
    images = keras.Input(INPUT_SHAPE)
    return keras.Model(images, end(convolutions(images, *names)), name=name)


def pooled(x):
    return layers.Dense(3, name="scores")(layers.GlobalAveragePooling2D(name="pool")(x))


def says(message, *parts):
    """Assert that `message` holds every one of `parts`."""
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in: {message}"


def test_an_mlp_has_no_positions(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(4, activation="relu"), layers.Dense(2)], name="mlp"
    )
    message = refusal(NoFeatureMap, model, tmp_path)
    says(message, "'mlp'", "feature map", "No layer of this model returns one", "needs convolutional features")


def test_a_classifier_of_rows_of_a_table_has_no_positions(tmp_path):
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(8, activation="relu"), layers.Dense(2, activation="softmax")], name="table"
    )
    says(refusal(NoFeatureMap, model, tmp_path), "'table'", "feature map", "needs convolutional features")


@pytest.fixture
def finished_graph(tmp_path):
    """A SavedModel as a layer: what Keras 3 offers for the SavedModels of others."""
    inner = classifier(pooled, "conv", name="inner")
    inner.export(tmp_path / "saved", verbose=False)
    return keras.layers.TFSMLayer(str(tmp_path / "saved"), call_endpoint="serve", name="finished")


def test_a_finished_graph_cannot_be_looked_into(finished_graph, tmp_path):
    images = keras.Input(INPUT_SHAPE)
    model = keras.Model(images, layers.Softmax()(finished_graph(images)), name="wrapped")
    message = refusal(NoFeatureMap, model, tmp_path)
    says(message, "'wrapped'", "TFSMLayer", "cannot be looked into", "export the Keras model it was saved from")


def test_a_finished_graph_before_own_layers_is_refused_too(tmp_path):
    inner = keras.Input(INPUT_SHAPE)
    keras.Model(inner, convolutions(inner, "conv")).export(tmp_path / "saved", verbose=False)
    images = keras.Input(INPUT_SHAPE)
    features = layers.TFSMLayer(str(tmp_path / "saved"), call_endpoint="serve", name="finished")(images)
    model = keras.Model(images, pooled(convolutions(features, "own")), name="wrapped")
    message = refusal(ExplanationError, model, tmp_path)
    says(message, "'wrapped'", "TFSMLayer", "cannot be looked into", "export the Keras model it was saved from")


def test_a_layer_that_does_not_exist(tmp_path):
    model = classifier(pooled, "first_conv", "second_conv")
    message = refusal(LayerNotFound, model, tmp_path, layer="secnd_conv")
    says(message, "'flowers'", "no layer named 'secnd_conv'", "Close names: second_conv, first_conv")


def test_a_layer_of_no_similar_name(tmp_path):
    message = refusal(LayerNotFound, classifier(pooled, "first", "second"), tmp_path, layer="zzzz")
    says(message, "'flowers'", "no layer named 'zzzz'", "Layers that return one: first, second")


def test_a_layer_with_no_path_to_the_class_score(tmp_path):
    images = keras.Input(INPUT_SHAPE)
    seen = convolutions(images, "seen")
    aside = layers.Dense(2, name="aside")(layers.GlobalAveragePooling2D()(convolutions(seen, "unseen")))
    model = keras.Model(images, {"main": pooled(seen), "aside": aside}, name="flowers")
    message = refusal(ExplanationError, model, tmp_path, layer="unseen", output="main")
    says(message, "'flowers'", "'unseen'", "no path", "seen")


class Stop(layers.Layer):
    def call(self, x):
        return keras.ops.stop_gradient(x)


class Binary(layers.Layer):
    def call(self, x):
        return keras.ops.cast(x > 0, "float32")


class Rounded(layers.Layer):
    def call(self, x):
        return keras.ops.cast(keras.ops.cast(x, "int32"), "float32")


@pytest.mark.parametrize("barrier", [Stop, Binary, Rounded])
def test_a_layer_below_an_operation_without_gradient(barrier, tmp_path):
    images = keras.Input(INPUT_SHAPE)
    x = barrier(name="barrier")(convolutions(images, "below"))
    model = keras.Model(images, pooled(convolutions(x, "above")), name="flowers")
    message = refusal(ExplanationError, model, tmp_path, layer="below")
    says(message, "'flowers'", "'below'", "no gradient", "above")


def test_an_averaged_ensemble_has_no_logits(tmp_path):
    def ensemble(x):
        x = layers.GlobalAveragePooling2D()(x)
        return layers.Average(name="mean")([layers.Dense(3, activation="softmax")(x) for _ in range(2)])

    message = refusal(UnsupportedHead, classifier(ensemble, "conv"), tmp_path)
    says(message, "'flowers'", "softmax over the 3 classes", "comes after it", "--score probability")


def test_a_temperature_after_the_softmax_has_no_logits(tmp_path):
    def tempered(x):
        x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
        x = keras.ops.power(x, 0.5)
        return x / keras.ops.sum(x, axis=-1, keepdims=True)

    message = refusal(UnsupportedHead, classifier(tempered, "conv"), tmp_path)
    says(message, "'flowers'", "softmax over the 3 classes", "comes after it", "--score probability")


def test_an_ensemble_of_sigmoids_has_no_logits(tmp_path):
    def ensemble(x):
        x = layers.GlobalAveragePooling2D()(x)
        return layers.Average(name="mean")([layers.Dense(1, activation="sigmoid")(x) for _ in range(2)])

    message = refusal(UnsupportedHead, classifier(ensemble, "conv"), tmp_path)
    says(message, "'flowers'", "sigmoid", "comes after it", "--score probability")


def test_the_probability_of_an_ensemble_is_explained_on_request(tmp_path):
    def ensemble(x):
        x = layers.GlobalAveragePooling2D()(x)
        return layers.Average(name="mean")([layers.Dense(3, activation="softmax")(x) for _ in range(2)])

    published = export_classifier(classifier(ensemble, "conv"), tmp_path / "model", score="probability", **LEAN)
    assert published.manifest.explanation["score"] == "probability"


def test_a_layer_called_several_times(tmp_path):
    images = keras.Input(INPUT_SHAPE)
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    model = keras.Model(images, pooled(layers.ReLU(name="last")(shared(layers.ReLU(name="first")(shared(images))))))
    message = refusal(ExplanationError, model, tmp_path, layer="shared")
    says(message, f"'{model.name}'", "'shared' is called 2 times", "first", "last")


def test_a_layer_without_positions(tmp_path):
    message = refusal(ExplanationError, classifier(pooled, "conv"), tmp_path, layer="pool")
    says(message, "'flowers'", "'pool'", "not a feature map", "conv")


def test_an_output_that_does_not_exist(tmp_path):
    def ends(x):
        x = layers.GlobalAveragePooling2D()(x)
        return {"kind": layers.Dense(3)(x), "age": layers.Dense(1)(x)}

    message = refusal(ExplanationError, classifier(ends, "conv"), tmp_path, output="kinds")
    says(message, "'flowers'", "'kinds'", "kind", "age")


def test_several_outputs_of_which_none_is_named(tmp_path):
    def ends(x):
        x = layers.GlobalAveragePooling2D()(x)
        return [layers.Dense(3, name="kind")(x), layers.Dense(1, name="age")(x)]

    message = refusal(ExplanationError, classifier(ends, "conv"), tmp_path)
    says(message, "'flowers'", "several outputs", "kind", "age", "--output")


def test_an_answer_for_every_pixel(tmp_path):
    message = refusal(UnsupportedHead, classifier(layers.Conv2D(3, 1), "conv"), tmp_path)
    says(message, "'flowers'", "segmentation")


def test_an_input_of_strings(tmp_path):
    words = keras.Input((), dtype="string")
    model = keras.Model(words, layers.Dense(2)(layers.Embedding(9, 4)(layers.Hashing(9)(words))), name="texts")
    message = refusal(Exception, model, tmp_path)
    says(message, "string", "numbers")


def test_constant_scores_have_no_gradient(tmp_path):
    class Constant(layers.Layer):
        def call(self, x):
            return keras.ops.zeros((keras.ops.shape(x)[0], 3))

    message = refusal(ExplanationError, classifier(lambda x: Constant(name="fixed")(x), "conv"), tmp_path)
    says(message, "'flowers'")


def test_a_refused_model_is_left_as_it_was(tmp_path):
    model = classifier(pooled, "conv")
    weights, images = model.get_weights(), np.zeros((1, *INPUT_SHAPE), np.float32)
    before = tf.identity(model(images))
    refusal(LayerNotFound, model, tmp_path, layer="none")
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    np.testing.assert_array_equal(before, model(images))
