"""What the traced graph knows of one class of each image, for the methods that ask for features and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export.errors import ExplanationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcam_export.graph.logits import Head
    from gradcam_export.graph.target import FeatureMap
    from gradcam_export.methods import CamMethod


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
            ExplanationError: the class score does not depend differentiably on the feature map.
        """
        kind = type(method).direction
        if kind not in self._gradients:
            self._gradients[kind] = self._gradient_of(method)
        return self._gradients[kind]

    def _gradient_of(self, method: CamMethod[Any]) -> tf.Tensor:
        head, feature_map = self._head, self._feature_map
        # Row i of the scores depends on row i of the features alone, so each row gets the gradient of its own score.
        direction = method.direction(head.explained, head.direction(self._class_index))
        try:
            (gradient,) = tf.gradients(head.explained, [feature_map.tensor], grad_ys=direction)
        except LookupError as error:
            raise ExplanationError(
                f"The class score has no gradient with respect to {feature_map.name!r}: {error} "
                "Choose a layer after that operation with --layer, or a method without gradients such as eigencam."
            ) from error
        if gradient is None:
            raise ExplanationError(
                f"The class score has no gradient with respect to {feature_map.name!r}: the layer has no path to it, "
                "or an operation between them has no gradient. Choose a later layer with --layer."
            )
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
