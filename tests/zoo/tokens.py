"""Classifiers that cut an image into tokens."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from classifiers import CLASSES
from conditioned import conditioned
from keras import layers

from zoo.case import Case, bare_logits, photographs
from zoo.parts import scaled

SIZE, PATCH, WIDTH = 32, 8, 16
GRID = (SIZE // PATCH, SIZE // PATCH)


@keras.saving.register_keras_serializable("tests")
class Embedding(layers.Layer):
    """A learned position for each token, and a class token before them where it is asked for."""

    def __init__(self, *, class_token: bool, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.class_token = class_token

    def build(self, shape: tuple) -> None:
        drawn = keras.initializers.RandomNormal(stddev=0.3)
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer=drawn, name="token")
        count = shape[1] + self.class_token
        self.positions = self.add_weight(shape=(1, count, shape[-1]), initializer=drawn, name="positions")

    def call(self, x: Any) -> Any:
        if self.class_token:
            token = keras.ops.broadcast_to(self.token, (keras.ops.shape(x)[0], 1, x.shape[-1]))
            x = keras.ops.concatenate([token, x], axis=1)
        return x + self.positions


def _mixed(x: Any, index: int) -> Any:
    """Attention between the tokens, then two dense layers on each, both around a shortcut."""
    y = layers.LayerNormalization(epsilon=1e-6, name=f"norm_{index}_a")(x)
    x = layers.Add(name=f"mixed_{index}")([x, layers.MultiHeadAttention(2, 8, name=f"attention_{index}")(y, y)])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"norm_{index}_b")(x)
    y = layers.Dense(WIDTH, name=f"narrow_{index}")(layers.Dense(32, activation="gelu", name=f"wide_{index}")(y))
    return layers.Add(name=f"sum_{index}")([x, layers.Dropout(0.1)(y)])


def vision_transformer(*, class_token: bool, width: int = SIZE, blocks: int = 3) -> Callable[[], keras.Model]:
    """Return what builds a small Vision Transformer (Dosovitskiy et al., arXiv 2010.11929)."""

    def build() -> keras.Model:
        images = keras.Input((SIZE, width, 3))
        x = layers.Conv2D(WIDTH, PATCH, strides=PATCH, name="patches")(scaled(images))
        x = Embedding(class_token=class_token, name="embedding")(layers.Reshape((-1, WIDTH), name="tokens")(x))
        for index in range(blocks):
            x = _mixed(x, index)
        x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
        x = x[:, 0] if class_token else layers.GlobalAveragePooling1D(name="pool")(x)
        return keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="scores")(x))

    return build


def flattened_transformer() -> keras.Model:
    """Return a transformer as Keras's own example writes it: patches taken out, every token flattened into the head."""
    images = keras.Input((28, 28, 3))
    x = layers.RandomFlip("horizontal")(layers.Resizing(SIZE, SIZE)(scaled(images)))
    x = keras.ops.image.extract_patches(x, PATCH)
    x = layers.Dense(WIDTH, name="project")(layers.Reshape((-1, PATCH * PATCH * 3), name="tokens")(x))
    x = _mixed(_mixed(Embedding(class_token=False, name="embedding")(x), 0), 1)
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6, name="norm")(x))
    x = layers.Dense(24, activation="gelu", name="hidden")(layers.Dropout(0.5)(x))
    return keras.Model(images, layers.Dense(CLASSES, name="scores")(x))


def _windows(x: Any, shift: int, index: int) -> Any:
    """Attention within windows of 2x2 positions, the grid rolled by `shift` before and back after."""
    height, width, side = x.shape[1], x.shape[2], 2
    y = keras.ops.roll(layers.LayerNormalization(name=f"norm_{index}_a")(x), (-shift, -shift), axis=(1, 2))
    y = keras.ops.reshape(y, (-1, height // side, side, width // side, side, WIDTH))
    y = keras.ops.reshape(keras.ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, side * side, WIDTH))
    y = layers.MultiHeadAttention(2, 8, name=f"attention_{index}")(y, y)
    y = keras.ops.reshape(y, (-1, height // side, width // side, side, side, WIDTH))
    y = keras.ops.reshape(keras.ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, height, width, WIDTH))
    x = layers.Add(name=f"mixed_{index}")([x, keras.ops.roll(y, (shift, shift), axis=(1, 2))])
    y = layers.Dense(32, activation="gelu", name=f"wide_{index}")(layers.LayerNormalization(name=f"norm_{index}_b")(x))
    return layers.Add(name=f"sum_{index}")([x, layers.Dense(WIDTH, name=f"narrow_{index}")(y)])


def shifted_windows() -> keras.Model:
    """Return windows of tokens, shifted in every second block (Liu et al., arXiv 2103.14030)."""
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(WIDTH, PATCH, strides=PATCH, name="patches")(scaled(images))
    x = _windows(_windows(x, 0, 0), 1, 1)
    x = layers.LayerNormalization(name="norm")(x)
    return keras.Model(images, layers.Dense(CLASSES, name="scores")(layers.GlobalAveragePooling2D(name="pool")(x)))


def varied(model: keras.Model, x: Any) -> keras.Model:
    """Draw what Keras starts at zero or one, position biases among them."""
    random = np.random.default_rng(0)
    for variable in conditioned(model, x).weights:
        if "position" in variable.path or "token" in variable.path:
            variable.assign(random.normal(0, 0.3, variable.shape))
    return model


def patches(height: int, width: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what puts the last `height * width` tokens on their grid, and leaves out those before them."""
    return lambda tokens: tokens[:, -height * width :].reshape(len(tokens), height, width, -1)


def _case(name: str, build: Callable[[], keras.Model], layer: str, **more: Any) -> Case:
    more = {"grid": GRID, "inputs": photographs(SIZE, SIZE, 3), "arrange": patches(*GRID), **more}
    return Case(family="tokens", name=name, build=build, layer=layer, condition=varied, **more)


CASES = (
    # After the last attention a class token no longer sees the patches: the map is before it.
    _case("ViT with class token", vision_transformer(class_token=True), "sum_1"),
    _case("ViT pooled", vision_transformer(class_token=False), "norm"),
    _case(
        "ViT with class token, wide image",
        vision_transformer(class_token=True, width=48),
        "sum_1",
        grid=(4, 6),
        arrange=patches(4, 6),
        inputs=photographs(SIZE, 48, 3),
        large=True,
    ),
    _case(
        "ViT flattened",
        flattened_transformer,
        "norm",
        inputs=photographs(28, 28, 3),
        logits=bare_logits,
    ),
    _case("shifted windows", shifted_windows, "norm", arrange=np.asarray, logits=bare_logits),
)
