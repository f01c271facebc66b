"""LayerCAM: Jiang et al., IEEE Transactions on Image Processing 30 (2021), 5875–5888."""

from __future__ import annotations

from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence


@final
class LayerCam(CamMethod[Evidence]):
    """Weighs each position of each channel by its own gradient, where that is positive.

    Without the `tanh` that the paper puts over the maps of shallow layers, to fuse them with those of deep ones:
    one layer is explained here.
    """

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `sum_k ReLU(g) A_k`, `[B,P]`."""
        return tf.reduce_sum(tf.nn.relu(evidence.gradients) * evidence.features, axis=2)
