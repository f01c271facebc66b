"""What the live, unfolded model answers: the values that a written version must reproduce."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.errors import ExplanationError
from gradcam_export.graph.explain import make_choice, resolved_class
from gradcam_export.graph.live_rescoring import LiveRescorer
from gradcam_export.graph.trace import forward, inlined, input_specs
from gradcam_export.methods import METHODS, CamMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradcam_export.graph.explain import Choice
    from gradcam_export.graph.trace import Classifier, ForwardPass
    from gradcam_export.options import ExportOptions

Array = np.ndarray[Any, Any]
Values = dict[str, Array]

RESCORED_ROWS = 1
"""How many images the methods that ask again are verified with: each takes a forward pass a channel."""

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
        `METHOD/channel_scores` `[rows,n]`, `METHOD/score` `[rows]` and `METHOD/score_rounding` `[rows]`, by how much
        such scores differ when what was altered is shaken by its rounding; and `rounding`, the relative error of the
        float type that the features were computed in, or the version computes them in, whichever is larger.

    Raises:
        ExplanationError: this machine cannot run the model or its gradients (grouped convolutions have none on CPUs).
    """
    with _naming_obstacles(classifier.model.name):
        return _values(_LiveClassifier(classifier, options), inputs)


def live_rows(classifier: Classifier, inputs: Values, options: ExportOptions) -> Iterator[Values]:
    """Run the live model on one row of `inputs` after the other, for the predicted class.

    Args:
        classifier: its own variables in use.
        inputs: `[n,...]` by the signatures' names.
        options: what is explained.

    Yields:
        Of each row `answered`, `features`, `gradients`, `METHOD/gradients` and `rounding`, as `live_values` names them.

    Raises:
        ExplanationError: as `live_values`.
    """
    with _naming_obstacles(classifier.model.name):
        live = _LiveClassifier(classifier, options)
        for row in range(len(next(iter(inputs.values())))):
            one = {name: value[[row]] for name, value in inputs.items()}
            found = live.run(one, np.array([contract.PREDICTED_CLASS], np.int32))
            yield {name: found[name] for name in found if name not in _INNER} | {"rounding": live.rounding}


@contextmanager
def _naming_obstacles(model: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        # The first line says that a graph failed, and a traceback follows; the reason comes last, before the node.
        reason = [line for line in error.message.splitlines() if line.strip() and "[[{{" not in line][-1].strip()
        raise ExplanationError(
            f"{model!r} does not run on this machine with its gradients: {reason} "
            "Choose a later layer with --layer, or export where it runs."
        ) from error


def _values(live: _LiveClassifier, inputs: Values) -> Values:
    count = len(next(iter(inputs.values())))
    predicted = np.full(count, contract.PREDICTED_CLASS, np.int32)
    first = live.run(inputs, predicted)
    other = _second_best(first["predictions"], binary=live.choice.head.binary)
    second = live.run(inputs, other)
    values = {name: np.concatenate([first[name], second[name]]) for name in first if name not in _INNER}
    values["asked"] = np.concatenate([predicted, other])
    values["rounding"] = live.rounding
    values |= {f"inputs/{name}": np.concatenate([value, value]) for name, value in inputs.items()}
    few = {name: value[:RESCORED_ROWS] for name, value in first.items()}
    for method in live.choice.methods:
        if METHODS[method].alters:
            of_few = {name: value[:RESCORED_ROWS] for name, value in inputs.items()}
            found = live.rescorer.rescored(method, few, of_few)
            values |= {f"{method}/{name}": value for name, value in found.items()}
    return values


class _LiveClassifier:
    """The live model's forward pass, entered at its inputs, at what the model gets, or at the feature map."""

    def __init__(self, classifier: Classifier, options: ExportOptions) -> None:
        self.inputs, self._precision = classifier.inputs, options.precision
        self._specs = input_specs(classifier.inputs)
        self._beside: dict[str, list[str]] = {}
        classes = tf.TensorSpec([None], tf.int32)

        @tf.function(input_signature=[self._specs, classes], autograph=False)
        def explain(inputs: dict[str, tf.Tensor], asked: tf.Tensor) -> dict[str, tf.Tensor]:
            self.choice, tensors = _explained(forward(classifier, inputs), options, asked)
            return tensors

        with inlined():
            self._run = explain.get_concrete_function()
            self._from = self._entries(classifier, options) if self.choice.asks_again else {}

    @property
    def rescorer(self) -> LiveRescorer:
        """What asks it again."""
        layout, main = self.choice.layout, self.inputs.main
        return LiveRescorer(scores=self.scores, layout=layout, main=main, rounding=float(self.rounding))

    @property
    def rounding(self) -> Array:
        """Relative error of the features, in the model or in the version, whichever is coarser."""
        types = (self.choice.target.feature_map.tensor.dtype.name, self._precision)
        return np.array(max(_ROUNDING.get(one, 1e-5) for one in types))

    def _entries(self, classifier: Classifier, options: ExportOptions) -> dict[str, Callable[..., tf.Tensor]]:
        """Return the explained scores as functions of an inner tensor and the inputs beside it."""
        tensors: dict[str, tf.Tensor] = {}

        def score(*arguments: tf.Tensor) -> tf.Tensor:
            found = forward(classifier, dict(zip(self._specs, arguments, strict=True)))
            choice = make_choice(found, options)
            tensors.update(found.inputs)
            tensors["model_input"], tensors["feature_map"] = found.model_input, choice.target.feature_map.tensor
            tensors["scores"] = choice.head.explained
            return tensors["scores"]

        # Unlike a tf.function it can be entered anywhere, but not with gradients of loops in it (2.20).
        wrapped = tf.compat.v1.wrap_function(score, list(self._specs.values()))
        entries = {}
        for start in ("model_input", "feature_map"):
            self._beside[start] = [name for name in self._specs if tensors[name] is not tensors[start]]
            feeds = [tensors[start], *(tensors[name] for name in self._beside[start])]
            entries[start] = wrapped.prune(feeds, tensors["scores"])
        return entries

    def run(self, inputs: Values, classes: Array) -> Values:
        """Return every value for the inputs."""
        # One image at a time: the activations of a batch would be most of the memory an export needs.
        rows = [
            self._run({name: tf.constant(value[[row]]) for name, value in inputs.items()}, tf.constant(classes[[row]]))
            for row in range(len(classes))
        ]
        return {name: np.concatenate([row[name].numpy() for row in rows]) for name in rows[0]}

    def scores(self, start: str, altered: Array, inputs: Values) -> Array:
        """Return the explained scores `[n,N]` of altered values of the tensor `start`, all of one image."""
        beside = [tf.repeat(inputs[name], len(altered), axis=0) for name in self._beside[start]]
        return self._from[start](tf.constant(altered), *beside).numpy().astype(np.float64)


def _explained(found: ForwardPass, options: ExportOptions, asked: tf.Tensor) -> tuple[Choice, dict[str, tf.Tensor]]:
    """Return what is explained, and all that is compared."""
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
        if not METHODS[method].alters:
            tensors[gradients_of(method)] = evidence.gradients(METHODS[method])
    return choice, tensors


def gradients_of(method: str) -> str:
    """Return the name of the gradients that a method takes: its own, where it has a direction of its own."""
    own = type(METHODS[method]).direction is not CamMethod.direction
    return f"{method}/gradients" if own else "gradients"


def _second_best(predictions: Array, *, binary: bool) -> Array:
    """Return the class of the second-highest score: of two classes the one not predicted, of one that one."""
    if predictions.shape[-1] == 1:
        return (binary & (predictions[:, 0] <= 0.5)).astype(np.int32)
    return np.argsort(predictions, axis=-1)[:, -2].astype(np.int32)
