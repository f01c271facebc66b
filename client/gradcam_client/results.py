"""What the client answers with."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradcam_client import figures
from gradcam_client.errors import OptionError
from gradcam_client.visualization import Visualization

if TYPE_CHECKING:
    import os
    from typing import Unpack

    from PIL import Image

    from gradcam_client.visualization import Polarity, VisualizationFields

NOTEBOOK_PIXELS = 480
"""The longest side of a picture shown in a notebook."""
_POSITIVE: Final = "gradcam"
_NEGATIVE: Final = "counterfactual"


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

    def overlay(
        self,
        visualization: Visualization | None = None,
        *,
        negative: Explanation | None = None,
        size: int | None = None,
        **fields: Unpack[VisualizationFields],
    ) -> Image.Image:
        """The picture with its heatmap over it.

        Args:
            visualization: how to show the heatmap; by default in the model's own colour map and opacity.
            negative: what `client.explain(image, class_index=..., method="counterfactual")` answers, for the
                polarities `negative` and `both`.
            size: pixels of the longest side at most; by default the picture's own size.
            fields: those of `Visualization` to change, such as `colormap="viridis"`.

        Raises:
            OptionError: a field has a value it cannot have, `size` is less than 1, or `negative` is missing or does
                not fit.
        """
        shown = self._shown(visualization, fields)
        image = self.image if size is None else figures.scaled(self.image, size)
        return shown.draw(image, self.evidence(shown.polarity, negative))

    def save(
        self,
        path: str | os.PathLike[str],
        visualization: Visualization | None = None,
        *,
        negative: Explanation | None = None,
        **fields: Unpack[VisualizationFields],
    ) -> None:
        """Write the overlay to `path`; its suffix names the format.

        Args:
            path: the file.
            visualization: as for `overlay`.
            negative: as for `overlay`.
            fields: as for `overlay`.

        Raises:
            OptionError: as by `overlay`.
            OSError: the file cannot be written.
            ValueError: the suffix names no format that Pillow writes.
        """
        self.overlay(visualization, negative=negative, **fields).save(path)

    def strip(
        self,
        visualization: Visualization | None = None,
        *,
        negative: Explanation | None = None,
        size: int | None = None,
        font: str | os.PathLike[str] | None = None,
        **fields: Unpack[VisualizationFields],
    ) -> Image.Image:
        """The picture, its heatmap and its overlay side by side, under a banner with the label and the score.

        Args:
            visualization: as for `overlay`.
            negative: as for `overlay`.
            size: pixels of each picture's longest side; by default the picture's own, a small one enlarged.
            font: a TrueType or OpenType file for the banner. Pillow's own, the default, has the letters of English
                alone: accents are left out, and for other writing stands the number of the class.
            fields: as for `overlay`.

        Raises:
            OptionError: as by `overlay`, or `font` cannot be read.
        """
        shown = self._shown(visualization, fields)
        heatmap = self.evidence(shown.polarity, negative)
        image = figures.scaled(self.image, size)
        painted, drawn = shown.layers(image, heatmap)
        parts = (image, painted.convert("RGB"), drawn)
        tile = figures.Tile(pictures=parts, label=self.label, class_index=self.class_index, score=self.score)
        return figures.sheet([tile], font=font)

    def _shown(self, visualization: Visualization | None, fields: VisualizationFields) -> Visualization:
        if visualization:
            return replace(visualization, **fields)
        chosen: VisualizationFields = {"colormap": self.colormap, "alpha": self.alpha}
        chosen.update(fields)
        return Visualization(**chosen)

    def evidence(self, polarity: Polarity, negative: Explanation | None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The map that a polarity shows, `[h, w]`, -1..1; evidence against the class is below zero."""
        if polarity == "positive":
            return self.heatmap
        if polarity == "negative" and negative is None and self.method == _NEGATIVE:
            return -self.heatmap
        against = self._fitting(polarity, negative)
        if polarity == "negative":
            return -against.heatmap
        if self.method != _POSITIVE:
            raise OptionError(
                f"polarity 'both' of a map by {self.method}: its peak has another unit than the counterfactual map's; "
                f"explain with method={_POSITIVE!r}"
            )
        # The two are the halves of one signed map, each divided by its own peak.
        strongest = max(self.heatmap_peak, against.heatmap_peak) or 1.0
        share, share_against = np.float32(self.heatmap_peak / strongest), np.float32(against.heatmap_peak / strongest)
        return self.heatmap * share - against.heatmap * share_against

    def _fitting(self, polarity: Polarity, negative: Explanation | None) -> Explanation:
        if negative is None:
            raise OptionError(
                f"polarity {polarity!r} needs the counterfactual map: "
                f"give negative=client.explain(image, class_index={self.class_index}, method={_NEGATIVE!r})"
            )
        if negative.method != _NEGATIVE:
            raise OptionError(f"negative: a map by {negative.method}; explain with method={_NEGATIVE!r}")
        if negative.class_index != self.class_index:
            raise OptionError(
                f"negative: explains class {negative.class_index}, not {self.class_index}; "
                f"explain with class_index={self.class_index}"
            )
        if (negative.image.size, negative.heatmap.shape) != (self.image.size, self.heatmap.shape):
            raise OptionError("negative: explains another picture; explain the same one twice")
        return negative

    def _repr_png_(self) -> bytes:
        view = self.image.copy()
        view.thumbnail((NOTEBOOK_PIXELS, NOTEBOOK_PIXELS))
        buffer = io.BytesIO()
        self._shown(None, {}).draw(view, self.heatmap).save(buffer, "PNG")
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
