"""Add the explanation to the forward graph: class, score, gradients, heatmaps, all per image."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from gradcam_export import contract
from gradcam_export.errors import ExplanationError
from gradcam_export.graph.evidence import NoGradient, TracedEvidence, gradient_of
from gradcam_export.graph.heatmaps import normalise
from gradcam_export.graph.logits import Head, find_head, pooled_head_flaw
from gradcam_export.graph.target import Target, choose, spatial_outputs
from gradcam_export.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradcam_export.graph.layout import Layout
    from gradcam_export.graph.target import FeatureMap
    from gradcam_export.graph.trace import ForwardPass, TracedClassifier
    from gradcam_export.options import ExportOptions, ScoreKind

FEATURES, MODEL_INPUT, SCORES = "features", "model_input", "explained_scores"
"""Tensors inside the graph, for methods that ask it again."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is explained, and how."""

    target: Target
    head: Head
    score: ScoreKind
    methods: tuple[str, ...]
    """The first one answers `serving_default`, `explain` and `top_k`."""
    top_k: int
    """T: how many classes `top_k` explains."""

    @property
    def layout(self) -> Layout:
        """How the feature map lies."""
        return self.target.feature_map.layout

    def evidence(self, class_index: tf.Tensor) -> TracedEvidence:
        """Return what the graph knows of `class_index` `[B]`."""
        return TracedEvidence(self.target.feature_map, self.head, class_index)

    @property
    def asks_again(self) -> bool:
        """Whether a method asks for scores of altered inputs."""
        return any(METHODS[method].alters != "" for method in self.methods)


@dataclass(frozen=True, kw_only=True)
class ExplainedClassifier:
    """The forward graph with its explanations: what goes in and what comes out."""

    traced: TracedClassifier
    choice: Choice
    inputs: dict[str, tf.Tensor]
    """By the contract's names."""
    outputs: dict[str, tf.Tensor]
    """By the contract's names; those of a method, or of `top_k`, as `output_of` names them."""


def output_of(name: str, kind: str) -> str:
    """Return the key of an output that several methods, or `top_k`, have each of their own."""
    return f"{name}/{kind}"


def make_choice(forward: ForwardPass, options: ExportOptions) -> Choice:
    """Choose what to explain in a traced forward pass.

    Raises:
        ExplanationError: the layer, the feature map or the logits cannot be found, or a method does not fit them.
    """
    with forward.predictions.graph.as_default(), _naming(forward.model_name):
        target = choose(forward, options.layer)
        head = find_head(forward.predictions, options.score)
    choice = Choice(
        target=target,
        head=head,
        score=options.score,
        methods=options.methods,
        top_k=min(options.top_k, head.classes),
    )
    for name in choice.methods:
        _check_method(name, forward, choice)
    return choice


@contextmanager
def _naming(model: str) -> Iterator[None]:
    """Begin every message with the model's name, if it does not say it."""
    try:
        yield
    except ExplanationError as error:
        if repr(model) in str(error):
            raise
        raise type(error)(f"{model!r}: {error}") from error


def _check_method(name: str, forward: ForwardPass, choice: Choice) -> None:
    method, layer = METHODS[name], choice.target.feature_map
    if method.needs_pooled_head:
        flaw = pooled_head_flaw(layer.tensor, layer.layout.channels, choice.head.explained)
        if flaw is not None:
            raise ExplanationError(
                f"Method {name!r} exists only where global average pooling and one linear layer follow {layer.name!r}, "
                f"but {flaw}. Use --method gradcam, which is its generalisation."
            )
    if method.alters == "input":
        _check_masks(name, forward, layer)


def _check_masks(name: str, forward: ForwardPass, layer: FeatureMap) -> None:
    if not forward.model_input.dtype.is_floating:
        raise ExplanationError(
            f"Method {name!r} masks the input by degrees, but {forward.model_name!r} takes "
            f"{forward.model_input.dtype.name}. Use a method of gradients, such as --method gradcam."
        )
    if len(layer.layout.grid) != forward.main.spatial_rank:
        raise ExplanationError(
            f"Method {name!r} lays channels over the input, but those of {layer.name!r} have {len(layer.layout.grid)} "
            f"axes and the input {forward.main.spatial_rank}. Use a method of gradients, such as --method gradcam."
        )


def resolved_class(head: Head, class_index: tf.Tensor) -> tf.Tensor:
    """Return `class_index` `[B]` with the predicted class where it is -1."""
    return tf.where(class_index == contract.PREDICTED_CLASS, head.predicted_class(), class_index)


def explain(traced: TracedClassifier, choice: Choice) -> ExplainedClassifier:
    """Add classes, scores and heatmaps to the traced graph.

    Raises:
        ExplanationError: the class score does not depend differentiably on the feature map.
    """
    head = choice.head
    with traced.graph.as_default():
        class_index = tf.compat.v1.placeholder(tf.int32, [None], name=contract.CLASS_INDEX)
        found = resolved_class(head, class_index)
        best = head.best_classes(choice.top_k)
        outputs = {
            contract.PREDICTIONS: head.predictions,
            contract.CLASS_INDEX: found,
            contract.SCORE: head.score(found),
            output_of(contract.CLASS_INDEX, contract.TOP_K): best,
            output_of(contract.SCORE, contract.TOP_K): _of_each(best, head.score),
        }
        outputs |= _heatmaps(traced.forward, choice, found)
        outputs |= _top_k(choice, best)
        if choice.asks_again:
            outputs |= {
                FEATURES: _without_custom_gradient(choice.target.feature_map.tensor),
                MODEL_INPUT: traced.forward.model_input,
                SCORES: head.explained,
            }
    inputs = {**traced.forward.inputs, contract.CLASS_INDEX: class_index}
    return ExplainedClassifier(traced=traced, choice=choice, inputs=inputs, outputs=outputs)


def _heatmaps(forward: ForwardPass, choice: Choice, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return heatmap and peak of each method of features and gradients."""
    outputs: dict[str, tf.Tensor] = {}
    evidence = choice.evidence(class_index)
    try:
        for name in choice.methods:
            if not METHODS[name].alters:
                outputs |= _heatmap(choice.layout, METHODS[name].combine(evidence.of(METHODS[name])), name)
    except NoGradient as error:
        scores = choice.head.explained
        others = [path for path, tensor in spatial_outputs(forward).items() if gradient_of(scores, tensor) is not None]
        hint = (
            f"Layers that have one: {', '.join(others[-8:])}. Name it with --layer." if others else "No layer has one."
        )
        raise ExplanationError(f"{forward.model_name!r}: {error}. {hint}") from error
    return outputs


def _without_custom_gradient(tensor: tf.Tensor) -> tf.Tensor:
    """Return what an `IdentityN` passes on: folding drops it, and then nobody would read what is fed for it."""
    while tensor.op.type == "IdentityN":
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def _of_each(classes: tf.Tensor, score: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    return tf.stack([score(one) for one in tf.unstack(classes, axis=1)], axis=1)


def _heatmap(layout: Layout, signed: tf.Tensor, kind: str) -> Mapping[str, tf.Tensor]:
    heatmap, peak = normalise(signed)
    return {
        output_of(contract.HEATMAP, kind): layout.unflatten(heatmap),
        output_of(contract.HEATMAP_PEAK, kind): peak,
    }


def _top_k(choice: Choice, best: tf.Tensor) -> Mapping[str, tf.Tensor]:
    """Explain each of the best classes `[B,T]` from the same forward pass."""
    method = METHODS[choice.methods[0]]
    if method.alters:
        return {}
    maps = [method.combine(choice.evidence(one).of(method)) for one in tf.unstack(best, axis=1)]
    signed = tf.stack(maps, axis=1)  # [B, T, P]
    positions = signed.shape[-1]
    heatmap, peak = normalise(tf.reshape(signed, [-1, positions]))
    return {
        output_of(contract.HEATMAP, contract.TOP_K): choice.layout.unflatten(
            tf.reshape(heatmap, [-1, choice.top_k, positions])
        ),
        output_of(contract.HEATMAP_PEAK, contract.TOP_K): tf.reshape(peak, [-1, choice.top_k]),
    }
