"""What a report's browser needs to paint heatmaps as `Visualization` does: small maps, and colours for their values."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradcam_client.overlay import coverage, paint

if TYPE_CHECKING:
    from gradcam_client.results import Explanation
    from gradcam_client.visualization import Visualization

    Array = np.ndarray[Any, np.dtype[Any]]

HEAT_CELLS: Final = 128
"""The longest side of a map in the page; the browser upsamples it to the picture as `overlay.upsample` does."""
_ENDS: Final = {
    "positive": ("no evidence", "strongest"),
    "negative": ("no evidence", "strongest against"),
    "both": ("against", "for"),
}
_EMPTY: Final = {
    "positive": "Nothing raised this score",
    "negative": "Nothing lowered this score",
    "both": "Nothing raised or lowered this score",
}


class Layers:
    """Turns maps into cells, whole numbers from 0 up, and says which colours stand for them.

    Without evidence against the class the cells are 0..255 for 0..1, else 0..254 for -1..1.

    Args:
        visualization: how heatmaps are shown.
    """

    def __init__(self, visualization: Visualization) -> None:
        self._visualization = visualization
        signed = visualization.polarity != "positive"
        self._zero, self._steps = (127, 127) if signed else (0, 255)

    def style(self) -> dict[str, Any]:
        """What holds for all maps of the page: tables of colours, `[256, 4]` or `[255, 4]` RGBA, and words.

        The page sets the opacity of the whole layer alone; what a table covers and leaves clear is for full opacity.
        """
        shown = self._visualization
        values = (np.arange(self._zero + self._steps + 1, dtype=np.float32) - self._zero) / self._steps
        colours = paint(values[None], shown.colormap, signed=shown.polarity == "both")[0]
        first, last = {"positive": (0, 255), "negative": (127, 0), "both": (0, 254)}[shown.polarity]
        return {
            "alpha": shown.alpha if shown.overlay_type in ("original", "grayscale") else 1,
            "grey": shown.overlay_type == "grayscale",
            "outlines": shown.overlay_type == "outlines",
            "colours": _table(colours, np.full(len(values), 255)),
            "cover": self._cover(values, colours),
            "scale": [first, last, *_ENDS[shown.polarity]],
            "empty": f"{_EMPTY[shown.polarity]}: the heatmap is empty.",
        }

    def cells(self, explanation: Explanation, against: Explanation | None) -> dict[str, Any]:
        """A map as the page holds it.

        Args:
            explanation: gives the map.
            against: the counterfactual explanation, where the polarity asks for one.

        Raises:
            OptionError: `against` is missing or does not fit.
        """
        shown = self._visualization
        evidence = explanation.evidence(shown.polarity, against)
        rows, columns = evidence.shape
        if (shown.clip_percent_lowerbound, shown.clip_percent_upperbound, shown.threshold) != (0, 100, 0):
            # Upsampling comes before the cut: on the cells themselves its edge would follow them in steps.
            columns, rows = explanation.image.size
            scale = HEAT_CELLS / max(rows, columns)
        else:
            scale = min(1.0, HEAT_CELLS / max(rows, columns))
        values = shown.evidence(evidence, max(1, round(rows * scale)), max(1, round(columns * scale)))
        cells = np.rint(self._zero + self._steps * np.clip(values, -1, 1)).astype(np.uint8)
        return {"grid": cells.shape, "cells": _base64(cells), "empty": not values.any()}

    def _cover(self, values: Array, colours: Array) -> str:
        """What lies over the picture for each value."""
        strength = np.abs(values)
        match self._visualization.overlay_type:
            case "none":
                return _table(colours, np.full(len(values), 255))
            case "mask_black":
                return _table(np.zeros_like(colours), 255 - np.rint(255 * coverage(strength)))
            case "outlines":
                return self._lines(values, colours)
        return _table(colours, np.rint(255 * coverage(strength)))

    def _lines(self, values: Array, colours: Array) -> str:
        """One colour for each region: the page draws it along the borders between them."""
        level = self._visualization.level
        lines = np.zeros_like(colours)
        for inside in (values >= level, values <= -level):
            if inside.any():
                nearest = np.abs(values[inside]).argmin()
                lines[inside] = colours[inside][nearest]
        if lines.any() and lines.astype(int).sum(1).max() <= 3 * 127:
            lines[np.abs(values) < level] = 255
        return _table(lines, np.full(len(values), 255))


def _table(colours: Array, opacity: Array) -> str:
    return _base64(np.column_stack([colours, opacity.astype(np.uint8)]))


def _base64(values: Array) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
