"""Grad-CAM: Selvaraju et al., arXiv 1610.02391."""

from __future__ import annotations

from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod


@final
class GradCam(CamMethod):
    """Weighs each channel by the mean of its gradient over the positions (equations 1 and 2)."""

    def combine(self, features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
        """Return `sum_k alpha_k A_k`, `[B,h,w]`, with `alpha_k` the mean gradient of channel k."""
        alpha = tf.reduce_mean(gradients, axis=[1, 2])  # [B, K]
        return tf.einsum("bhwk,bk->bhw", features, alpha)
