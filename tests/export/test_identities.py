"""Identities between classifiers: what must not change a map, and what must (each from one served SavedModel)."""

import keras
import numpy as np
import pytest
from assembled import served
from classifiers import CLASSES, FAMILIES, INPUT_SHAPE, photographs
from conditioned import conditioned
from keras import layers

IMAGES, CHOSEN = photographs(3), [1, 3, 0]
METHODS = ("gradcam", "gradcam++", "layercam")


def answers(model, directory, *, chosen=CHOSEN, **options):
    """Return the answer of each method for the chosen classes."""
    version = served(model, directory, method=METHODS, **options)
    signatures = ("explain", "explain_gradcam_pp", "explain_layercam")
    return {
        method: version.run(signature, images=IMAGES, class_index=chosen)
        for method, signature in zip(METHODS, signatures, strict=True)
    }


def check_alike(first, second, *names, atol=1e-5):
    for method in METHODS:
        assert first[method]["heatmap"].max(axis=(1, 2)).tolist() == [1, 1, 1]
        for name in names or ("predictions", "class_index", "score", "heatmap"):
            np.testing.assert_allclose(first[method][name], second[method][name], rtol=0, atol=atol, err_msg=method)


def network(activation="softmax", data_format="channels_last"):
    """Return convolutions, one a stage of pooling, and a dense head behind a flattened grid."""
    first = data_format == "channels_first"
    images = keras.Input((INPUT_SHAPE[2], *INPUT_SHAPE[:2]) if first else INPUT_SHAPE)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", data_format=data_format, name="first")(images / 255.0)
    x = layers.BatchNormalization(axis=1 if first else -1, name="norm")(x)
    x = layers.Conv2D(12, 3, activation="relu", data_format=data_format, name="last")(x)
    x = layers.GlobalAveragePooling2D(data_format=data_format)(x)
    x = layers.Dense(10, activation="tanh", name="hidden")(x)
    return keras.Model(images, layers.Dense(CLASSES, activation=activation, name="scores")(x))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(8)
    return conditioned(network(), IMAGES.astype(np.float32))


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    return answers(model, tmp_path_factory.mktemp("plain"))


def twin(model, **changes):
    other = network(**changes)
    other.set_weights(model.get_weights())
    return other


def test_identity_5_softmax_and_bare_logits_give_the_same_map(model, plain, tmp_path):
    logits = answers(twin(model, activation=None), tmp_path)
    check_alike(plain, logits, "heatmap", "heatmap_peak", "class_index")
    softmax = np.exp(logits["gradcam"]["predictions"])
    softmax /= softmax.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(plain["gradcam"]["predictions"], softmax, rtol=0, atol=1e-6)


def test_identity_5_a_saturated_head_gives_the_same_map(model, plain, tmp_path):
    other = twin(model)
    kernel, bias = other.get_layer("scores").get_weights()
    other.get_layer("scores").set_weights([kernel, bias + 50 * np.eye(CLASSES)[1]])
    found = answers(other, tmp_path, chosen=[1, 1, 1])
    assert found["gradcam"]["score"].tolist() == [1, 1, 1]
    before = answers(model, tmp_path_of(tmp_path), chosen=[1, 1, 1])
    check_alike(before, found, "heatmap")
    # The probability's own gradient is all but nothing there, as its peak says.
    flat = served(other, tmp_path_of(tmp_path, "flat"), score="probability")
    assert flat.run("explain", images=IMAGES, class_index=[1, 1, 1])["heatmap_peak"].max() < 1e-9
    assert found["gradcam"]["heatmap_peak"].min() > 1e-6


def tmp_path_of(directory, name="before"):
    (directory / name).mkdir()
    return directory / name


def test_identity_8_channels_first_gives_the_map_of_channels_last(model, plain, tmp_path):
    found = answers(twin(model, data_format="channels_first"), tmp_path)
    check_alike(plain, found)


def test_identity_8_nested_gives_the_map_of_flat(tmp_path):
    nested = FAMILIES["nested"].model()
    images = keras.Input(INPUT_SHAPE)
    x = images / 127.5 - 1.0
    # The inner model's own layers, called one after the other.
    inner = nested.get_layer("base")
    tensors = {id(inner.inputs[0]): x}
    for layer in inner.layers[1:]:
        given = layer.input if isinstance(layer.input, list) else [layer.input]
        given = [tensors[id(tensor)] for tensor in given]
        tensors[id(layer.output)] = layer(given if len(given) > 1 else given[0])
    pooled = layers.GlobalAveragePooling2D()(tensors[id(inner.output)])
    flat = keras.Model(images, nested.get_layer("scores")(pooled))
    first = answers(nested, tmp_path_of(tmp_path, "nested"))
    check_alike(first, answers(flat, tmp_path_of(tmp_path, "flat")))


def test_identity_8_sequential_and_subclassed_give_the_map_of_functional(model, plain, tmp_path):
    stack = [layer for layer in model.layers if layer.get_weights() or "pooling" in layer.name]
    sequential = keras.Sequential([keras.Input(INPUT_SHAPE), layers.Rescaling(1 / 255), *stack])

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.stack = stack

        def call(self, x):
            x = x / 255.0
            for layer in self.stack:
                x = layer(x)
            return x

    subclassed = Subclassed()
    subclassed(IMAGES.astype(np.float32))
    for name, other in (("sequential", sequential), ("subclassed", subclassed)):
        check_alike(plain, answers(other, tmp_path_of(tmp_path, name)))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_identity_7_nothing_that_raises_the_score_gives_zeros(policy, tmp_path):
    keras.utils.set_random_seed(2)
    images = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(6, 5, strides=4, activation="relu", dtype=policy)(images / 255.0)
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    model = keras.Model(images, layers.Dense(2, activation="softmax", dtype="float32", name="scores")(x))
    kernel = np.abs(np.random.default_rng(0).normal(size=(6, 1)))
    model.get_layer("scores").set_weights([np.concatenate([-kernel, kernel], axis=1), np.zeros(2)])
    found = answers(model, tmp_path, chosen=[0, 1, 0])
    for answer in found.values():
        assert answer["heatmap"][[0, 2]].tolist() == np.zeros_like(answer["heatmap"][[0, 2]]).tolist()
        assert answer["heatmap_peak"][[0, 2]].tolist() == [0, 0]
        assert answer["heatmap"][1].max() == 1
        assert all(np.isfinite(value).all() for value in answer.values() if value.dtype.kind == "f")


def ranks(values):
    return np.argsort(np.argsort(values, axis=None)).astype(float)


def test_identity_13_another_head_gives_another_map(model, tmp_path):
    """Adebayo et al., arXiv 1810.03292: a map that stays when the head is randomised explains no class."""
    other = twin(model)
    random = np.random.default_rng(1)
    for name in ("hidden", "scores"):
        layer = other.get_layer(name)
        layer.set_weights([random.normal(size=weight.shape) for weight in layer.get_weights()])
    images, classes = photographs(16, seed=4), [index % CLASSES for index in range(16)]
    maps = [
        served(one, tmp_path_of(tmp_path, name), method="hirescam").run("explain", images=images, class_index=classes)
        for name, one in (("before", model), ("after", other))
    ]
    correlations = [
        np.corrcoef(ranks(before), ranks(after))[0, 1]
        for before, after in zip(*(answer["heatmap"] for answer in maps), strict=True)
    ]
    assert abs(np.mean(correlations)) < 0.5
    np.testing.assert_allclose(np.corrcoef(ranks(maps[0]["heatmap"][0]), ranks(maps[0]["heatmap"][0]))[0, 1], 1)


def test_identity_10_predictions_are_the_same_whatever_is_asked_beside_them(plain, model, tmp_path):
    version = served(model, tmp_path)
    alone = version.run("predict", images=IMAGES)["predictions"]
    for answer in (*plain.values(), version.run("top_k", images=IMAGES), version.run("predict", images=IMAGES)):
        np.testing.assert_allclose(answer["predictions"], alone, rtol=0, atol=1e-6)
