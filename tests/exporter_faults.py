"""Faults of an exporter, each alone, and what the gate has to say of it."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf
from gradcam_export import module
from gradcam_export.graph import core, explain, images
from gradcam_export.graph.logits import Head
from gradcam_export.methods.gradcam import GradCam
from keras import layers
from mutations import EXPORT, GRID, Fault


def patched(owner: Any, name: str, wrong: Callable[..., Any]) -> Callable[[keras.Model], Any]:
    """Return what replaces `owner.name` by `wrong(right, ...)`."""
    right = getattr(owner, name)

    def replaced(*arguments: Any, **keywords: Any) -> Any:
        return wrong(right, *arguments, **keywords)

    return lambda _: mock.patch.object(owner, name, replaced)


def normalised_as(wrong: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]) -> Any:
    """Return what finishes maps by `wrong(signed, raised, peak)`, `[B,P]`, `[B,P]` and `[B,1]`."""

    def normalise(signed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        raised = tf.nn.relu(signed)
        return wrong(signed, raised, tf.reduce_max(raised, axis=1, keepdims=True))

    @contextmanager
    def context(model: keras.Model) -> Iterator[None]:
        with mock.patch.object(explain, "normalise", normalise), mock.patch.object(core, "normalise", normalise):
            yield

    return context


def divided(values: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(values, by)


def moved(change: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    """Return what moves the positions of each heatmap `[B,h,w]`."""

    def wrong(signed: tf.Tensor, raised: tf.Tensor, peak: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps = change(tf.reshape(divided(raised, peak), [-1, GRID, GRID]))
        return tf.reshape(maps, [-1, GRID * GRID]), peak[:, 0]

    return normalised_as(wrong)


def preprocessed_as(function: Callable[[Any], Any]) -> Any:
    return lambda _: mock.patch.dict(images.MODES, {"unit": function})


def called_as(kind: type, call: Callable[..., Any]) -> Any:
    """Return what replaces `call` of a kind of layer by `call(right, layer, x)`."""
    right = kind.call
    return lambda _: mock.patch.object(kind, "call", lambda self, x, *_, **__: call(right, self, x))


def with_weights(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Any:
    """Return what changes the folded weights."""

    def wrong(right: Any, *arguments: Any) -> Any:
        folded = right(*arguments)
        return dataclasses.replace(folded, weights={**folded.weights, **change(dict(folded.weights))})

    return patched(EXPORT, "fold", wrong)


def one_value_perturbed(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name, value = max(weights.items(), key=lambda weight: weight[1].size)
    perturbed = value.copy()
    perturbed.flat[np.abs(value).argmax()] *= 1.01
    return {name: perturbed}


def rounded_to_bfloat16(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value.astype(ml_dtypes.bfloat16).astype(np.float32) for name, value in weights.items()}


@contextmanager
def of_epsilon(model: keras.Model, epsilon: float = 1e-5) -> Iterator[None]:
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    before = [norm.epsilon for norm in norms]
    for norm in norms:
        norm.epsilon = epsilon
    yield
    for norm, value in zip(norms, before, strict=True):
        norm.epsilon = value


@contextmanager
def with_temperature(model: keras.Model) -> Iterator[None]:
    scores = model.get_layer("scores")
    right, scores.activation = scores.activation, lambda logits: keras.ops.softmax(logits / 2)
    yield
    scores.activation = right


def one_layer_too_early(right: Any, forward: Any, layer: str | None) -> Any:
    """Take the layer before, under the name of the right one."""
    target = right(forward, "norm")
    return dataclasses.replace(target, feature_map=dataclasses.replace(target.feature_map, name="features"))


class SwappedLabels(module.ExplainableClassifier):
    def __init__(self, *arguments: Any, labels: Any, **keywords: Any) -> None:
        super().__init__(*arguments, labels=[labels[0], labels[2], labels[1], *labels[3:]], **keywords)


def averaged(right: Any, self: GradCam, evidence: Any) -> tf.Tensor:
    return tf.einsum("bpk,k->bp", evidence.features, tf.reduce_mean(evidence.gradients, axis=[0, 1]))


def heatmap_of_row_0(right: Any, forward: Any, choice: Any, classes: tf.Tensor) -> Any:
    return right(forward, choice, tf.fill(tf.shape(classes), classes[0]))


NAN, PEAK_AFTER = "NaN on a zero map", "peak after normalisation"

ROAD = (
    Fault(
        "class index off by one",
        "class index off by one",
        patched(explain, "resolved_class", lambda right, head, index: (right(head, index) + 1) % head.classes),
    ),
    Fault(
        "preprocessing of another mode",
        r"predictions.*the preprocessing is 'tf' instead of 'unit'",
        preprocessed_as(images.MODES["tf"]),
    ),
    Fault(
        "RGB and BGR swapped",
        r"predictions.*red and blue are swapped \(BGR for RGB\)",
        preprocessed_as(lambda pixels: pixels[..., ::-1] / 255.0),
    ),
    Fault(
        "BatchNorm in training mode",
        r"predictions.*batch normalisation is in training mode.*rows depend on each other",
        called_as(layers.BatchNormalization, lambda right, layer, x: right(layer, x, training=True)),
    ),
    Fault(
        "dropout active",
        "two calls differ, as where dropout or noise is active",
        called_as(layers.Dropout, lambda _, layer, x: tf.nn.dropout(x, layer.rate)),
    ),
    Fault(
        "heatmap of the argmax of row 0",
        "heatmap of gradcam.*it explains the class of row 0 in all rows",
        patched(explain, "_heatmaps", heatmap_of_row_0),
    ),
    Fault(
        "gradient averaged over the batch",
        "heatmap of gradcam.*the gradient is averaged over the batch",
        patched(GradCam, "combine", averaged),
    ),
    Fault(
        "normalised by the batch maximum",
        "heatmap of gradcam.*it is normalised by the maximum of the batch.*rows depend on each other",
        normalised_as(lambda _, raised, peak: (raised / tf.reduce_max(raised), peak[:, 0])),
    ),
    Fault(
        "softmax gradient instead of logit",
        r"heatmap of gradcam.*it explains the probability \(the gradient goes through the softmax\)",
        patched(explain, "find_head", lambda right, predictions, _: right(predictions, "probability")),
    ),
    Fault(
        "missing ReLU",
        "heatmap of gradcam.*ReLU is missing.*heatmap spans -",
        normalised_as(
            lambda signed, _, peak: (
                divided(signed, tf.reduce_max(tf.abs(signed), axis=1, keepdims=True)),
                peak[:, 0],
            )
        ),
    ),
    Fault(
        "transposed map",
        "heatmap of gradcam.*it is transposed",
        moved(lambda maps: tf.transpose(maps, [0, 2, 1])),
    ),
    Fault(
        "one layer too early",
        "heatmap of gradcam.*it is the map of layer 'norm'",
        patched(explain, "choose", one_layer_too_early),
    ),
    Fault(
        NAN,
        "a heatmap is NaN where nothing raised the score",
        normalised_as(lambda _, raised, peak: (raised / peak, peak[:, 0])),
    ),
    Fault(
        "eps normalisation",
        r"instead of 1: it is not divided by its own maximum but by that plus eps = 1\.?\d*e-06",
        normalised_as(lambda _, raised, peak: (raised / (peak + 1e-6), peak[:, 0])),
    ),
    Fault(
        "one weight perturbed by 1 %",
        r"predictions.*weight '.*convolution.*' is not the model's: 1 of \d+ values differ by up to 0\.01 ",
        with_weights(one_value_perturbed),
    ),
    Fault(
        "folded with the wrong epsilon",
        "predictions.*batch normalisation is folded with epsilon 1e-05",
        of_epsilon,
    ),
    Fault(
        "weights rounded to bfloat16",
        r"predictions.*2 of 2 weights are rounded to bfloat16",
        with_weights(rounded_to_bfloat16),
        large=True,
    ),
    Fault(
        "temperature", r"predictions.*the logits are multiplied by 0\.5 \(a temperature\)", with_temperature, large=True
    ),
    Fault(
        "top_k unsorted",
        "top_k is not sorted by falling score",
        patched(Head, "best_classes", lambda right, head, count: right(head, count)[:, ::-1]),
    ),
    Fault(
        PEAK_AFTER,
        "heatmap_peak of gradcam",
        normalised_as(lambda _, raised, peak: (divided(raised, peak), tf.reduce_max(divided(raised, peak), axis=1))),
    ),
    Fault(
        "sign turned",
        "heatmap of gradcam.*its sign is turned: it shows what speaks against the class",
        patched(GradCam, "combine", lambda right, *arguments: -right(*arguments)),
        large=True,
    ),
    Fault(
        "labels swapped",
        "the graph holds other labels than the manifest: 'class_1' and 'class_2' are swapped",
        lambda _: mock.patch.object(EXPORT, "ExplainableClassifier", SwappedLabels),
    ),
    Fault(
        "labels one short",
        "4 labels for 5 classes: one short",
        patched(EXPORT, "labels_of", lambda right, *arguments: right(*arguments)[:-1]),
    ),
)
"""Faults of an exporter."""
