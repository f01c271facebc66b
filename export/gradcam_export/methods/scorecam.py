"""Score-CAM: Wang et al., arXiv 1910.01279."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, ScoredEvidence
from gradcam_export.methods.weighing import weigh_channels


@final
class ScoreCam(CamMethod[ScoredEvidence]):
    """Weighs each channel by the score of the input seen through it, without gradients.

    The paper subtracts the score of a baseline input before its softmax over the channels; being the same for all
    of them it cancels there, and is not computed.
    """

    alters: ClassVar[Literal["", "input", "features"]] = "input"

    def combine(self, evidence: ScoredEvidence) -> tf.Tensor:
        """Return `sum_k w_k A_k`, `[B,P]`, with `w` the softmax over all channels of the masked scores."""
        images, _, channels = tf.unstack(tf.shape(evidence.features))
        every = tf.tile(tf.range(channels)[tf.newaxis], [images, 1])  # [B, K]
        return weigh_channels(evidence.features, tf.nn.softmax(evidence.masked_scores(every)))
