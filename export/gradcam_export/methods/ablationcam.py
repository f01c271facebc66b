"""Ablation-CAM: Desai and Ramaswamy, IEEE Winter Conference on Applications of Computer Vision 2020."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import tensorflow as tf

from gradcam_export.methods.base import CamMethod, ScoredEvidence
from gradcam_export.methods.weighing import weigh_channels


@final
class AblationCam(CamMethod[ScoredEvidence]):
    """Weighs each channel by the share of the score that is lost without it, without gradients.

    As in the paper the share is of the score itself: where that is negative, so is the share of a channel that raises
    it; where it is 0, there is no share and the map is 0.
    """

    alters: ClassVar[Literal["", "input", "features"]] = "features"

    def combine(self, evidence: ScoredEvidence) -> tf.Tensor:
        """Return `sum_k w_k A_k`, `[B,P]`, with `w_k = (y - y_k) / y` and `y_k` the score without channel k."""
        score = evidence.score[:, tf.newaxis]
        return weigh_channels(evidence.features, tf.math.divide_no_nan(score - evidence.ablated_scores(), score))
