"""Trace the classifier's forward pass once, with every weight left out of the graph."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from gradcam_export.errors import UnsupportedHead
from gradcam_export.keras_model.tap import LayerOutput, tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

    from gradcam_export.graph.images import Preprocessing


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """Tensors of one forward pass, in inference mode."""

    images: tf.Tensor
    """uint8 `[B,H,W,C]`."""
    predictions: tf.Tensor
    """`[B,N]`, whatever float type the model computes in."""
    outputs: tuple[LayerOutput, ...]
    """What each layer returned, in order of return."""


@dataclass(frozen=True, kw_only=True)
class TracedClassifier:
    """The forward graph of a classifier; weights are placeholders, so that no copy of them lies in the graph."""

    graph: Any
    forward: ForwardPass
    weights: Mapping[str, np.ndarray[Any, Any]]
    """Value of each placeholder (or captured resource) by its operation's name."""


@contextmanager
def inlined() -> Iterator[None]:
    """Trace inner `tf.function`s in place.

    Keras (3.15) hides XLA-compiled ones in grouped and channels-first convolutions, which a stock server refuses
    to run, and gradients stop at a user's own.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(run_eagerly=True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def forward(model: keras.Model, images: tf.Tensor, preprocessing: Preprocessing) -> ForwardPass:
    """Add the forward pass of `model` to the current graph.

    Args:
        model: a built classifier.
        images: uint8 `[B,H,W,C]`.
        preprocessing: pixels → the model's input.

    Raises:
        UnsupportedHead: the model does not return one score vector per image.
    """
    with tap(model) as outputs:
        result = model(preprocessing(images), training=False)
    return ForwardPass(images=images, predictions=_score_vectors(result, model.name), outputs=tuple(outputs))


def trace(model: keras.Model, input_shape: tuple[int, int, int], preprocessing: Preprocessing) -> TracedClassifier:
    """Trace `model` on uint8 images of `input_shape` `(H, W, C)`.

    Raises:
        UnsupportedHead: the model does not return one score vector per image.
    """
    passes: list[ForwardPass] = []
    weights: dict[str, np.ndarray[Any, Any]] = {}
    variables = [(variable, variable.value.numpy()) for variable in model.variables]

    @tf.function(input_signature=[images_spec(input_shape)], autograph=False)
    def classify(images: tf.Tensor) -> tf.Tensor:
        bindings = []
        for index, (variable, value) in enumerate(variables):
            placeholder = tf.compat.v1.placeholder(value.dtype, value.shape, name=f"weight_{index}")
            weights[placeholder.op.name] = value
            bindings.append((variable, placeholder))
        with keras.StatelessScope(state_mapping=bindings):
            passes.append(forward(model, images, preprocessing))
        return passes[0].predictions

    with inlined():
        graph = classify.get_concrete_function().graph
    # Constants of layers (Normalization) and raw tf.Variables arrive as captures, not as Keras variables.
    captured = {id(variable.handle): variable for variable in graph.variables}
    for outside, inside in graph.captures:
        weights[inside.op.name] = captured.get(id(outside), outside).numpy()
    return TracedClassifier(graph=graph, forward=passes[0], weights=weights)


def images_spec(input_shape: tuple[int, int, int]) -> tf.TensorSpec:
    """Return the signature's spec of uint8 images `[B,H,W,C]`."""
    return tf.TensorSpec([None, *input_shape], tf.uint8, name="images")


def _score_vectors(result: Any, name: str) -> tf.Tensor:
    if not tf.is_tensor(result):
        raise UnsupportedHead(
            f"{name!r} returns a {type(result).__name__} of {len(result)} outputs; one score vector per image "
            "is needed."
        )
    shape = result.shape
    if shape.rank == 1:
        return tf.expand_dims(result, axis=-1)
    if shape.rank is None or shape[-1] is None or any(n != 1 for n in shape[1:-1]):
        raise UnsupportedHead(
            f"{name!r} returns {shape} per batch; one score vector [B,N] per image is needed "
            "(a model that answers for every pixel is a segmentation model)."
        )
    return result if shape.rank == 2 else tf.reshape(result, [-1, shape[-1]])
