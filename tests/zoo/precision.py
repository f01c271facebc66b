"""Models that compute in half or double precision; the map is computed in float32 at least."""

from collections.abc import Callable
from typing import Any

import keras
from classifiers import CLASSES, INPUT_SHAPE, floatx, functional, nested
from conditioned import conditioned
from keras import layers

from zoo.case import Case, bare_logits, photographs
from zoo.heads import flattened
from zoo.parts import GRID, classifier, pooled_softmax, without_layer

HALF = 2e-2
"""Of heatmaps, and of predictions: two roads to the same half-precision network round differently."""


def under(policy: str, build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    """Return what builds the model with all its layers under `policy`."""

    def build_under() -> keras.Model:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return build()
        finally:
            keras.config.set_dtype_policy(before)

    return build_under


def in_double(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    """Return what builds the model in float64."""

    def build_in_double() -> keras.Model:
        with floatx("float64"):
            return build()

    return build_in_double


def softmax_in(dtype: str) -> Callable[[], keras.Model]:
    """Return what builds a classifier with a softmax in `dtype`: float32, as Keras's guide to mixed precision asks."""

    def end(x: Any) -> Any:
        x = layers.Dense(CLASSES, name="scores")(layers.GlobalAveragePooling2D(name="pool")(x))
        return layers.Activation("softmax", dtype=dtype, name="end")(x)

    return classifier(end)


def uncancelled(model: keras.Model, x: Any) -> keras.Model:
    """Condition a network so that no dense kernel has terms which cancel.

    bfloat16 keeps 8 bits: of a map that is what remains of large terms, the model itself knows little more than noise.
    """
    for layer in conditioned(model, x)._flatten_layers():
        if isinstance(layer, layers.Dense):
            layer.kernel.assign(keras.ops.abs(layer.kernel))
    return model


def _half(name: str, policy: str, build: Callable[[], keras.Model], **more: Any) -> Case:
    more = {"layer": "features", "grid": GRID, "double": build, **more}
    return Case(
        family="precision",
        name=f"{policy}, {name}",
        build=under(policy, build),
        inputs=photographs(*INPUT_SHAPE),
        condition=uncancelled,
        tolerance=HALF,
        prediction_tolerance=HALF,
        **more,
    )


def _halves(policy: str) -> tuple[Case, ...]:
    return (
        _half(
            "softmax in float32",
            policy,
            softmax_in("float32"),
            double=softmax_in("float64"),
            logits=without_layer("end"),
        ),
        _half("to the end", policy, functional),
        _half("flatten, dense", policy, classifier(flattened)),
        _half("nested", policy, nested, layer="base/features"),
    )


def _double(name: str, build: Callable[[], keras.Model], **more: Any) -> Case:
    more = {"layer": "features", "grid": GRID, **more}
    double = in_double(build)
    return Case(family="precision", name=f"float64, {name}", build=double, inputs=photographs(*INPUT_SHAPE), **more)


CASES = (
    *_halves("mixed_float16"),
    *_halves("mixed_bfloat16"),
    _half("all of it", "bfloat16", classifier(pooled_softmax)),
    _double("softmax", classifier(pooled_softmax)),
    _double("residual, depthwise", functional),
    _double("logits", classifier(lambda x: layers.Dense(3)(layers.GlobalMaxPooling2D()(x))), logits=bare_logits),
)
