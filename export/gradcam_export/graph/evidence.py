"""What the traced graph knows of one class of each image, for the methods that ask for features and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export.errors import ExplanationError
from gradcam_export.graph.cuts import reaches

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcam_export.graph.logits import Head
    from gradcam_export.graph.target import FeatureMap
    from gradcam_export.methods import CamMethod


class NoGradient(ExplanationError):  # noqa: N818 - reads as the sentence it is
    """The class score does not depend differentiably on the feature map."""


class TracedEvidence:
    """The evidence for one class of each image, in the current graph; made anew for each class, shared by all methods.

    Args:
        feature_map: where.
        head: the class score.
        class_index: int32 `[B]`.
    """

    def __init__(self, feature_map: FeatureMap, head: Head, class_index: tf.Tensor) -> None:
        self._feature_map, self._head, self._class_index = feature_map, head, class_index
        self._gradients: dict[Callable[..., Any], tf.Tensor] = {}

    @cached_property
    def features(self) -> tf.Tensor:
        """As `Evidence.features`."""
        return self._feature_map.layout.flatten(self._feature_map.tensor)

    def gradients(self, method: CamMethod[Any]) -> tf.Tensor:
        """Return the gradient of the method's direction, `[B,P,K]`.

        Raises:
            NoGradient: the class score does not depend differentiably on the feature map.
        """
        kind = type(method).direction
        if kind not in self._gradients:
            self._gradients[kind] = self._gradient_of(method)
        return self._gradients[kind]

    def _gradient_of(self, method: CamMethod[Any]) -> tf.Tensor:
        head, feature_map = self._head, self._feature_map
        # Row i of the scores depends on row i of the features alone, so each row gets the gradient of its own score.
        direction = method.direction(head.explained, head.direction(self._class_index))
        gradient = gradient_of(head.explained, feature_map.tensor, direction)
        if gradient is None:
            reason = "has no path to the class score"
            if reaches(feature_map.tensor, head.explained):
                reason = "has no gradient of the class score: an operation between them has none"
            raise NoGradient(f"what {feature_map.name!r} returns {reason}")
        return feature_map.layout.flatten(tf.convert_to_tensor(gradient))

    def of(self, method: CamMethod[Any]) -> MethodEvidence:
        """Return what `method` may ask."""
        return MethodEvidence(shared=self, method=method)


@dataclass(frozen=True, kw_only=True)
class MethodEvidence:
    """`Evidence` for a method that asks for features and gradients alone."""

    shared: TracedEvidence
    method: CamMethod[Any]

    @property
    def features(self) -> tf.Tensor:
        """`[B,P,K]`."""
        return self.shared.features

    @property
    def gradients(self) -> tf.Tensor:
        """`[B,P,K]`."""
        return self.shared.gradients(self.method)


def gradient_of(scores: tf.Tensor, tensor: tf.Tensor, direction: tf.Tensor | None = None) -> tf.Tensor | None:
    """Return the gradient of `scores`, weighted by `direction`, with respect to `tensor`; `None` if there is none."""
    try:
        (gradient,) = tf.gradients(scores, [tensor], grad_ys=direction)
    except LookupError:
        return None  # an operation that TensorFlow knows no gradient of
    return gradient
