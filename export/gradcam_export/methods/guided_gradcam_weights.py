"""Grad-CAM with guided weights, as tf-explain and the PyImageSearch tutorial compute it."""

from __future__ import annotations

from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence
from gradcam_export.methods.gradcam import weigh_by_mean


@final
class GuidedGradCamWeights(CamMethod[Evidence]):
    """Weighs each channel by the mean of its gradient where both the gradient and the activation are positive.

    Neither the paper's Grad-CAM nor its Guided Grad-CAM, which guides the gradient through the whole network: here
    for those who have to reproduce maps made that way.
    """

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `sum_k w_k A_k`, `[B,P]`, with `w_k` the mean of `[A_k > 0] [g > 0] g`."""
        features, gradients = evidence.features, evidence.gradients
        return weigh_by_mean(features, tf.where(features > 0, tf.nn.relu(gradients), tf.zeros_like(gradients)))
