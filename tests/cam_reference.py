"""Every CAM method of a whole network in float64: the formulas of the papers, on evidence found by brute force."""

from collections.abc import Callable

import cam_oracles
import numpy as np
import tensorflow as tf
from cam_evidence import upsampled
from classifiers import Family


class Reference:
    """A float64 network that is cut by hand, and run again for every question a method asks.

    Args:
        features: images `[B,H,W,C]` as the network takes them → feature map `[B,h,w,K]`.
        logits: feature map → `[B,N]`.
    """

    def __init__(self, features: Callable[[tf.Tensor], tf.Tensor], logits: Callable[[tf.Tensor], tf.Tensor]) -> None:
        self._features, self._logits = features, logits

    @classmethod
    def of(cls, family: Family, model: object) -> "Reference":
        """Return the reference of a classifier of `family`."""
        twin = family.double(model)
        return cls(lambda images: family.features(twin, images), lambda features: family.logits(twin, features))

    def features(self, image: np.ndarray) -> np.ndarray:
        """Return the feature map of one image, `[P,K]`."""
        return _flat(self._features(tf.constant(image[np.newaxis], tf.float64))[0].numpy())

    def scores(self, image: np.ndarray) -> np.ndarray:
        """Return the logits of one image, `[N]`."""
        return self._logits(self._features(tf.constant(image[np.newaxis], tf.float64)))[0].numpy()

    def gradients(self, image: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Return the gradient of `direction` `[N]` times the logits by the feature map, `[P,K]`."""
        features = self._features(tf.constant(image[np.newaxis], tf.float64))
        with tf.GradientTape() as tape:
            tape.watch(features)
            score = tf.tensordot(self._logits(features)[0], tf.constant(direction), 1)
        return _flat(tape.gradient(score, features)[0].numpy())

    def masked_scores(self, image: np.ndarray, chosen: int, channels: np.ndarray) -> np.ndarray:
        """Return the logit of class `chosen` of the image seen through each channel."""
        maps = self._features(tf.constant(image[np.newaxis], tf.float64))[0].numpy()
        scores = []
        for channel in channels:
            mask = upsampled(maps[:, :, channel], image.shape[:2])
            mask = (mask - mask.min()) / (np.ptp(mask) or 1)
            scores.append(self.scores(image * mask[:, :, np.newaxis])[chosen])
        return np.array(scores)

    def ablated_scores(self, image: np.ndarray, chosen: int) -> np.ndarray:
        """Return the logit of class `chosen` without each channel in turn."""
        maps = self._features(tf.constant(image[np.newaxis], tf.float64)).numpy()
        scores = []
        for channel in range(maps.shape[-1]):
            without = maps.copy()
            without[..., channel] = 0
            scores.append(self._logits(tf.constant(without))[0, chosen].numpy())
        return np.array(scores)

    def signed(self, method: str, image: np.ndarray, chosen: int) -> np.ndarray:
        """Return the map of one image for class `chosen` before ReLU, `[P]`."""
        features = self.features(image)
        if method == "eigencam":
            return cam_oracles.eigencam(features)
        if method == "scorecam":
            return cam_oracles.scorecam(
                features,
                self.masked_scores(image, chosen, np.arange(features.shape[1])),
                self.scores(0 * image)[chosen],
            )
        if method == "faster-scorecam":
            channels = cam_oracles.varied_channels(features)
            return cam_oracles.scorecam(features[:, channels], self.masked_scores(image, chosen, channels))
        scores = self.scores(image)
        if method == "ablationcam":
            return cam_oracles.ablationcam(features, scores[chosen], self.ablated_scores(image, chosen))
        one_hot = np.eye(len(scores))[chosen]
        direction = cam_oracles.finercam_direction(scores, chosen) if method == "finercam" else one_hot
        return cam_oracles.BY_GRADIENT[method](features, self.gradients(image, direction))

    def maps(self, method: str, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the maps of images `[B,H,W,C]`, each for its own class, after ReLU: `[B,P]`."""
        signed = [self.signed(method, image, chosen) for image, chosen in zip(images, classes, strict=True)]
        return np.maximum(signed, 0)


def _flat(feature_map: np.ndarray) -> np.ndarray:
    return feature_map.reshape(-1, feature_map.shape[-1])


def heatmaps(maps: np.ndarray) -> np.ndarray:
    """Divide each map `[B,P]` by its own maximum; zeros stay."""
    peak = maps.max(axis=1, keepdims=True)
    return maps / np.where(peak > 0, peak, 1)
