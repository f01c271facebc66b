"""HiResCAM: Draelos and Carin, arXiv 2011.08891."""

from __future__ import annotations

from typing import final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence


@final
class HiResCam(CamMethod[Evidence]):
    """Multiplies each position of each channel by its own gradient.

    Where one linear layer follows the feature map, the signed map sums to the score less its bias. The ReLU that the
    paper leaves out of this is applied afterwards, for display.
    """

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `sum_k g A_k`, `[B,P]`."""
        return tf.reduce_sum(evidence.gradients * evidence.features, axis=2)
