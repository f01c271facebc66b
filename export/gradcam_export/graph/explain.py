"""Add the explanation to the forward graph: class, score, gradients, heatmap, all per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from gradcam_export import contract
from gradcam_export.errors import ExplanationError
from gradcam_export.graph.heatmaps import normalise
from gradcam_export.graph.logits import Head, find_head
from gradcam_export.graph.target import Target, choose
from gradcam_export.methods import METHODS

if TYPE_CHECKING:
    from gradcam_export.graph.trace import ForwardPass, TracedClassifier
    from gradcam_export.options import ScoreKind


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is explained: target, head and method."""

    target: Target
    head: Head
    score: ScoreKind
    method: str = "gradcam"


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """The feature map and what its class score says of it."""

    features: tf.Tensor
    """float32 `[B,h,w,K]`."""
    gradients: tf.Tensor
    """float32 `[B,h,w,K]`."""
    class_index: tf.Tensor
    """int32 `[B]`, the predicted class where -1 was asked for."""


@dataclass(frozen=True, kw_only=True)
class ExplainedClassifier:
    """The forward graph with its explanation: what goes in and what comes out, by the contract's names."""

    traced: TracedClassifier
    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]


def make_choice(forward: ForwardPass, layer: str | None = None, score: ScoreKind = "logit") -> Choice:
    """Choose what to explain in a traced forward pass.

    Raises:
        ExplanationError: the layer, the feature map or the logits cannot be found.
    """
    with forward.images.graph.as_default():
        return Choice(target=choose(forward, layer), head=find_head(forward.predictions, score), score=score)


def class_gradients(choice: Choice, class_index: tf.Tensor) -> Gradients:
    """Add the gradients of each image's own class score to the current graph.

    Args:
        choice: what to explain.
        class_index: int32 `[B]`; -1 asks for the predicted class.

    Raises:
        ExplanationError: the class score does not depend differentiably on the feature map.
    """
    head, features = choice.head, choice.target.feature_map.tensor
    resolved = tf.where(class_index == contract.PREDICTED_CLASS, head.predicted_class(), class_index)
    # Row i of the scores depends on row i of the features alone, so each row gets the gradient of its own score.
    (gradients,) = tf.gradients(head.explained, [features], grad_ys=head.direction(resolved))
    if gradients is None:
        raise ExplanationError(
            f"The class score has no gradient with respect to {choice.target.feature_map.name!r}: the layer has no "
            "path to it, or an operation between them has no gradient. Choose a later layer with --layer."
        )
    return Gradients(
        features=tf.cast(features, tf.float32),
        gradients=tf.cast(gradients, tf.float32),
        class_index=resolved,
    )


def explain(traced: TracedClassifier, choice: Choice) -> ExplainedClassifier:
    """Add class, score and heatmap to the traced graph.

    Raises:
        ExplanationError: as `class_gradients`.
    """
    with traced.graph.as_default():
        class_index = tf.compat.v1.placeholder(tf.int32, [None], name=contract.CLASS_INDEX)
        found = class_gradients(choice, class_index)
        heatmap, peak = normalise(METHODS[choice.method].combine(found.features, found.gradients))
        score = choice.head.score(found.class_index)
    return ExplainedClassifier(
        traced=traced,
        inputs={contract.IMAGES: traced.forward.images, contract.CLASS_INDEX: class_index},
        outputs={
            contract.PREDICTIONS: choice.head.predictions,
            contract.CLASS_INDEX: found.class_index,
            contract.SCORE: score,
            contract.HEATMAP: heatmap,
            contract.HEATMAP_PEAK: peak,
        },
    )
