"""XGrad-CAM: Fu et al., arXiv 2008.02312."""

from __future__ import annotations

from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence
from gradcam_export.methods.weighing import weigh_channels


@final
class XGradCam(CamMethod[Evidence]):
    """Weighs each channel by the mean of its gradient, where each position counts by its share of the activation."""

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `sum_k w_k A_k`, `[B,P]`, with `w_k = sum_p g A_k / S_k`, 0 where `S_k`, the sum of `A_k`, is."""
        products = tf.reduce_sum(evidence.gradients * evidence.features, axis=1)
        activity = tf.reduce_sum(evidence.features, axis=1)
        return weigh_channels(evidence.features, tf.math.divide_no_nan(products, activity))
