"""CAM, class activation mapping: Zhou et al., arXiv 1512.04150."""

from __future__ import annotations

from typing import ClassVar, final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, Evidence
from gradcam_export.methods.weighing import weigh_channels


@final
class Cam(CamMethod[Evidence]):
    """Weighs each channel by the class's weight in the dense layer that follows global average pooling (equation 2).

    Under that head the gradient is the weight divided by the number of positions, at every position, so its sum is
    the weight. Under any other head there is no such weight, and no CAM.
    """

    needs_pooled_head: ClassVar[bool] = True

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `sum_k w_k A_k`, `[B,P]`, with `w_k` the dense layer's weight of channel k for the image's class."""
        return weigh_channels(evidence.features, tf.reduce_sum(evidence.gradients, axis=1))
