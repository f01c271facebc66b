"""How a classifier is put together: every way of Keras to make a model, and what may lie inside one."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from classifiers import CLASSES, INPUT_SHAPE, Block, Subclassed, functional, nested, sequential, twice_nested
from keras import layers

from zoo.case import Case, photographs, textured
from zoo.parts import GRID, pooled_softmax, scaled, trunk, without_layer


def preprocessing_inside() -> keras.Model:
    """Scale, adapted normalisation and resizing as layers of the model."""
    images = keras.Input(INPUT_SHAPE)
    normalise = layers.Normalization(name="normalise")
    normalise.adapt(textured(8, INPUT_SHAPE, seed=4).astype("float32") / 255)
    x = normalise(layers.Rescaling(1 / 255, name="scale")(images))
    return keras.Model(
        images, pooled_softmax(trunk(layers.Resizing(32, 40, name="resize")(layers.ZeroPadding2D(3)(x))))
    )


def augmentation_inside() -> keras.Model:
    """Random layers, which serve as nothing at inference."""
    return keras.Sequential(
        [
            keras.Input(INPUT_SHAPE),
            layers.RandomFlip(seed=1, name="flip"),
            layers.RandomRotation(0.2, seed=2, name="rotate"),
            layers.RandomZoom(0.2, seed=3, name="zoom"),
            layers.RandomContrast(0.3, seed=4, name="contrast"),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="features"),
            layers.GaussianNoise(0.5, name="noise"),
            layers.SpatialDropout2D(0.4, name="drop"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax", name="scores"),
        ]
    )


def augmentation_nested() -> keras.Model:
    """Return augmentation as a Sequential of its own, as the tutorials write it, before a nested base."""
    augment = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)], name="augment")
    inner = keras.Input(INPUT_SHAPE)
    base = keras.Model(inner, trunk(scaled(inner)), name="base")
    images = keras.Input(INPUT_SHAPE)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(base(augment(images), training=False)))
    return keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="scores")(x))


def layer_used_twice() -> keras.Model:
    """One convolution called twice on the way to the feature map."""
    images = keras.Input(INPUT_SHAPE)
    shared = layers.Conv2D(8, 3, padding="same", name="shared")
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(layers.Rescaling(1 / 255)(images))
    x = layers.ReLU(name="between")(shared(x))
    return keras.Model(images, pooled_softmax(layers.ReLU(name="features")(shared(x))))


def base_used_twice() -> keras.Model:
    """A nested model that sees the image twice, upright and mirrored: the sum of both is the feature map."""
    inner = keras.Input(INPUT_SHAPE)
    base = keras.Model(inner, trunk(layers.Rescaling(1 / 255)(inner)), name="base")
    images = keras.Input(INPUT_SHAPE)
    turned = base(keras.ops.flip(images, axis=2))
    return keras.Model(images, pooled_softmax(layers.Add(name="both")([base(images), keras.ops.flip(turned, axis=2)])))


def colliding_names() -> keras.Model:
    """Return a model where each level has layers named `conv` and `base`."""

    def level(inner: Callable[[Any], Any], strides: int, name: str) -> keras.Model:
        images = keras.Input((None, None, 3))
        x = layers.Conv2D(3, 3, strides=strides, padding="same", activation="tanh", name="conv")(images)
        return keras.Model(images, inner(x), name=name)

    innermost = level(lambda x: layers.Conv2D(10, 3, padding="same", activation="swish", name="base")(x), 2, "base")
    middle = level(innermost, 1, "base")
    images = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(3, 3, padding="same", name="conv")(scaled(images))
    return keras.Model(images, pooled_softmax(middle(x)))


@keras.saving.register_keras_serializable("tests")
class Stage(layers.Layer):
    """Blocks within a layer within a model, chosen by Python control flow."""

    def __init__(self, filters: int, blocks: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.filters = filters
        self.blocks = [Block(filters, name=f"block_{index}") for index in range(blocks)]

    def build(self, shape: tuple) -> None:
        for block in self.blocks:
            block.build(shape)
            shape = (*shape[:-1], self.filters)

    def call(self, x: Any, training: bool = False) -> Any:
        for index, block in enumerate(self.blocks):
            # A shortcut in every second block; noise in training only.
            x = x + block(x, training=training) if index % 2 else block(x, training=training)
        return keras.ops.tanh(x) if training else x


class NestedBlocks(keras.Model):
    """A subclassed model of stages of blocks, the last with a bare addition at its end."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.scale = layers.Rescaling(1 / 127.5, offset=-1, name="scale")
        self.first = Stage(8, 1, name="first")
        self.pool = layers.MaxPooling2D(name="pool")
        self.second = Stage(10, 2, name="second")
        self.gather = layers.GlobalAveragePooling2D(name="gather")
        self.drop = layers.Dropout(0.5, name="drop")
        self.scores = layers.Dense(CLASSES, activation="softmax", name="scores")

    def call(self, images: Any, training: bool = False) -> Any:
        x = self.scale(images)
        if training:
            x = keras.ops.flip(x, axis=2)
        x = self.second(self.pool(self.first(x, training=training)), training=training)
        x = self.gather(x)
        if training:
            x = self.drop(x, training=True)
        return self.scores(x)


@keras.saving.register_keras_serializable("tests")
class Gate(layers.Layer):
    """A layer with a weight of its own and a configuration: what a user registers."""

    def __init__(self, sharpness: float, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.sharpness = sharpness

    def build(self, shape: tuple) -> None:
        self.threshold = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        return x * keras.ops.sigmoid(self.sharpness * (x - self.threshold))

    def get_config(self) -> dict:
        return {**super().get_config(), "sharpness": self.sharpness}


def custom_layer() -> keras.Model:
    """A layer of the user's own makes the feature map."""
    images = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(12, 3, strides=2, padding="same", name="conv")(scaled(images))
    return keras.Model(images, pooled_softmax(Gate(2.0, name="gate")(x)))


def reloaded(build: Callable[[], keras.Model], suffix: str) -> Callable[[], keras.Model]:
    """Return what builds the model, saves it in a file and loads that."""

    def through_a_file() -> keras.Model:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, f"model{suffix}")
            build().save(path)
            return keras.saving.load_model(path, compile=False)

    return through_a_file


def open_size(*shape: int | None) -> Callable[[], keras.Model]:
    """Return what builds a fully convolutional classifier of images of `shape`, open where `None`."""

    def build() -> keras.Model:
        images = keras.Input(shape)
        return keras.Model(images, pooled_softmax(trunk(scaled(images))))

    return build


def subclassed_logits(twin: Any, x: Any) -> Any:
    """Run the subclassed twin up to its softmax, which is a bare operation."""
    return twin.logits(twin.features(x))


def _case(name: str, build: Callable[[], keras.Model], layer: str = "features", **more: Any) -> Case:
    more = {"grid": GRID, "inputs": photographs(*INPUT_SHAPE), **more}
    return Case(family="structure", name=name, build=build, layer=layer, **more)


CASES = (
    _case("functional", functional),
    _case("sequential", sequential, grid=(12, 16), logits=without_layer("probabilities")),
    _case("subclassed", Subclassed, "last", logits=subclassed_logits, options={"image_size": INPUT_SHAPE[:2]}),
    _case("subclassed, nested blocks", NestedBlocks, "second", options={"image_size": INPUT_SHAPE[:2]}),
    _case("nested once", nested, "base/features"),
    _case("nested twice", twice_nested, "encoder/base/features"),
    _case("preprocessing inside", preprocessing_inside),
    _case("augmentation inside", augmentation_inside),
    _case("augmentation nested", augmentation_nested, "base/features"),
    _case("a layer used twice", layer_used_twice),
    _case("a base used twice", base_used_twice, "both"),
    _case("colliding names", colliding_names, "base/base/base"),
    _case("custom layer", custom_layer, "gate"),
    _case("custom layer from .keras", reloaded(custom_layer, ".keras"), "gate"),
    _case("nested twice from .keras", reloaded(twice_nested, ".keras"), "encoder/base/features"),
    _case("nested from .h5", reloaded(augmentation_nested, ".h5"), "base/features"),
    _case("open size", open_size(None, None, 3), options={"image_size": INPUT_SHAPE[:2]}),
    _case(
        "open size and channels of 1",
        open_size(None, None, 1),
        inputs=photographs(32, 40, 1),
        options={"image_size": (32, 40)},
    ),
)
