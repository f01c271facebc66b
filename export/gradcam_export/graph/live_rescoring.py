"""Ask the live model again, for altered inputs: what Score-CAM and Ablation-CAM are verified with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_export.graph.rescoring import interpolation
from gradcam_export.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcam_export.graph.layout import Layout
    from gradcam_export.keras_model.inputs import ModelInput

    Array = np.ndarray[Any, Any]
    Values = dict[str, Array]

RESCORED_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class LiveRescorer:
    """The live model, entered at what it gets, or at the feature map."""

    scores: Callable[[str, Array, Values], Array]
    """Name of the tensor, altered values of it for one image, its inputs → the explained scores `[n,N]`."""
    layout: Layout
    main: ModelInput
    rounding: float
    """Relative error of the features."""

    def rescored(self, method: str, values: Values, inputs: Values) -> Values:
        """Ask one image after the other, in numpy and plainly.

        Args:
            method: one that alters.
            values: of the images, as the live model gives them.
            inputs: of the images, by the signatures' names.

        Returns:
            `channels` and `channel_scores` `[B,n]`, `score` `[B]`, and `score_rounding` `[B]`: by how much scores
            differ when what was altered is shaken by its rounding, which a deep network magnifies.
        """
        features, direction = values["features"].astype(np.float64), values["direction"]
        alters = METHODS[method].alters
        count = getattr(METHODS[method], "channels", features.shape[-1])
        channels = np.argsort(-features.std(axis=1), axis=1, kind="stable")[:, :count]
        if alters == "features":
            channels.sort(axis=1)
        scores, rounding = np.zeros(channels.shape), np.zeros(len(channels))
        for row, of_row in enumerate(channels):
            one = {name: value[[row]] for name, value in inputs.items()}
            image = {name: values[name][row] for name in ("features", "feature_map", "model_input")}
            for first in range(0, len(of_row), RESCORED_AT_ONCE):
                part = of_row[first : first + RESCORED_AT_ONCE]
                found = self.scores(*self._altered(alters, image, part), one) @ direction[row]
                scores[row, first : first + len(part)] = found
                if first == 0:
                    # All scores of an image round alike: a few tell how much.
                    shaken = {name: self._shaken(value) for name, value in image.items()}
                    other = self.scores(*self._altered(alters, shaken, part), one) @ direction[row]
                    rounding[row] = np.abs(other - found).max()
        score = np.einsum("bn,bn->b", values["scores"].astype(np.float64), direction)
        return {"channels": channels, "channel_scores": scores, "score": score, "score_rounding": rounding}

    def _altered(self, alters: str, image: Values, part: Array) -> tuple[str, Array]:
        """Return which tensor is altered, and the altered ones of one image, a channel each."""
        if alters == "features":
            return "feature_map", _without(image["feature_map"], part, self.layout)
        masks = _masks(image["features"].astype(np.float64)[:, part].T, self.layout, self.main)
        return "model_input", (image["model_input"] * masks).astype(image["model_input"].dtype)

    def _shaken(self, value: Array) -> Array:
        """Return what float arithmetic may as well have given."""
        noise = np.random.default_rng(0).standard_normal(value.shape)
        return (value.astype(np.float64) * (1 + self.rounding * noise)).astype(value.dtype)


def _without(feature_map: Array, channels: Array, layout: Layout) -> Array:
    altered = np.repeat(feature_map[np.newaxis], len(channels), axis=0)
    for one, channel in zip(altered, channels, strict=True):
        one[(channel,) if layout.channels_first else (..., channel)] = 0
    return altered


def _masks(maps: Array, layout: Layout, main: ModelInput) -> Array:
    """Upsample maps `[n,P]`, bring each to 0..1, and give it the model input's axes."""
    masks = maps.reshape(-1, *layout.grid)
    for axis, size in enumerate(main.size, start=1):
        masks = np.moveaxis(np.tensordot(masks, interpolation(masks.shape[axis], size), (axis, 1)), -1, axis)
    flat = masks.reshape(len(maps), -1)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    scaled = (flat - low) / np.where(high > low, high - low, np.inf)
    return np.expand_dims(scaled.reshape(masks.shape), 1 if main.channels_first else -1)
