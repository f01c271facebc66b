"""Trace the classifier's forward pass once, with every weight left out of the graph."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from gradcam_export.errors import GradcamExportError, LoadError, UnsupportedHead
from gradcam_export.graph.images import Preprocessing, resolve_preprocessing
from gradcam_export.graph.unservable import leading_to, refuse_unservable
from gradcam_export.keras_model.tap import LayerOutput, tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

    from gradcam_export.keras_model.inputs import ClassifierInputs, ModelInput
    from gradcam_export.keras_model.load import LoadedClassifier
    from gradcam_export.options import ExportOptions


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model with all that it takes to call it: what is traced, and what is run live to compare with."""

    model: Any
    """A Keras model."""
    inputs: ClassifierInputs
    preprocessing: Preprocessing
    """Pixels → the model's input; of the main input, and of every image beside it."""
    output: str | None = None
    """Which of several outputs holds the class scores."""


def classifier_of(loaded: LoadedClassifier, options: ExportOptions) -> Classifier:
    """Join what was loaded with what was asked for.

    Raises:
        OptionError: the preprocessing does not exist, or does not fit the input.
        LoadError: the preprocessing's function does not exist.
    """
    main = loaded.inputs.main
    preprocessing = resolve_preprocessing(options.preprocessing, loaded.preprocess_input, main.shape[-1])
    return Classifier(model=loaded.model, inputs=loaded.inputs, preprocessing=preprocessing, output=options.output)


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """Tensors of one forward pass, in inference mode."""

    model_name: str
    inputs: Mapping[str, tf.Tensor]
    """By the signatures' names, the batch first."""
    main: ModelInput
    """The input whose positions are explained."""
    model_input: tf.Tensor
    """What the model gets for it, preprocessed and in its own order of axes."""
    predictions: tf.Tensor
    """`[B,N]`, whatever float type the model computes in."""
    outputs: tuple[LayerOutput, ...]
    """What each layer returned, in order of return."""

    @property
    def start(self) -> tf.Tensor:
        """The main input."""
        return self.inputs[self.main.name]


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


def forward(classifier: Classifier, inputs: Mapping[str, tf.Tensor]) -> ForwardPass:
    """Add the forward pass of a classifier to the current graph.

    Args:
        classifier: a built classifier.
        inputs: by the signatures' names, `[B,...]`.

    Raises:
        LoadError: the model refuses its own inputs.
        UnsupportedHead: it does not return one score vector per input, or not under that name.
    """
    main = classifier.inputs.main
    given = {one.name: _prepared(inputs[one.name], one, classifier) for one in classifier.inputs}
    with tap(classifier.model) as outputs:
        result = _call(classifier, list(given.values()))
    scores = _chosen_output(result, classifier)
    return ForwardPass(
        model_name=classifier.model.name,
        inputs=inputs,
        main=main,
        model_input=given[main.name],
        predictions=_score_vectors(scores, classifier.model.name),
        outputs=tuple(outputs),
    )


def trace(classifier: Classifier) -> TracedClassifier:
    """Trace `classifier` on inputs of its sizes and any number of rows.

    Raises:
        LoadError: as `forward`.
        UnsupportedHead: likewise.
        UnsupportedOperation: a stock server cannot run what it computes with.
    """
    passes: list[ForwardPass] = []
    weights: dict[str, np.ndarray[Any, Any]] = {}
    # Variables of tf_keras know no StatelessScope; they arrive as captures.
    variables = [(one, one.value.numpy()) for one in classifier.model.variables if isinstance(one, keras.Variable)]

    @tf.function(input_signature=[input_specs(classifier.inputs)], autograph=False)
    def classify(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        bindings = []
        for index, (variable, value) in enumerate(variables):
            placeholder = tf.compat.v1.placeholder(value.dtype, value.shape, name=f"weight_{index}")
            weights[placeholder.op.name] = value
            bindings.append((variable, placeholder))
        with keras.StatelessScope(state_mapping=bindings):
            try:
                passes.append(forward(classifier, inputs))
            except GradcamExportError:
                # What Python code returns has no shape, and what is said of that hides the reason.
                refuse_unservable(classifier.model, tf.compat.v1.get_default_graph().get_operations())
                raise
        refuse_unservable(classifier.model, leading_to(passes[0].predictions))
        return passes[0].predictions

    with inlined():
        graph = classify.get_concrete_function().graph
    # Constants of layers (Normalization) and raw tf.Variables arrive as captures, not as Keras variables.
    captured = {id(variable.handle): variable for variable in graph.variables}
    for outside, inside in graph.captures:
        weights[inside.op.name] = captured.get(id(outside), outside).numpy()
    return TracedClassifier(graph=graph, forward=passes[0], weights=weights)


def input_specs(inputs: ClassifierInputs) -> dict[str, tf.TensorSpec]:
    """Return the signature's specs of the inputs `[B,...]`, by name."""
    return {one.name: tf.TensorSpec([None, *one.shape], one.dtype, name=one.name) for one in inputs}


def _prepared(tensor: tf.Tensor, one: ModelInput, classifier: Classifier) -> tf.Tensor:
    """Turn a signature's input into the model's."""
    if one.is_image or (one.dtype == "float32" and one is classifier.inputs.main):
        tensor = classifier.preprocessing(tensor)
    if one.is_image and one.channels_first:
        tensor = tf.transpose(tensor, [0, 3, 1, 2])
    wanted = tf.as_dtype(one.model_dtype)
    return tf.cast(tensor, wanted) if wanted.is_integer or wanted == tf.float64 else tensor


def _call(classifier: Classifier, given: list[tf.Tensor]) -> Any:
    try:
        return classifier.model(classifier.inputs.pack(given), training=False)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        takes = ", ".join(f"{one.name} {one.dtype} {list(one.shape)}" for one in classifier.inputs)
        # Keras (3.15) frames the reason with a sentence of its own, colours, and the arguments.
        text = re.sub(r"\x1b\[\d*m", "", str(error)).partition("Arguments received by")[0]
        reason = " ".join(text.split())
        raise LoadError(f"{classifier.model.name!r} cannot be called on a batch of {takes}: {reason}") from error


def _chosen_output(result: Any, classifier: Classifier) -> Any:
    """Return the one output that holds the class scores."""
    model, name = classifier.model, classifier.output
    if tf.is_tensor(result):
        if name is None:
            return result
        raise UnsupportedHead(f"{model.name!r} has a single output; leave out --output {name}.")
    if isinstance(result, dict):
        named = {str(key): value for key, value in result.items()}
    else:
        names = getattr(model, "output_names", None) or ()
        numbers = [str(number) for number in range(len(result))]
        named = dict(zip(names if len(set(names)) == len(result) else numbers, result, strict=True))
        if name in numbers and name not in named:
            return result[int(name)]
    if name is None and len(named) == 1:
        return next(iter(named.values()))
    if name not in named:
        asked = "several outputs" if name is None else f"no output {name!r}"
        raise UnsupportedHead(f"{model.name!r} has {asked}: say which to explain with --output: {', '.join(named)}.")
    return named[name]


def _score_vectors(result: Any, name: str) -> tf.Tensor:
    if not tf.is_tensor(result):
        raise UnsupportedHead(f"{name!r} returns a {type(result).__name__} there; one score vector is needed.")
    shape = result.shape
    if shape.rank == 1:
        return tf.expand_dims(result, axis=-1)
    if shape.rank is None or shape[-1] is None or any(n != 1 for n in shape[1:-1]):
        raise UnsupportedHead(
            f"{name!r} returns {shape} per batch; one score vector [B,N] per image is needed "
            "(a model that answers for every pixel is a segmentation model)."
        )
    return result if shape.rank == 2 else tf.reshape(result, [-1, shape[-1]])
