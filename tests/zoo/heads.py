"""How a classifier ends: what its scores are, and how they come from the feature map."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from classifiers import CLASSES, INPUT_SHAPE
from conditioned import conditioned
from keras import layers

from zoo.case import Case, Inputs, bare_logits, photographs, textured
from zoo.parts import GRID, classifier, linear_layer, pooled_softmax, scaled, trunk, without_layer


def pooled_dense(units: int = CLASSES, activation: str | None = None) -> Callable[[], keras.Model]:
    """Return what builds a classifier with global average pooling and one dense layer."""
    scores = {"name": "scores", "activation": activation}
    return classifier(lambda x: layers.Dense(units, **scores)(layers.GlobalAveragePooling2D()(x)))


class SoftmaxInCall(keras.Model):
    """Ends in an operation that no layer knows of."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.scale = layers.Rescaling(1 / 127.5, offset=-1, name="scale")
        self.features = layers.Conv2D(12, 5, strides=2, padding="same", activation="relu", name="features")
        self.scores = layers.Dense(CLASSES, name="scores")

    def logits(self, images: Any) -> Any:
        return self.scores(keras.ops.mean(self.features(self.scale(images)), axis=(1, 2)))

    def call(self, images: Any) -> Any:
        return keras.ops.softmax(self.logits(images), axis=-1)


def max_pooled(x: Any) -> Any:
    """Global max pooling."""
    return layers.Dense(CLASSES, activation="softmax", name="scores")(layers.GlobalMaxPooling2D(name="pool")(x))


def flattened(x: Any) -> Any:
    """VGG: pool, flatten, two dense layers."""
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(name="pool")(x))
    x = layers.Dropout(0.5)(layers.Dense(24, activation="relu", name="hidden")(x))
    return layers.Dense(CLASSES, activation="softmax", name="scores")(x)


def average_and_maximum(x: Any) -> Any:
    """Both pools of one map, side by side: two paths, one cut."""
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    both = layers.BatchNormalization(name="head_norm")(both)
    return layers.Dense(CLASSES, activation="softmax", name="scores")(layers.Dropout(0.3)(both))


def attention_pooled(x: Any) -> Any:
    """Positions weighed by a softmax over them."""
    positions = layers.Reshape((-1, 12), name="positions")(x)
    weights = layers.Softmax(axis=1, name="attention")(layers.Dense(1, name="evidence")(positions))
    pooled = layers.Dot(axes=1, name="weighed")([weights, positions])
    return layers.Dense(CLASSES, activation="softmax", name="scores")(layers.Flatten()(pooled))


def attention_over_as_many(x: Any) -> Any:
    """Attention over as many positions as there are classes: a softmax of the classes' shape that is none of theirs."""
    positions = layers.Reshape((-1, 12), name="positions")(x)
    evidence = layers.Flatten()(layers.Dense(1, name="evidence")(positions))
    weights = layers.Softmax(name="attention")(evidence)
    pooled = layers.Dot(axes=1, name="weighed")([weights, positions])
    return layers.Dense(320, name="scores")(pooled)


def convolutional(x: Any) -> Any:
    """MobileNetV3: pool with kept dimensions, 1x1 convolutions, flatten, softmax."""
    x = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = layers.Conv2D(16, 1, activation="hard_silu", name="hidden")(x)
    x = layers.Conv2D(CLASSES, 1, name="scores")(layers.Dropout(0.2)(x))
    return layers.Activation("softmax", name="probabilities")(layers.Flatten()(x))


def convolutional_scores(x: Any) -> Any:
    """Network in network: a map for each class, pooled; the map that is explained is the one before."""
    x = layers.Conv2D(CLASSES, 1, name="class_maps")(x)
    return layers.Softmax(name="probabilities")(layers.GlobalAveragePooling2D(name="pool")(x))


def several() -> keras.Model:
    """Two named outputs of one trunk."""
    images = keras.Input(INPUT_SHAPE)
    pooled = layers.GlobalAveragePooling2D()(trunk(scaled(images)))
    species = layers.Dense(CLASSES, activation="softmax", name="species")(pooled)
    health = layers.Dense(3, activation="softmax", name="health")(pooled)
    return keras.Model(images, [species, health])


def several_branches() -> keras.Model:
    """Each output has convolutions of its own: the feature map depends on the output."""
    images = keras.Input(INPUT_SHAPE)
    x = trunk(scaled(images))
    ends = {}
    for name, units in (("species", CLASSES), ("health", 3)):
        y = layers.Conv2D(6, 3, padding="same", activation="relu", name=f"{name}_features")(x)
        ends[name] = layers.Dense(units, name=f"{name}_scores")(layers.GlobalAveragePooling2D()(y))
    return keras.Model(images, ends)


def picture_and_facts() -> keras.Model:
    """An image and a vector of numbers."""
    images, facts = keras.Input(INPUT_SHAPE, name="photograph"), keras.Input((6,), name="facts")
    pooled = layers.GlobalAveragePooling2D()(trunk(scaled(images)))
    both = layers.Concatenate()([pooled, layers.Dense(8, activation="relu", name="read")(facts)])
    return keras.Model([images, facts], layers.Dense(CLASSES, activation="softmax", name="scores")(both))


def two_pictures() -> keras.Model:
    """Two images; the one of more positions is explained only where both meet in one map."""
    left, right = keras.Input(INPUT_SHAPE, name="left"), keras.Input(INPUT_SHAPE, name="right")
    stereo = layers.Concatenate(name="stereo")([left, right])
    return keras.Model({"left": left, "right": right}, pooled_softmax(trunk(scaled(stereo))))


def age_regressor() -> keras.Model:
    """Return a nested Xception, pooled, with dropout and one linear unit."""
    images = keras.Input((96, 96, 3))
    xception = keras.applications.Xception(weights=None, include_top=False, input_shape=(96, 96, 3))
    x = layers.GlobalAveragePooling2D()(xception(scaled(images)))
    return keras.Model(images, layers.Dense(1, name="age")(layers.Dropout(0.5)(x)))


def positive_age(model: keras.Model, x: Any) -> keras.Model:
    """Condition a regressor, with weights that let some positions raise its output."""
    conditioned(model, x)
    model.get_layer("age").kernel.assign(np.random.default_rng(3).normal(0.01, 0.05, (2048, 1)))
    return model


def picture_and_numbers(count: int) -> Inputs:
    """Return what the signatures of `picture_and_facts` take."""
    facts = np.random.default_rng(6).normal(size=(count, 6)).astype(np.float32)
    return {"images": textured(count, INPUT_SHAPE), "facts": facts}


def left_and_right(count: int) -> Inputs:
    """Return what the signatures of `two_pictures` take."""
    return {"left": textured(count, INPUT_SHAPE), "right": textured(count, INPUT_SHAPE, seed=8)}


def _in_order(*names: str) -> Callable[[Inputs], list[Any]]:
    return lambda inputs: [inputs[name].astype(keras.config.floatx()) for name in names]


def _by_name(inputs: Inputs) -> dict[str, Any]:
    return {name: value.astype(keras.config.floatx()) for name, value in inputs.items()}


def _output(name: str | int) -> Callable[[Any], Any]:
    return lambda answer: answer[name]


def _case(name: str, build: Callable[[], keras.Model], **more: Any) -> Case:
    more = {"layer": "features", "grid": GRID, "inputs": photographs(*INPUT_SHAPE), **more}
    return Case(family="heads", name=name, build=build, **more)


CASES = (
    _case("softmax", pooled_dense(activation="softmax")),
    _case(
        "softmax layer",
        classifier(lambda x: layers.Softmax(name="end")(layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))),
        logits=without_layer("end"),
    ),
    _case(
        "softmax in call",
        SoftmaxInCall,
        logits=lambda twin, x: twin.logits(x),
        options={"image_size": INPUT_SHAPE},
    ),
    _case("log-softmax", pooled_dense(activation="log_softmax"), logits=linear_layer("scores")),
    _case("logits only", pooled_dense(), logits=bare_logits),
    _case("one sigmoid", pooled_dense(1, "sigmoid"), binary=True),
    _case("multi-label sigmoid", pooled_dense(4, "sigmoid")),
    _case("global max pooling", classifier(max_pooled)),
    _case("flatten, dense", classifier(flattened)),
    _case("average and maximum", classifier(average_and_maximum)),
    _case("attention pooling", classifier(attention_pooled)),
    _case("attention over N positions", classifier(attention_over_as_many), logits=bare_logits),
    _case("1x1 convolutions", classifier(convolutional), logits=without_layer("probabilities")),
    _case(
        "network in network",
        classifier(convolutional_scores),
        layer="class_maps",
        logits=without_layer("probabilities"),
    ),
    _case(
        "several outputs, first",
        several,
        answer=_output(0),
        options={"output": "species"},
        logits=linear_layer("species"),
    ),
    _case(
        "several outputs, second",
        several,
        answer=_output(1),
        options={"output": "health"},
        logits=linear_layer("health"),
    ),
    _case(
        "several outputs, by index", several, answer=_output(1), options={"output": "1"}, logits=linear_layer("health")
    ),
    _case(
        "dictionary of outputs",
        several_branches,
        layer="health_features",
        answer=_output("health"),
        options={"output": "health"},
        logits=bare_logits,
    ),
    _case(
        "image and numbers",
        picture_and_facts,
        inputs=picture_and_numbers,
        to_model_input=_in_order("images", "facts"),
    ),
    _case("two images", two_pictures, inputs=left_and_right, to_model_input=_by_name),
    _case(
        "age regressor (nested Xception)",
        age_regressor,
        layer="xception/block14_sepconv2_act",
        grid=(3, 3),
        inputs=photographs(96, 96, 3),
        condition=positive_age,
        logits=bare_logits,
        large=True,
    ),
)
