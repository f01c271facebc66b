"""What the live, unfolded model answers: the values that a written version must reproduce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.graph.explain import make_choice, resolved_class
from gradcam_export.graph.rescoring import interpolation
from gradcam_export.graph.trace import forward, inlined, input_specs
from gradcam_export.methods import METHODS, CamMethod

if TYPE_CHECKING:
    from gradcam_export.graph.explain import Choice
    from gradcam_export.graph.layout import Layout
    from gradcam_export.graph.trace import Classifier, ForwardPass
    from gradcam_export.keras_model.inputs import ModelInput
    from gradcam_export.options import ExportOptions

Array = np.ndarray[Any, Any]
Values = dict[str, Array]

RESCORED_ROWS = 1
"""How many images the methods that ask again are verified with: each takes a forward pass a channel."""
RESCORED_AT_ONCE = 16

_ROUNDING = {"float16": 2e-3, "bfloat16": 1e-2}
"""Relative error of a deep network's features, which cancellation in a map magnifies; of other types 1e-5."""

_INNER = ("model_input", "feature_map", "direction", "scores")
"""Values that only the methods that ask again are checked with."""


def live_values(classifier: Classifier, inputs: Values, options: ExportOptions) -> Values:
    """Run the live model on `inputs`, once for the predicted classes and once for the second-best ones.

    Args:
        classifier: its own variables in use.
        inputs: `[B,...]` by the signatures' names.
        options: what is explained.

    Returns:
        By name: the inputs (`inputs/NAME`) and the classes `asked` for; `class_index` `[B]` and `predictions` `[B,N]`
        answered; `features` `[B,P,K]`; `gradients` `[B,P,K]` of the class score and `METHOD/gradients` of a method with
        a direction of its own; of methods that ask again, for the first `RESCORED_ROWS` images, `METHOD/channels` and
        `METHOD/channel_scores` `[rows,n]` and `METHOD/score` `[rows]`; and `rounding`, the relative error of the float
        type that the features were computed in.
    """
    live = _LiveClassifier(classifier, options)
    count = len(next(iter(inputs.values())))
    predicted = np.full(count, contract.PREDICTED_CLASS, np.int32)
    first = live.run(inputs, predicted)
    other = _second_best(first["predictions"], binary=live.choice.head.binary)
    second = live.run(inputs, other)
    values = {name: np.concatenate([first[name], second[name]]) for name in first if name not in _INNER}
    values["asked"] = np.concatenate([predicted, other])
    values["rounding"] = np.array(_ROUNDING.get(live.choice.target.feature_map.tensor.dtype.name, 1e-5))
    values |= {f"inputs/{name}": np.concatenate([value, value]) for name, value in inputs.items()}
    few = {name: value[:RESCORED_ROWS] for name, value in first.items()}
    for method in live.choice.methods:
        if METHODS[method].asks_again:
            found = _rescored(live, method, few, {name: value[:RESCORED_ROWS] for name, value in inputs.items()})
            values |= {f"{method}/{name}": value for name, value in found.items()}
    return values


class _LiveClassifier:
    """The live model's forward pass, entered at its inputs, at what the model gets, or at the feature map."""

    def __init__(self, classifier: Classifier, options: ExportOptions) -> None:
        self.inputs = classifier.inputs
        specs = input_specs(classifier.inputs)
        tensors: dict[str, tf.Tensor] = {}

        def explain(*arguments: tf.Tensor) -> tf.Tensor:
            given = dict(zip(specs, arguments, strict=False))
            self.choice, found = _explained(forward(classifier, given), options, arguments[-1])
            tensors.update({**found, **given, contract.CLASS_INDEX: arguments[-1]})
            return found["predictions"]

        with inlined():
            classes = tf.TensorSpec([None], tf.int32)
            wrapped = tf.compat.v1.wrap_function(explain, [*specs.values(), classes])
        given, self._inner = [tensors[name] for name in specs], tensors
        self.outputs = [name for name in tensors if name not in (*specs, contract.CLASS_INDEX)]
        fetches = [tensors[name] for name in self.outputs]
        self._run = wrapped.prune([*given, tensors[contract.CLASS_INDEX]], fetches)
        self._from = {
            start: wrapped.prune(
                [tensors[start], *(one for one in given if one is not tensors[start])], tensors["scores"]
            )
            for start in ("model_input", "feature_map")
        }

    def run(self, inputs: Values, classes: Array) -> Values:
        """Return every value for the inputs."""
        # One image at a time: the activations of a batch would be most of the memory an export needs.
        rows = [
            self._run(*(tf.constant(inputs[one.name][[row]]) for one in self.inputs), tf.constant(classes[[row]]))
            for row in range(len(classes))
        ]
        found = [np.concatenate([row[index].numpy() for row in rows]) for index in range(len(self.outputs))]
        return dict(zip(self.outputs, found, strict=True))

    def scores(self, start: str, altered: Array, inputs: Values) -> Array:
        """Return the explained scores `[n,N]` of altered values of the tensor `start`, all of one image."""
        beside = [
            tf.repeat(inputs[one.name], len(altered), axis=0)
            for one in self.inputs
            if self._inner[one.name] is not self._inner[start]
        ]
        return self._from[start](tf.constant(altered), *beside).numpy().astype(np.float64)


def _explained(found: ForwardPass, options: ExportOptions, asked: tf.Tensor) -> tuple[Choice, dict[str, tf.Tensor]]:
    """Return what is explained, and all tensors that are compared or entered at."""
    choice = make_choice(found, options)
    answered = resolved_class(choice.head, asked)
    evidence = choice.evidence(answered)
    tensors = {
        "predictions": choice.head.predictions,
        "answered": answered,
        "features": evidence.features,
        "direction": tf.cast(choice.head.direction(answered), tf.float32),
        "scores": choice.head.explained,
        "model_input": found.model_input,
        "feature_map": choice.target.feature_map.tensor,
    }
    for method in choice.methods:
        if not METHODS[method].asks_again:
            tensors[gradients_of(method)] = evidence.gradients(METHODS[method])
    return choice, tensors


def gradients_of(method: str) -> str:
    """Return the name of the gradients that a method takes: its own, where it has a direction of its own."""
    own = type(METHODS[method]).direction is not CamMethod.direction
    return f"{method}/gradients" if own else "gradients"


def _rescored(live: _LiveClassifier, method: str, values: Values, inputs: Values) -> Values:
    """Ask the live model again, one image after the other, in numpy and plainly."""
    features, direction = values["features"].astype(np.float64), values["direction"]
    if method == "ablationcam":
        channels = np.tile(np.arange(features.shape[-1]), (len(features), 1))
    else:
        count = getattr(METHODS[method], "channels", features.shape[-1])
        channels = np.argsort(-features.std(axis=1), axis=1, kind="stable")[:, :count]
    scores = np.zeros(channels.shape)
    for row, of_row in enumerate(channels):
        one = {name: value[[row]] for name, value in inputs.items()}
        for first in range(0, len(of_row), RESCORED_AT_ONCE):
            part = of_row[first : first + RESCORED_AT_ONCE]
            if method == "ablationcam":
                start, altered = "feature_map", _without(values["feature_map"][row], part, live.choice.layout)
            else:
                start = "model_input"
                masks = _masks(features[row][:, part].T, live.choice.layout, live.inputs.main)
                altered = (values["model_input"][row] * masks).astype(values["model_input"].dtype)
            scores[row, first : first + len(part)] = live.scores(start, altered, one) @ direction[row]
    score = np.einsum("bn,bn->b", values["scores"].astype(np.float64), direction)
    return {"channels": channels, "channel_scores": scores, "score": score}


def _without(feature_map: Array, channels: Array, layout: Layout) -> Array:
    altered = np.repeat(feature_map[np.newaxis], len(channels), axis=0)
    for one, channel in zip(altered, channels, strict=True):
        one[(channel,) if layout.channels_first else (..., channel)] = 0
    return altered


def _masks(maps: Array, layout: Layout, main: ModelInput) -> Array:
    """Upsample maps `[n,P]`, bring each to 0..1, and give it the model input's axes."""
    masks = maps.reshape(-1, *layout.grid)
    for axis, size in enumerate(main.size, start=1):
        masks = np.moveaxis(np.tensordot(masks, interpolation(masks.shape[axis], size), (axis, 1)), -1, axis)
    flat = masks.reshape(len(maps), -1)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    scaled = (flat - low) / np.where(high > low, high - low, np.inf)
    return np.expand_dims(scaled.reshape(masks.shape), 1 if main.channels_first else -1)


def _second_best(predictions: Array, *, binary: bool) -> Array:
    """Return the class of the second-highest score: of two classes the one not predicted, of one that one."""
    if predictions.shape[-1] == 1:
        return (binary & (predictions[:, 0] <= 0.5)).astype(np.int32)
    return np.argsort(predictions, axis=-1)[:, -2].astype(np.int32)
