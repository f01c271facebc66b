"""A small classifier given by its weights, and all that is asked of it in float64 numpy."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SIZE, CLASSES = (24, 32, 3), 4
EPSILON = 1e-3
"""What Keras adds to a variance."""


def weights() -> dict[str, np.ndarray]:
    """Return the weights by their paths: `layer/weight`."""
    random = np.random.default_rng(0)

    def kernel(*shape):
        return random.normal(0, 1 / np.sqrt(np.prod(shape[:-1])), shape)

    def norm(name, channels):
        return {
            f"{name}/gamma": random.uniform(0.8, 1.2, channels),
            f"{name}/beta": random.normal(0, 0.1, channels),
            f"{name}/moving_mean": random.normal(0, 0.1, channels),
            f"{name}/moving_variance": random.uniform(0.5, 1.5, channels),
        }

    values = {
        "stem/kernel": kernel(3, 3, 3, 8),
        "stem/bias": random.normal(0, 0.1, 8),
        **norm("stem_norm", 8),
        "depthwise/kernel": random.normal(0, 1 / 3, (3, 3, 8, 1)),
        **norm("depthwise_norm", 8),
        "features/kernel": kernel(3, 3, 8, 12),
        "features/bias": random.normal(0.1, 0.1, 12),
        "hidden/kernel": kernel(12, 10),
        "hidden/bias": random.normal(0.3, 0.1, 10),
        "scores/kernel": 3 * kernel(10, CLASSES),
        "scores/bias": random.normal(0, 0.1, CLASSES),
    }
    return {path: value.astype(np.float32) for path, value in values.items()}


class Reference:
    """The classifier in float64, and the gradient of its scores by hand."""

    def __init__(self) -> None:
        self._weights = {path: value.astype(np.float64) for path, value in weights().items()}

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the feature map `[B,h,w,K]` of images `[B,H,W,C]`."""
        w = self._weights
        x = _windows(images / 127.5 - 1.0, stride=2)
        x = np.einsum("bhwcij,ijck->bhwk", x, w["stem/kernel"]) + w["stem/bias"]
        x = np.clip(self._normed(x, "stem_norm"), 0, 6)
        x = np.einsum("bhwcij,ijc->bhwc", _windows(x), w["depthwise/kernel"][..., 0])
        x = self._normed(x, "depthwise_norm")
        x = x / (1 + np.exp(-x))
        x = np.einsum("bhwcij,ijck->bhwk", _windows(x), w["features/kernel"]) + w["features/bias"]
        return np.maximum(x, 0)

    def predictions(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities `[B,N]`."""
        hidden = np.maximum(self._hidden(self.features(images)), 0)
        logits = hidden @ self._weights["scores/kernel"] + self._weights["scores/bias"]
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def evidence(self, image: np.ndarray, chosen: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the feature map of one image and the gradient of the class's logit by it, `[P,K]` each."""
        features = self.features(image[np.newaxis])
        positions = features.shape[1] * features.shape[2]
        passed = self._hidden(features)[0] > 0
        gradient = self._weights["hidden/kernel"] @ (passed * self._weights["scores/kernel"][:, chosen])
        flat = features.reshape(positions, -1)
        return flat, np.broadcast_to(gradient / positions, flat.shape)

    def _hidden(self, features: np.ndarray) -> np.ndarray:
        return features.mean(axis=(1, 2)) @ self._weights["hidden/kernel"] + self._weights["hidden/bias"]

    def _normed(self, x: np.ndarray, name: str) -> np.ndarray:
        mean, variance, gamma, beta = (
            self._weights[f"{name}/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta


def _windows(x: np.ndarray, stride: int = 1, size: int = 3) -> np.ndarray:
    """Return what each position of a convolution with padding "same" sees, `[B,h,w,C,size,size]`."""
    padding = []
    for length in x.shape[1:3]:
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        padding.append((total // 2, total - total // 2))
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    return sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
