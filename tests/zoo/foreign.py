"""Classifiers that other Keras made: tf_keras (Keras 2), and Keras 3 with JAX or PyTorch under it."""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from classifiers import CLASSES, INPUT_SHAPE
from data.make_foreign import SHAPE, classifier

from zoo.case import Case, bare_logits, photographs
from zoo.parts import GRID

DATA = Path(__file__).parents[1] / "data"


def _trunk(images: Any) -> Any:
    """Return a residual feature map of biased, unbiased and depthwise convolutions."""
    layers = tf_keras.layers
    x = layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False, name="stem")(images)
    x = shortcut = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(layers.ReLU(6.0, name="stem_relu")(x))
    x = layers.BatchNormalization(name="depthwise_norm")(x)
    x = layers.Conv2D(12, 1, name="conv")(layers.Activation("swish", name="swish")(x))
    x = layers.Add(name="residual")([x, shortcut])
    return layers.Activation("relu", name="features")(x)


def functional() -> Any:
    """Return a Functional model of Keras 2 with preprocessing, augmentation and dropout."""
    layers = tf_keras.layers
    images = tf_keras.Input(INPUT_SHAPE, name="photograph")
    x = layers.Rescaling(1 / 127.5, offset=-1)(layers.RandomFlip("horizontal")(images))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D(name="pool")(_trunk(x)))
    return tf_keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="scores")(x))


def nested() -> Any:
    """Return a nested base inside a Sequential model of Keras 2."""
    layers = tf_keras.layers
    inner = tf_keras.Input(INPUT_SHAPE)
    return tf_keras.Sequential(
        [
            tf_keras.Input(INPUT_SHAPE),
            layers.Rescaling(1 / 255),
            tf_keras.Model(inner, _trunk(inner), name="base"),
            layers.GlobalMaxPooling2D(name="pool"),
            layers.Dense(CLASSES, name="scores"),
        ]
    )


class Subclassed(tf_keras.Model):
    """A subclassed model of Keras 2 with Python control flow on `training` and a bare softmax."""

    def __init__(self) -> None:
        super().__init__()
        layers = tf_keras.layers
        self.stem = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")
        self.norm = layers.BatchNormalization(name="norm")
        self.last = layers.Conv2D(12, 3, padding="same", activation="relu", name="last")
        self.scores = layers.Dense(CLASSES, name="scores")

    def bare(self, images: Any, training: bool = False) -> Any:
        x = self.norm(self.stem(images / 255.0), training=training)
        if training:
            x = tf.nn.dropout(x, 0.5)
        return self.scores(tf.reduce_mean(self.last(x), axis=[1, 2]))

    def call(self, images: Any, training: bool = False) -> Any:
        return tf.nn.softmax(self.bare(images, training=training))


def application() -> Any:
    """Return MobileNetV2 of Keras 2 with one sigmoid unit."""
    layers = tf_keras.layers
    images = tf_keras.Input((64, 64, 3))
    base = tf_keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(64, 64, 3), alpha=0.35)
    x = layers.GlobalAveragePooling2D()(base(layers.Rescaling(1 / 127.5, offset=-1)(images)))
    return tf_keras.Model(images, layers.Dense(1, activation="sigmoid", name="scores")(x))


def in_double(build: Callable[[], Any]) -> Callable[[], Any]:
    """Return what builds a model of Keras 2 in float64."""

    def build_in_double() -> Any:
        tf_keras.backend.set_floatx("float64")
        try:
            return build()
        finally:
            tf_keras.backend.set_floatx("float32")

    return build_in_double


def conditioned(model: Any, x: Any) -> Any:
    """Give a model of Keras 2 random scales, offsets and biases, and the statistics that it has on `x`."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        kind = variable.name.rsplit("/", 1)[-1].partition(":")[0]
        if kind == "gamma":
            variable.assign(random.uniform(0.8, 1.2, variable.shape))
        elif kind in ("beta", "bias"):
            variable.assign(random.normal(0, 0.05, variable.shape))
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, tf_keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    model(x, training=True)
    for layer in norms:
        layer.momentum = 0.99
    return model


def layer_of_keras_2(model: Any, path: str) -> Any:
    """Return the layer at `outer/inner`."""
    for name in path.split("/"):
        (model,) = (layer for layer in model._flatten_layers(recursive=False, include_self=False) if layer.name == name)
    return model


def linear_scores(twin: Any, x: Any) -> Any:
    """Run a model of Keras 2 with the activation of its layer `scores` taken off."""
    twin.get_layer("scores").activation = tf_keras.activations.linear
    return twin(x, training=False)


def reloaded(build: Callable[[], Any], suffix: str) -> Callable[[], Any]:
    """Return what builds the model, saves it in a file and loads that with Keras 2."""

    def through_a_file() -> Any:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, f"model{suffix}")
            with warnings.catch_warnings():
                # Keras 2 calls its own .h5 legacy.
                warnings.simplefilter("ignore", UserWarning)
                build().save(path)
            return tf_keras.models.load_model(path, compile=False)

    return through_a_file


def _keras_2(name: str, build: Callable[[], Any], layer: str = "features", **more: Any) -> Case:
    more = {"grid": GRID, "inputs": photographs(*INPUT_SHAPE), "logits": linear_scores, **more}
    return Case(
        family="tf_keras",
        name=f"tf_keras {name}",
        build=build,
        double=in_double(build),
        layer=layer,
        condition=conditioned,
        catch=layer_of_keras_2,
        **more,
    )


def _trained(backend: str) -> Case:
    return Case(
        family="other backends",
        name=f"trained with {backend}",
        build=lambda: keras.saving.load_model(DATA / f"{backend}.keras", compile=False),
        double=classifier,
        condition=lambda model, _: model,
        layer="features",
        grid=(16, 16),
        inputs=photographs(*SHAPE),
    )


CASES = (
    _keras_2("Functional", functional),
    _keras_2("nested in Sequential", nested, "base/features", logits=bare_logits),
    _keras_2(
        "subclassed",
        Subclassed,
        "last",
        logits=lambda twin, x: twin.bare(x),
        options={"image_size": INPUT_SHAPE[:2]},
    ),
    _keras_2(
        "MobileNetV2, one sigmoid",
        application,
        "mobilenetv2_0.35_64/out_relu",
        grid=(2, 2),
        inputs=photographs(64, 64, 3),
        binary=True,
        large=True,
    ),
    _keras_2("from .h5", reloaded(functional, ".h5")),
    _keras_2("from .keras", reloaded(nested, ".keras"), "base/features", logits=bare_logits),
    _trained("jax"),
    _trained("torch"),
)
