"""The formula of each CAM paper, one image at a time, in float64 numpy: signed maps `[P]`, before ReLU.

Written from the papers, unsimplified, and sharing nothing with the exporter: neither its methods nor its own oracle.
`features` is A, `[P,K]`; `gradients` is g, the gradient of the class score by A, `[P,K]`.
"""

from collections.abc import Callable

import numpy as np


def weighted(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return `sum_k w_k A_k`, channel by channel."""
    return sum((weights[k] * features[:, k] for k in range(features.shape[1])), np.zeros(len(features)))


def cam(features: np.ndarray, dense_weights: np.ndarray) -> np.ndarray:
    """Zhou et al. 2016, equation 2."""
    return weighted(features, dense_weights)


def gradcam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Selvaraju et al. 2017, equations 1 and 2 without the ReLU."""
    return weighted(features, gradients.sum(axis=0) / len(gradients))


def counterfactual(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Selvaraju et al. 2017: Grad-CAM with -dy/dA in place of dy/dA."""
    return gradcam(features, -gradients)


def gradcam_pp(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Chattopadhay et al. 2018: alpha = g^2 / (2 g^2 + S g^3), 0 where that is 0/0; w = sum alpha ReLU(g)."""
    sums = features.sum(axis=0)
    weights = np.zeros(features.shape[1])
    for p, k in np.ndindex(*features.shape):
        denominator = 2 * gradients[p, k] ** 2 + sums[k] * gradients[p, k] ** 3
        alpha = gradients[p, k] ** 2 / denominator if denominator else 0.0
        weights[k] += alpha * max(gradients[p, k], 0.0)
    return weighted(features, weights)


def layercam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Jiang et al. 2021, of one deep layer."""
    return np.array(
        [
            sum(max(gradients[p, k], 0.0) * features[p, k] for k in range(features.shape[1]))
            for p in range(len(features))
        ]
    )


def hirescam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Draelos and Carin 2020."""
    return np.array([np.dot(gradients[p], features[p]) for p in range(len(features))])


def xgradcam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Fu et al. 2020; a channel whose activations sum to 0 has no shares, and weight 0."""
    weights = np.zeros(features.shape[1])
    for k in range(features.shape[1]):
        if features[:, k].sum() != 0:
            weights[k] = np.sum(features[:, k] / features[:, k].sum() * gradients[:, k])
    return weighted(features, weights)


def eigencam(features: np.ndarray) -> np.ndarray:
    """Muhammad and Yeasin 2020: A on its first right singular vector; the sign makes the sum positive."""
    _, _, right = np.linalg.svd(features)
    projected = features @ right[0]
    return projected if projected.sum() >= 0 else -projected


def scorecam(features: np.ndarray, masked: np.ndarray, baseline: float = 0.0) -> np.ndarray:
    """Wang et al. 2020: softmax over channels of the masked scores less the baseline's, `masked` `[K]`."""
    gains = np.exp(masked - baseline - (masked - baseline).max())
    return weighted(features, gains / gains.sum())


def varied_channels(features: np.ndarray, count: int = 10) -> np.ndarray:
    """Return the channels that Faster Score-CAM keeps: those of largest standard deviation."""
    return np.argsort(-features.std(axis=0), kind="stable")[:count]


def ablationcam(features: np.ndarray, score: float, ablated: np.ndarray) -> np.ndarray:
    """Desai and Ramaswamy 2020: the share of the score lost without each channel; none where there is no score."""
    return weighted(features, (score - ablated) / score) if score else np.zeros(len(features))


def finercam_direction(scores: np.ndarray, chosen: int, strength: float = 0.6, compared: int = 3) -> np.ndarray:
    """Zhang et al. 2025: the class less `strength` times the mean of the classes nearest in score, `[N]`."""
    others = [d for d in range(len(scores)) if d != chosen]
    nearest = sorted(others, key=lambda d: abs(scores[chosen] - scores[d]))[:compared]
    direction = np.eye(len(scores))[chosen]
    for d in nearest:
        direction[d] -= strength / len(nearest)
    return direction


def guided_gradcam_weights(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """tf-explain and PyImageSearch: the mean over all positions of (A > 0) (g > 0) g."""
    return weighted(features, np.where((features > 0) & (gradients > 0), gradients, 0.0).sum(axis=0) / len(gradients))


BY_GRADIENT: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cam": lambda features, gradients: cam(features, gradients.sum(axis=0)),
    "gradcam": gradcam,
    "gradcam++": gradcam_pp,
    "layercam": layercam,
    "hirescam": hirescam,
    "xgradcam": xgradcam,
    "finercam": gradcam,
    "guided-gradcam-weights": guided_gradcam_weights,
    "counterfactual": counterfactual,
}
"""Formulas of feature map and gradient alone."""
