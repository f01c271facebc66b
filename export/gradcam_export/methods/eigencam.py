"""Eigen-CAM: Muhammad and Yeasin, arXiv 2008.00299."""

from __future__ import annotations

from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence
from gradcam_export.methods.weighing import weigh_channels


@final
class EigenCam(CamMethod[Evidence]):
    """Projects each position on the feature map's first right singular vector, not centred; no class plays a part.

    A singular vector's sign is arbitrary: here the map's sum is not negative.
    """

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `A v_1`, `[B,P]`, with `v_1` from the eigenvectors of the smaller of `A A^T` and `A^T A`."""
        features = evidence.features
        positions, channels = features.shape[1:]
        if positions is not None and (channels is None or positions <= channels):
            values, vectors = tf.linalg.eigh(tf.matmul(features, features, transpose_b=True))  # [B, P, P]
            projected = tf.sqrt(values[:, -1:]) * vectors[:, :, -1]  # A v_1 = s_1 u_1, and the eigenvalue is s_1^2
        else:
            _, vectors = tf.linalg.eigh(tf.matmul(features, features, transpose_a=True))  # [B, K, K]
            projected = weigh_channels(features, vectors[:, :, -1])
        return tf.where(tf.reduce_sum(projected, axis=1, keepdims=True) < 0, -projected, projected)
