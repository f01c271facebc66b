"""Counterfactual explanation by Grad-CAM: Selvaraju et al., arXiv 1610.02391."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from gradcam_export.methods.base import CamMethod, Evidence
from gradcam_export.methods.gradcam import weigh_by_mean

if TYPE_CHECKING:
    import tensorflow as tf


@final
class Counterfactual(CamMethod[Evidence]):
    """Shows what lowers the score: Grad-CAM of the negated gradient (the paper's counterfactual explanations)."""

    def combine(self, evidence: Evidence) -> tf.Tensor:
        """Return `sum_k alpha_k A_k`, `[B,P]`, with `alpha_k` the mean of `-g`."""
        return -weigh_by_mean(evidence.features, evidence.gradients)
