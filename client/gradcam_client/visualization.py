"""How a heatmap is shown: one vocabulary for overlays, strips, contact sheets, reports and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, get_args

import numpy as np

from gradcam_client import overlay
from gradcam_client.errors import OptionError

if TYPE_CHECKING:
    from PIL import Image

    Array = np.ndarray[Any, np.dtype[Any]]

Polarity = Literal["positive", "negative", "both"]
OverlayType = Literal["original", "grayscale", "mask_black", "outlines", "none"]
POLARITIES: Final[tuple[str, ...]] = get_args(Polarity)
OVERLAY_TYPES: Final[tuple[str, ...]] = get_args(OverlayType)


class VisualizationFields(TypedDict, total=False):
    """The fields of `Visualization`, as keyword arguments."""

    colormap: str
    alpha: float
    polarity: Polarity
    overlay_type: OverlayType
    clip_percent_upperbound: float
    clip_percent_lowerbound: float
    threshold: float
    level: float


@dataclass(frozen=True, kw_only=True)
class Visualization:
    """How a heatmap is shown, in the words of Vertex Explainable AI's `visualization` block.

    Attributes:
        colormap: one of `overlay.COLORMAPS`. Maps whose middle is zero (`pink_green`, `pink_white_green`, `red_green`)
            show evidence for the class on their green side and evidence against it on the other.
        alpha: how much of the picture the strongest colour covers, 0..1, on `original` and `grayscale`.
        polarity: `positive` shows what raised the score; `negative` what lowered it, and `both` the two together on
            one scale: these two need the counterfactual map as well.
        overlay_type: what lies under the colours: the picture (`original`), the picture without its own colours
            (`grayscale`), or nothing (`none`: the painted map alone). `mask_black` shows the picture where the map is
            strong and black elsewhere; `outlines` draws lines on the picture around the regions above `level`.
        clip_percent_upperbound: the percentile of the map's cells from which on the colour is the strongest, 0..100;
            100 leaves the map as it is.
        clip_percent_lowerbound: the percentile of the map's cells below which nothing is shown, 0..100.
        threshold: the strength below which nothing is shown, 0..1, after the clipping.
        level: the strength along which `outlines` draws, above 0 and up to 1.

    Raises:
        OptionError: a field has a value it cannot have.
    """

    colormap: str = "jet"
    alpha: float = 0.4
    polarity: Polarity = "positive"
    overlay_type: OverlayType = "original"
    clip_percent_upperbound: float = 100.0
    clip_percent_lowerbound: float = 0.0
    threshold: float = 0.0
    level: float = 0.5

    def __post_init__(self) -> None:
        _chosen("colour map", self.colormap, overlay.COLORMAPS)
        _chosen("polarity", self.polarity, POLARITIES)
        _chosen("overlay type", self.overlay_type, OVERLAY_TYPES)
        if not 0 <= self.alpha <= 1:
            raise OptionError(f"alpha {self.alpha}: give an opacity between 0 and 1")
        if not 0 <= self.threshold <= 1:
            raise OptionError(f"threshold {self.threshold}: give a strength between 0 and 1")
        if not 0 < self.level <= 1:
            raise OptionError(f"level {self.level}: give a strength above 0 and up to 1")
        lower, upper = self.clip_percent_lowerbound, self.clip_percent_upperbound
        if not 0 <= lower < upper <= 100:
            raise OptionError(
                f"clip_percent_lowerbound {lower} and clip_percent_upperbound {upper}: "
                "give two percentiles between 0 and 100, the lower one below the upper one"
            )

    def evidence(self, heatmap: Array, height: int, width: int) -> Array:
        """Upsample a map, and leave out or strengthen what these fields say.

        The percentiles are those of the map's own cells, so that a picture and its thumbnail show the same.

        Args:
            heatmap: `[h, w]`, -1..1; below zero against the class.
            height: rows of the result, `H`.
            width: columns of the result, `W`.

        Returns:
            `[H, W]` float32, -1..1.
        """
        values = overlay.upsample(heatmap, height, width)
        cells = np.abs(np.asarray(heatmap, np.float32))
        if self.clip_percent_lowerbound > 0:
            values[np.abs(values) < np.percentile(cells, self.clip_percent_lowerbound)] = 0
        if self.clip_percent_upperbound < 100:
            strongest = np.percentile(cells, self.clip_percent_upperbound)
            # A map that is zero in most cells has that percentile at zero: all that is not zero lies above it.
            # In float64, which does not overflow where the smallest of float32 divides.
            scaled = np.clip(values.astype(np.float64) / strongest, -1, 1) if strongest > 0 else np.sign(values)
            values = scaled.astype(np.float32)
        if self.threshold > 0:
            values[np.abs(values) < self.threshold] = 0
        return values

    def paint(self, heatmap: Array, height: int, width: int) -> Image.Image:
        """The painted map alone.

        Args:
            heatmap: `[h, w]`, -1..1; below zero against the class.
            height: rows of the picture.
            width: columns of the picture.

        Returns:
            RGB.
        """
        return self._painted(self.evidence(heatmap, height, width)).convert("RGB")

    def draw(self, image: Image.Image, heatmap: Array) -> Image.Image:
        """Show a map with its picture.

        Args:
            image: the picture, any size.
            heatmap: `[h, w]`, -1..1; below zero against the class.

        Returns:
            RGB, the picture's size.
        """
        _, drawn = self.layers(image, heatmap)
        return drawn

    def layers(self, image: Image.Image, heatmap: Array) -> tuple[Image.Image, Image.Image]:
        """Show a map alone, and with its picture.

        Args:
            image: the picture, any size.
            heatmap: `[h, w]`, -1..1; below zero against the class.

        Returns:
            What `paint` returns, with the colour map as its palette: mode P, one byte a pixel; and what `draw` returns.
        """
        evidence = self.evidence(heatmap, image.height, image.width)
        painted = self._painted(evidence)
        return painted, self._over(image, evidence, painted)

    def _over(self, image: Image.Image, evidence: Array, painted: Image.Image) -> Image.Image:
        match self.overlay_type:
            case "none":
                return painted.convert("RGB")
            case "mask_black":
                return overlay.reveal(image, np.abs(evidence))
            case "outlines":
                return self._outlined(image, evidence)
            case "grayscale":
                image = image.convert("L")
        return overlay.cover(image, painted, np.abs(evidence), self.alpha)

    def _painted(self, evidence: Array) -> Image.Image:
        return overlay.index(evidence, self.colormap, signed=self.polarity == "both")

    def _outlined(self, image: Image.Image, evidence: Array) -> Image.Image:
        for sign in (1, -1):
            line = self._painted(np.array([[sign * self.level]])).convert("RGB")
            red, green, blue = np.asarray(line)[0, 0].tolist()
            image = overlay.outline(image, sign * evidence >= self.level, (red, green, blue))
        return image


def _chosen(what: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise OptionError(f"no {what} {value!r}: choose one of {', '.join(values)}")
