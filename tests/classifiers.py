"""Small classifiers of every kind the exporter meets, each with its own float64 Grad-CAM.

The oracle shares nothing with the exporter: the same network is built again in float64, cut by hand into features and
head, and differentiated eagerly; the map is then numpy.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from conditioned import conditioned
from keras import layers

INPUT_SHAPE = (32, 40, 3)
CLASSES = 5


@contextmanager
def floatx(name: str):
    """Build Keras models of another float type."""
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(name)
    # Layers go by the policy, which keeps the float type of the first layer ever made (Keras 3.15).
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(policy)


def _trunk(images: Any) -> Any:
    """Biased, unbiased, depthwise and separable convolutions, each with batch normalisation; a residual addition."""
    x = layers.Conv2D(16, 3, strides=2, padding="same", name="stem")(images)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.ReLU(6.0, name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(name="depthwise_norm")(x)
    x = layers.Activation("swish", name="depthwise_swish")(x)
    x = shortcut = layers.Conv2D(24, 1, use_bias=False, name="project")(x)
    x = layers.BatchNormalization(name="project_norm")(x)
    x = layers.SeparableConv2D(24, 3, padding="same", name="separable")(x)
    x = layers.BatchNormalization(name="separable_norm")(x)
    x = layers.Add(name="residual")([x, shortcut])
    return layers.Activation("relu", name="features")(x)


def functional() -> keras.Model:
    """Return a Functional classifier: global average pooling, dropout, softmax."""
    images = keras.Input(INPUT_SHAPE)
    x = layers.GlobalAveragePooling2D()(_trunk(images))
    x = layers.Dropout(0.5)(x)
    return keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="scores")(x))


def sequential() -> keras.Model:
    """Return a Sequential classifier that pools, then flattens into two dense layers; softmax as a layer of its own."""
    return keras.Sequential(
        [
            keras.Input(INPUT_SHAPE),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(12, 5, strides=2, activation="relu"),
            layers.Conv2D(16, 3, activation="relu", name="features"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(20, activation="tanh", name="hidden"),
            layers.Dense(CLASSES, name="scores"),
            layers.Softmax(name="probabilities"),
        ]
    )


def nested() -> keras.Model:
    """Return a headless model inside a classifier, as transfer learning makes them."""
    inner_images = keras.Input(INPUT_SHAPE)
    base = keras.Model(inner_images, _trunk(inner_images), name="base")
    images = keras.Input(INPUT_SHAPE)
    x = layers.GlobalAveragePooling2D()(base(images / 127.5 - 1.0))
    return keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="scores")(x))


def twice_nested() -> keras.Model:
    """Return a headless model inside an encoder inside a classifier."""
    inner_images = keras.Input(INPUT_SHAPE)
    base = keras.Model(inner_images, _trunk(inner_images), name="base")
    encoder_images = keras.Input(INPUT_SHAPE)
    encoder = keras.Model(encoder_images, base(layers.Rescaling(1 / 255)(encoder_images)), name="encoder")
    return keras.Sequential(
        [
            keras.Input(INPUT_SHAPE),
            encoder,
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(CLASSES, activation="softmax", name="scores"),
        ]
    )


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Convolution, norm and residual, with Python control flow on `training`."""

    def __init__(self, filters: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.filters = filters
        self.convolution = layers.Conv2D(filters, 3, padding="same", name="convolution")
        self.norm = layers.BatchNormalization(name="norm")

    def build(self, shape: tuple) -> None:
        self.convolution.build(shape)
        self.norm.build((*shape[:-1], self.filters))

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.norm(self.convolution(x), training=training)
        if training:
            y = y + 0.1 * keras.random.normal(keras.ops.shape(y))
        return keras.ops.relu(y)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A subclassed classifier that leaves its input size open until it is called."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.stem = Block(12, name="stem")
        self.pool = layers.MaxPooling2D(name="pool")
        self.last = Block(20, name="last")
        self.scores = layers.Dense(CLASSES, name="scores")

    def features(self, images: Any) -> Any:
        return self.last(self.pool(self.stem(images / 255.0)))

    def logits(self, features: Any) -> Any:
        return self.scores(keras.ops.mean(features, axis=(1, 2)))

    def call(self, images: Any, training: bool = False) -> Any:
        del training
        return keras.ops.softmax(self.logits(self.features(images)))


@dataclass(frozen=True)
class Family:
    """A kind of classifier, and how to cut it by hand."""

    build: Callable[[], keras.Model]
    layer: str
    grid: tuple[int, int]
    features: Callable[[keras.Model, tf.Tensor], tf.Tensor]
    logits: Callable[[keras.Model, tf.Tensor], tf.Tensor]

    def model(self) -> keras.Model:
        """Return the classifier with conditioned random weights."""
        keras.utils.set_random_seed(1)
        images = np.random.default_rng(5).uniform(0, 255, (16, *INPUT_SHAPE)).astype(np.float32)
        model = self.build()
        model(images[:1])
        return conditioned(model, images)

    def double(self, model: keras.Model) -> keras.Model:
        """Return the same network in float64."""
        with floatx("float64"):
            twin = self.build()
            twin(np.zeros((1, *INPUT_SHAPE)))
        assert {layer.compute_dtype for layer in twin._flatten_layers()} == {"float64"}
        twin.set_weights(model.get_weights())
        return twin


def _functional_features(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    return keras.Model(model.inputs, model.get_layer("features").output)(images)


def _pooled(model: keras.Model, features: tf.Tensor) -> tf.Tensor:
    kernel, bias = model.get_layer("scores").weights
    return tf.reduce_mean(features, [1, 2]) @ kernel.value + bias.value


def _flattened(model: keras.Model, features: tf.Tensor) -> tf.Tensor:
    x = features
    for name in ("pool", "flatten", "hidden", "scores"):
        x = model.get_layer(name)(x)
    return x


FAMILIES = {
    "functional": Family(functional, "features", (16, 20), _functional_features, _pooled),
    "sequential": Family(sequential, "features", (12, 16), _functional_features, _flattened),
    "nested": Family(
        nested, "base/features", (16, 20), lambda model, images: model.get_layer("base")(images / 127.5 - 1.0), _pooled
    ),
    "twice_nested": Family(
        twice_nested,
        "encoder/base/features",
        (16, 20),
        lambda model, images: model.get_layer("encoder")(images),
        _pooled,
    ),
    "subclassed": Family(Subclassed, "last", (16, 20), Subclassed.features, Subclassed.logits),
}


def gradcam_in_float64(family: Family, model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return ReLU(sum_k alpha_k A_k) in float64, `[B,h,w]`, not normalised (Selvaraju, arXiv 1610.02391)."""
    twin = family.double(model)
    features = family.features(twin, tf.constant(images, tf.float64))
    with tf.GradientTape() as tape:
        tape.watch(features)
        scores = tf.gather(family.logits(twin, features), classes, axis=1, batch_dims=1)
    alpha = tape.gradient(scores, features).numpy().mean(axis=(1, 2))
    return np.maximum(np.einsum("bhwk,bk->bhw", features.numpy(), alpha), 0)


def normalised(maps: np.ndarray) -> np.ndarray:
    """Divide each map by its own maximum; zeros stay."""
    peak = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(peak > 0, peak, 1)


def photographs(count: int, seed: int = 2) -> np.ndarray:
    """Return uint8 images with structure at several scales, `[B,H,W,C]`."""
    random = np.random.default_rng(seed)
    height, width, channels = INPUT_SHAPE
    images = random.integers(0, 256, (count, height, width, channels))
    coarse = random.integers(0, 256, (count, 4, 5, channels)).repeat(8, axis=1).repeat(8, axis=2)
    return ((images + 3 * coarse) // 4).astype(np.uint8)
