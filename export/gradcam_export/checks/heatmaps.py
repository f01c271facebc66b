"""What each method's heatmaps should be, and how well float arithmetic can know them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gradcam_export.checks import oracle
from gradcam_export.checks.comparison import Array, Check, compare

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOAT32_TOLERANCE = 1e-4
"""Largest difference of a heatmap on its 0..1 scale (deep networks in float32 against float64)."""
HALF_TOLERANCE = 2e-2
"""The same where the features are float16 or bfloat16."""
_DRAWS = 3
_MARGIN = 3.0


class ExpectedHeatmaps:
    """The float64 formula of each method on the live model's values.

    Args:
        expected: as `gradcam_export.graph.live.live_values` names them.
    """

    def __init__(self, expected: Mapping[str, Array]) -> None:
        self._expected = {name: expected[name] for name in expected}
        self._rounding = float(expected["rounding"])
        self._normalised = cache(self._normalise)
        self.tolerance = FLOAT32_TOLERANCE if self._rounding <= FLOAT32_TOLERANCE else HALF_TOLERANCE

    def rows(self, method: str) -> int:
        """Return of how many rows, from the first on, the method's heatmaps are known."""
        return len(self._expected.get(f"{method}/score", self._expected["features"]))

    def slack(self, method: str) -> Array:
        """Return how many times `tolerance` the heatmap of each row may differ, `[rows]`, at least 1.

        A map that nearly cancels, or whose class has hardly a gradient, is known to the rounding of its terms alone:
        how far, the formula itself shows when its terms are shaken by that much.
        """
        wanted = self._normalised(method, 0)
        draws = [np.abs(self._normalised(method, draw) - wanted).max(axis=1) for draw in range(1, _DRAWS + 1)]
        return np.maximum(1.0, _MARGIN * np.max(draws, axis=0) / self.tolerance)

    def check_peak(self, method: str, peak: Array) -> Check:
        """Compare `heatmap_peak` `[rows]`, relative to the largest, with the formula's maxima before division."""
        wanted, *draws = [
            oracle.heatmap(method, self._evidence(method, draw)).max(axis=1) for draw in range(_DRAWS + 1)
        ]
        scale = wanted.max() or 1.0
        known = np.max([np.abs(draw - wanted) for draw in draws], axis=0) / scale
        slack = np.maximum(1.0, _MARGIN * known / self.tolerance)
        return compare(f"heatmap_peak of {method}", peak / scale, wanted / scale, self.tolerance, slack)

    def of(self, method: str) -> Array:
        """Return the formula's heatmaps, 0..1, `[rows,P]`."""
        return self._normalised(method, 0)

    def check(self, method: str, heatmap: Array) -> Check:
        """Compare heatmaps `[rows,*grid]` with the formula's."""
        wanted = self.of(method).reshape(len(heatmap), -1)
        if wanted.size == heatmap.size:
            wanted = wanted.reshape(heatmap.shape)
        return compare(f"heatmap of {method}", heatmap, wanted, self.tolerance, self.slack(method))

    def _normalise(self, method: str, draw: int) -> Array:
        """Return the map divided by its maximum, `[rows,P]`; of values shaken by rounding where `draw` is not 0."""
        raised = oracle.heatmap(method, self._evidence(method, draw))
        peak = raised.max(axis=1, keepdims=True)
        return raised / np.where(peak > 0, peak, 1)

    def _evidence(self, method: str, draw: int) -> dict[str, Array]:
        rows = self.rows(method)
        names = ("features", "gradients", "score", "channels", "channel_scores")
        found = {name: self._expected.get(f"{method}/{name}", self._expected.get(name)) for name in names}
        random = np.random.default_rng(draw)
        return {
            name: value[:rows] if name == "channels" or not draw else self._shaken(value[:rows], name, method, random)
            for name, value in found.items()
            if value is not None
        }

    def _shaken(self, value: Array, name: str, method: str, random: np.random.Generator) -> Array:
        exact = value.astype(np.float64)
        scale = self._rounding * np.abs(exact)
        if name.endswith(("score", "scores")):
            # A score is a sum of many terms, so its rounding is that of the largest score; of altered inputs, what
            # the network makes of the rounding of the masks, which may be far more.
            measured = self._expected.get(f"{method}/score_rounding", np.zeros(len(exact)))
            largest = self._rounding * np.abs(exact).max(initial=0.0)
            scale = np.maximum(largest, measured.reshape(-1, *[1] * (exact.ndim - 1)))
        return exact + scale * random.standard_normal(exact.shape)
