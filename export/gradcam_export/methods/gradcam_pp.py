"""Grad-CAM++: Chattopadhay et al., arXiv 1710.11063."""

from __future__ import annotations

from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence
from gradcam_export.methods.weighing import weigh_channels


@final
class GradCamPlusPlus(CamMethod[Evidence]):
    """Weighs each channel by its positive gradients, the less the more of the channel is active.

    The paper explains `exp(y)`: the exponential cancels in its alpha and leaves one positive factor per image, which
    normalising removes, so it is left out and cannot overflow. What is left of the paper's
    `sum alpha ReLU(g)` with `alpha = g^2 / (2 g^2 + g^3 S_k)` counts positive gradients alone, and for those
    `alpha = 1 / (2 + g S_k)`: no cubes and no 0/0.

    `S_k` is the sum of `ReLU(A_k)`: the paper's own on the feature maps it assumes, which are nowhere negative.
    After GELU or swish a plain sum may be negative and the denominator vanish; this one is never below 2.
    """

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `sum_k w_k A_k`, `[B,P]`, with `w_k = sum_p ReLU(g) / (2 + ReLU(g) S_k)`."""
        activity = tf.reduce_sum(tf.nn.relu(evidence.features), axis=1, keepdims=True)  # S, [B, 1, K]
        positive = tf.nn.relu(evidence.gradients)
        return weigh_channels(evidence.features, tf.reduce_sum(positive / (2 + positive * activity), axis=1))
