"""The formulas of the papers in float64 numpy: the reference for every heatmap.

None of this shares code with the graph that it judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = np.ndarray[Any, Any]


def heatmap(method: str, evidence: Mapping[str, Array]) -> Array:
    """Return the map of a CAM method after ReLU, not normalised: float64 `[B,P]`.

    Args:
        method: one of `METHODS`, by its option's name.
        evidence: what that method needs, of any float type, positions in one axis:
            `features`: A, `[B,P,K]`;
            `gradients`: `[B,P,K]`, of the sum of scores that the method differentiates;
            `score`: y, `[B]`;
            `channel_scores`: `[B,K]` for `ablationcam`, y without each channel; `[B,n]` for `scorecam` and
            `faster-scorecam`, y of the input masked by each of `channels`;
            `channels`: `[B,n]`, the channels that masked.

    Raises:
        KeyError: there is no such method, or its evidence is incomplete.
    """
    return np.maximum(signed_map(method, evidence), 0)


def signed_map(method: str, evidence: Mapping[str, Array]) -> Array:
    """Return the same before ReLU."""
    exact = {name: value if name == "channels" else value.astype(np.float64) for name, value in evidence.items()}
    return _FORMULAS[method](exact)


def _weighted(evidence: Mapping[str, Array], weights: Array) -> Array:
    return np.einsum("bpk,bk->bp", evidence["features"], weights)


def _quotient(numerator: Array, denominator: Array) -> Array:
    """Divide, 0 where the denominator is."""
    nonzero = denominator != 0
    return np.where(nonzero, numerator / np.where(nonzero, denominator, 1), 0)


def _cam(evidence: Mapping[str, Array]) -> Array:
    """1512.04150, equation 2: the gradient of a pooled head is the dense weight over the number of positions."""
    return _weighted(evidence, evidence["gradients"].sum(axis=1))


def _gradcam(evidence: Mapping[str, Array]) -> Array:
    """1610.02391, equations 1 and 2."""
    return _weighted(evidence, evidence["gradients"].mean(axis=1))


def _counterfactual(evidence: Mapping[str, Array]) -> Array:
    """1610.02391, counterfactual explanations."""
    return _weighted(evidence, (-evidence["gradients"]).mean(axis=1))


def _gradcam_plus_plus(evidence: Mapping[str, Array]) -> Array:
    """1710.11063, its alpha of positive gradients divided through by their square; S of what is active alone."""
    activity = np.where(evidence["features"] > 0, evidence["features"], 0).sum(axis=1, keepdims=True)
    raising = np.where(evidence["gradients"] > 0, evidence["gradients"], 0)
    return _weighted(evidence, (raising / (2 + raising * activity)).sum(axis=1))


def _layercam(evidence: Mapping[str, Array]) -> Array:
    """Jiang et al. 2021, without the scaling of shallow layers."""
    return np.einsum("bpk,bpk->bp", np.maximum(evidence["gradients"], 0), evidence["features"])


def _hirescam(evidence: Mapping[str, Array]) -> Array:
    """2011.08891."""
    return np.einsum("bpk,bpk->bp", evidence["gradients"], evidence["features"])


def _xgradcam(evidence: Mapping[str, Array]) -> Array:
    """2008.02312."""
    products = np.einsum("bpk,bpk->bk", evidence["gradients"], evidence["features"])
    return _weighted(evidence, _quotient(products, evidence["features"].sum(axis=1)))


def _eigencam(evidence: Mapping[str, Array]) -> Array:
    """2008.00299, by the singular value decomposition; of the two signs, the one whose map does not sum below 0."""
    left, values, _ = np.linalg.svd(evidence["features"], full_matrices=False)
    projected = left[:, :, 0] * values[:, :1]
    return np.where(projected.sum(axis=1, keepdims=True) < 0, -projected, projected)


def _scorecam(evidence: Mapping[str, Array]) -> Array:
    """1910.01279, of the channels given."""
    scores = evidence["channel_scores"]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    masks = np.take_along_axis(evidence["features"], evidence["channels"][:, np.newaxis, :], axis=2)
    return np.einsum("bpn,bn->bp", masks, weights)


def _ablationcam(evidence: Mapping[str, Array]) -> Array:
    """Desai and Ramaswamy 2020."""
    score = evidence["score"][:, np.newaxis]
    return _weighted(evidence, _quotient(score - evidence["channel_scores"], score))


def _guided_gradcam_weights(evidence: Mapping[str, Array]) -> Array:
    """tf-explain's and PyImageSearch's own: the mean of the gradient where it and the activation are positive."""
    both = (evidence["features"] > 0) & (evidence["gradients"] > 0)
    return _weighted(evidence, (both * evidence["gradients"]).mean(axis=1))


_FORMULAS: dict[str, Callable[[Mapping[str, Array]], Array]] = {
    "cam": _cam,
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "layercam": _layercam,
    "hirescam": _hirescam,
    "xgradcam": _xgradcam,
    "eigencam": _eigencam,
    "scorecam": _scorecam,
    "faster-scorecam": _scorecam,
    "ablationcam": _ablationcam,
    "finercam": _gradcam,
    "guided-gradcam-weights": _guided_gradcam_weights,
    "counterfactual": _counterfactual,
}

OF_GRADIENTS = ("gradcam", "gradcam++", "layercam", "hirescam", "xgradcam", "guided-gradcam-weights")
"""Methods whose maps follow from features and the gradient of the class score."""
