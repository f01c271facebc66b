"""Finer-CAM: Zhang et al., arXiv 2501.11309."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence
from gradcam_export.methods.gradcam import weigh_by_mean


@final
@dataclass(frozen=True)
class FinerCam(CamMethod[Evidence]):
    """Grad-CAM of what tells the class from those most like it.

    With one output there is no other class to compare with, and this is Grad-CAM. That is exact for a single unit of
    two classes too: the other class scores `-y`, so the difference `y + strength y` is a positive multiple of `y`,
    which normalising removes.
    """

    strength: float = 0.6
    """The paper's gamma."""
    compared: int = 3
    """How many other classes, or all where there are fewer."""

    def direction(self, scores: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """Return `[B,N]`: the class, less `strength` times the mean of the classes nearest to it in score."""
        outputs = tf.shape(scores)[1]
        distance = tf.abs(scores - tf.reduce_sum(tf.math.multiply_no_nan(scores, chosen), axis=1, keepdims=True))
        others = tf.where(chosen != 0, distance.dtype.min, -distance)
        _, nearest = tf.math.top_k(others, tf.minimum(self.compared, outputs - 1))
        rivals = tf.reduce_sum(tf.one_hot(nearest, outputs, dtype=scores.dtype), axis=1)
        count = tf.reduce_sum(rivals, axis=1, keepdims=True)  # 0 where there is one output
        return chosen - self.strength * tf.math.divide_no_nan(rivals, count)

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return Grad-CAM of the gradient of that direction, `[B,P]`."""
        return weigh_by_mean(evidence.features, evidence.gradients)
