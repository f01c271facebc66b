"""What the client answers with."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_client import overlay

if TYPE_CHECKING:
    import os

    from PIL import Image

NOTEBOOK_PIXELS = 480
"""The longest side of a picture shown in a notebook."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model says of one image.

    Attributes:
        label: the class's name.
        class_index: the class's index, 0..N-1.
        score: the model's output for that class, a probability where it ends in softmax or sigmoid.
        predictions: the model's outputs, `[N]` float32; `[1]` where one sigmoid decides between two classes.
        labels: the names of all classes.
        model_version: the version that answered.
    """

    label: str
    class_index: int
    score: float
    predictions: np.ndarray[Any, np.dtype[np.float32]] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    model_version: int

    def top(self, n: int = 5) -> list[tuple[str, float]]:
        """The `n` classes of highest score, best first, as `(label, score)`."""
        scores = self.predictions
        if len(scores) == 1 and len(self.labels) == 2:
            scores = np.array([1 - scores[0], scores[0]])
        best = np.argsort(-scores, kind="stable")[:n]
        return [(self.labels[index], float(scores[index])) for index in best]

    def to_json(self) -> dict[str, Any]:
        """The answer in types that `json` writes: no image, and not the names of all classes."""
        return {
            "label": self.label,
            "class_index": self.class_index,
            "score": self.score,
            "predictions": self.predictions.tolist(),
            "model_version": self.model_version,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation(Prediction):
    """What a model says of one image, and which regions raised the score.

    Attributes:
        heatmap: `[h, w]` float32, 0..1, its own maximum at 1; all zeros where nothing raised the score.
        heatmap_peak: the map's maximum before it was scaled: compares evidence between images.
        method: the CAM method that computed the map, such as `"gradcam"`.
        image: the picture as it was given, upright, RGB, in its own size.
        colormap: the model's default for `overlay`.
        alpha: the model's default for `overlay`.
    """

    heatmap: np.ndarray[Any, np.dtype[np.float32]] = field(repr=False)
    heatmap_peak: float
    method: str
    image: Image.Image = field(repr=False)
    colormap: str = field(default="jet", repr=False)
    alpha: float = field(default=0.4, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The answer in types that `json` writes: no image, and not the names of all classes."""
        heatmap = {"heatmap": self.heatmap.tolist(), "heatmap_peak": self.heatmap_peak}
        return super().to_json() | heatmap | {"method": self.method}

    def overlay(self, *, colormap: str | None = None, alpha: float | None = None) -> Image.Image:
        """The picture with its heatmap over it, in the picture's own size.

        Args:
            colormap: `jet`, `viridis`, `inferno`, `turbo`, `magma` or `grey`; by default the model's own.
            alpha: how much of the picture the strongest colour covers, 0..1; by default the model's own.

        Raises:
            OptionError: `colormap` or `alpha` has a value it cannot have.
        """
        return self._blend(self.image, colormap, alpha)

    def save(self, path: str | os.PathLike[str], *, colormap: str | None = None, alpha: float | None = None) -> None:
        """Write the overlay to `path`; its suffix names the format.

        Raises:
            OptionError: `colormap` or `alpha` has a value it cannot have.
            OSError: the file cannot be written.
            ValueError: the suffix names no format that Pillow writes.
        """
        self.overlay(colormap=colormap, alpha=alpha).save(path)

    def _blend(self, image: Image.Image, colormap: str | None, alpha: float | None) -> Image.Image:
        return overlay.blend(
            image,
            self.heatmap,
            colormap=self.colormap if colormap is None else colormap,
            alpha=self.alpha if alpha is None else alpha,
        )

    def _repr_png_(self) -> bytes:
        view = self.image.copy()
        view.thumbnail((NOTEBOOK_PIXELS, NOTEBOOK_PIXELS))
        buffer = io.BytesIO()
        self._blend(view, None, None).save(buffer, "PNG")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode("ascii")
        label = html.escape(self.label)
        return (
            '<figure style="display:inline-block;margin:0">'
            f'<img alt="heatmap of {label}" src="data:image/png;base64,{picture}">'
            f"<figcaption>{label} {self.score:.3f}</figcaption></figure>"
        )


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version of a model, as the server sees it.

    Attributes:
        version: the version's number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING`, `END` or `UNKNOWN`.
        error: why the version failed; empty where it did not.
    """

    version: int
    state: str
    error: str = ""
