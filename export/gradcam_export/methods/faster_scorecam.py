"""Faster Score-CAM: Score-CAM (Wang et al., arXiv 1910.01279) of the few channels that vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, ScoredEvidence
from gradcam_export.methods.weighing import weigh_channels


@final
@dataclass(frozen=True)
class FasterScoreCam(CamMethod[ScoredEvidence]):
    """Score-CAM of each image's channels of largest standard deviation over the positions.

    The proposal of tabayashi0117's Score-CAM repository: flat channels mask little, and each costs a forward pass.
    """

    channels: int = 10
    """How many, or all where there are fewer."""
    alters: ClassVar[Literal["", "input", "features"]] = "input"

    def combine(self, evidence: ScoredEvidence) -> tf.Tensor:
        """Return `sum_k w_k A_k` over these channels, `[B,P]`, `w` the softmax over them of the masked scores."""
        features = evidence.features
        spread = tf.math.reduce_variance(features, axis=1)  # [B, K]
        _, chosen = tf.math.top_k(spread, tf.minimum(self.channels, tf.shape(features)[2]))
        weights = tf.nn.softmax(evidence.masked_scores(chosen))
        return weigh_channels(tf.gather(features, chosen, axis=2, batch_dims=1), weights)
