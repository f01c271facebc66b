"""What the live model answers when it is asked otherwise: the values of faults that only it can show."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from gradcam_export.errors import GradcamExportError
from gradcam_export.graph.explain import make_choice
from gradcam_export.graph.images import MODES
from gradcam_export.graph.target import spatial_outputs
from gradcam_export.graph.trace import Classifier, forward, inlined, input_specs
from gradcam_export.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradcam_export.expectation.live_model import LiveModel, Values
    from gradcam_export.options import ExportOptions, ScoreKind

_EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
_LAYERS_BEFORE, _LAYERS_AFTER = 8, 2


def alternative_values(live: LiveModel, expected: Mapping[str, Any]) -> Values:
    """Return the values of known faults, as `checks.suspects.ALTERNATIVES` names them, and the folded weights.

    Args:
        live: the model.
        expected: what `LiveModel.values` returned.
    """
    inputs = {name.removeprefix("inputs/"): value for name, value in expected.items() if name.startswith("inputs/")}
    found: Values = {}
    for what, answer in _alternatives(live, inputs, expected["answered"], expected["predictions"].shape[1]):
        try:
            values = answer()
        except (GradcamExportError, ValueError, tf.errors.OpError):
            continue  # What does not exist, or cannot be computed, is no suspect.
        found |= {f"alternatives/{what}/{name}": value for name, value in values.items()}
    return found | live.folded_weights()


def _alternatives(
    live: LiveModel, inputs: Values, answered: np.ndarray[Any, Any], width: int
) -> Iterator[tuple[str, Callable[[], Values]]]:
    """Yield what is otherwise, and what computes the answer."""
    classifier, options = live.classifier, live.options
    main = classifier.inputs.main
    ask = partial(_ask, classifier, options, inputs)
    if main.is_image:
        for mode in MODES:
            if mode != classifier.preprocessing.name:
                asked = replace(options, preprocessing=mode)
                what = f"the preprocessing is {mode!r} instead of {classifier.preprocessing.name!r}"
                yield what, partial(_ask, live.with_options(asked), asked, inputs)
        swapped = inputs | {main.name: inputs[main.name][..., ::-1]}
        yield "red and blue are swapped (BGR for RGB)", partial(_ask, classifier, options, swapped)
    norms = [one for one in live.model._flatten_layers() if type(one).__name__ == "BatchNormalization"]
    if norms:
        yield "batch normalisation is in training mode", partial(_in_training_mode, norms, ask)
        for epsilon in _EPSILONS:
            what = f"batch normalisation is folded with epsilon {epsilon:g}"
            yield what, partial(_with_epsilon, norms, epsilon, ask)
    yield from _other_maps(live, inputs, answered, max(width, 2))


def _other_maps(
    live: LiveModel, inputs: Values, answered: np.ndarray[Any, Any], classes: int
) -> Iterator[tuple[str, Callable[[], Values]]]:
    options = live.options
    score: ScoreKind = "probability" if options.score == "logit" else "logit"
    said = {"probability": "probability (the gradient goes through the softmax)", "logit": "logit"}
    what = f"it explains the {said[score]} instead of the {options.score}"
    yield what, partial(_evidence, live, replace(options, score=score), inputs, answered)
    for shift, which in ((1, "the next class"), (-1, "the class before")):
        moved = (answered + shift) % classes
        yield f"class index off by one: it explains {which}", partial(_evidence, live, options, inputs, moved)
    first = np.full_like(answered, answered[0])
    yield "it explains the class of row 0 in all rows", partial(_evidence, live, options, inputs, first)
    for layer in _layers_around(live.classifier, options):
        asked = replace(options, layer=layer)
        yield f"it is the map of layer {layer!r}", partial(_evidence, live, asked, inputs, answered)


def _ask(classifier: Classifier, options: ExportOptions, inputs: Values) -> Values:
    """Return the predictions of a whole batch at once."""

    @tf.function(input_signature=[input_specs(classifier.inputs)], autograph=False)
    def predict(given: dict[str, tf.Tensor]) -> tf.Tensor:
        # Whatever would be assigned, moving averages for one, stays in here.
        with keras.StatelessScope():
            return make_choice(forward(classifier, given), options).head.predictions

    with inlined():
        concrete = predict.get_concrete_function()
    return {"predictions": concrete({name: tf.constant(value) for name, value in inputs.items()}).numpy()}


def _evidence(live: LiveModel, options: ExportOptions, inputs: Values, classes: np.ndarray[Any, Any]) -> Values:
    """Return features and gradients of the classes' scores, row by row."""
    classifier = live.with_options(options)
    method = options.methods[0]

    @tf.function(input_signature=[input_specs(classifier.inputs), tf.TensorSpec([None], tf.int32)], autograph=False)
    def explain(given: dict[str, tf.Tensor], asked: tf.Tensor) -> dict[str, tf.Tensor]:
        evidence = make_choice(forward(classifier, given), options).evidence(asked)
        return {"features": evidence.features, "gradients": evidence.gradients(METHODS[method])}

    with inlined():
        concrete = explain.get_concrete_function()
    rows = [
        concrete({name: tf.constant(value[[row]]) for name, value in inputs.items()}, tf.constant(classes[[row]]))
        for row in range(len(classes))
    ]
    return {name: np.concatenate([row[name].numpy() for row in rows]) for name in ("features", "gradients")}


def _layers_around(classifier: Classifier, options: ExportOptions) -> list[str]:
    """Return the layers whose maps may have been taken for the target's: those before it, and the next ones."""
    names: list[str] = []
    chosen: list[str] = []

    @tf.function(input_signature=[input_specs(classifier.inputs)], autograph=False)
    def look(given: dict[str, tf.Tensor]) -> tf.Tensor:
        found = forward(classifier, given)
        names.extend(spatial_outputs(found))
        chosen.append(make_choice(found, options).target.feature_map.name)
        return found.predictions

    with inlined():
        look.get_concrete_function()
    place = names.index(chosen[0]) if chosen[0] in names else len(names)
    return names[max(0, place - _LAYERS_BEFORE) : place][::-1] + names[place + 1 : place + 1 + _LAYERS_AFTER]


def _in_training_mode(norms: list[Any], ask: Callable[[], Values]) -> Values:
    with ExitStack() as stack:
        for norm in norms:
            stack.enter_context(_trained(norm))
        return ask()


@contextmanager
def _trained(norm: Any) -> Iterator[None]:
    """Let a layer normalise by the batch; plain assignment would be tracked by Keras."""
    call = type(norm).call

    def normalise(x: Any, training: Any = None, **keywords: Any) -> Any:
        del training
        return call(norm, x, training=True, **keywords)

    object.__setattr__(norm, "call", normalise)
    try:
        yield
    finally:
        object.__delattr__(norm, "call")


def _with_epsilon(norms: list[Any], epsilon: float, ask: Callable[[], Values]) -> Values:
    before = [norm.epsilon for norm in norms]
    try:
        for norm in norms:
            norm.epsilon = epsilon
        return ask()
    finally:
        for norm, value in zip(norms, before, strict=True):
            norm.epsilon = value
