"""Parts that the zoo's classifiers share, and ways to take their ends off."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from classifiers import CLASSES, INPUT_SHAPE
from keras import layers

from zoo.case import textured

GRID = (16, 20)
"""Of `trunk` on images of `INPUT_SHAPE`."""


def scaled(images: Any) -> Any:
    """Return pixels 0..255 in -1..1."""
    return layers.Rescaling(1 / 127.5, offset=-1, name="scale")(images)


def trunk(images: Any) -> Any:
    """Return a small feature map `[B,H/2,W/2,12]` by the name `features`."""
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(images)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    return layers.Activation("relu", name="features")(x)


def pooled_softmax(features: Any, units: int = CLASSES) -> Any:
    """Return softmax scores of the pooled features."""
    x = layers.GlobalAveragePooling2D(name="pool")(features)
    return layers.Dense(units, activation="softmax", name="scores")(x)


def classifier(end: Callable[[Any], Any], shape: tuple[int, ...] = INPUT_SHAPE) -> Callable[[], keras.Model]:
    """Return what builds a Functional model of `trunk` and `end`, which takes the feature map."""

    def build() -> keras.Model:
        images = keras.Input(shape, name="photograph")
        return keras.Model(images, end(trunk(scaled(images))))

    return build


def without_layer(name: str) -> Callable[[keras.Model, Any], Any]:
    """Return what runs a model with the layer `name` as an identity."""

    def run(twin: keras.Model, x: Any) -> Any:
        (layer,) = (layer for layer in twin._flatten_layers() if layer.name == name)
        # Plain assignment would be tracked by Keras.
        object.__setattr__(layer, "call", lambda value, *_, **__: value)
        return twin(x, training=False)

    return run


def linear_layer(name: str) -> Callable[[keras.Model, Any], Any]:
    """Return what runs a model with the activation of its layer `name` taken off."""

    def run(twin: keras.Model, x: Any) -> Any:
        (layer,) = (layer for layer in twin._flatten_layers() if layer.name == name)
        layer.activation = keras.activations.linear
        return twin(x, training=False)

    return run


def numbers(*shape: int) -> Callable[[int], Mapping[str, np.ndarray]]:
    """Return what gives `inputs` float32 `[count, *shape]` in -1..1, with structure at several scales."""
    return lambda count: {"inputs": (textured(count, shape) / np.float32(127.5) - 1).astype(np.float32)}


def as_numbers(inputs: Mapping[str, np.ndarray]) -> Any:
    """Return `inputs` as they are, in Keras's float type."""
    return tf.constant(inputs["inputs"], keras.config.floatx())
