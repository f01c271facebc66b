"""Grad-CAM: Selvaraju et al., arXiv 1610.02391."""

from __future__ import annotations

from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence
from gradcam_export.methods.weighing import weigh_channels


@final
class GradCam(CamMethod[Evidence]):
    """Weighs each channel by the mean of its gradient over the positions (equations 1 and 2)."""

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `sum_k alpha_k A_k`, `[B,P]`, with `alpha_k` the mean gradient of channel k."""
        return weigh_by_mean(evidence.features, evidence.gradients)


def weigh_by_mean(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Return the feature map's channels summed by their mean gradients, `[B,P]`; both arguments are `[B,P,K]`."""
    return weigh_channels(features, tf.reduce_mean(gradients, axis=1))
