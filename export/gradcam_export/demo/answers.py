"""What was answered for a picture, and how it is measured against the truth."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from gradcam_export.demo.truth import Truth


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer for one picture.

    Attributes:
        image: the picture's file.
        label: label of the predicted class.
        score: its score, 0..1 where the model ends in probabilities.
        heatmap: `[h, w]` float32, 0..1.
        overlay: file of the picture with its heatmap over it.
    """

    image: Path
    label: str
    score: float
    heatmap: npt.NDArray[np.float32]
    overlay: Path

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read one line of what `gradcam explain --json` prints."""
        value = json.loads(line)
        heatmap = np.array(value["heatmap"], np.float32)
        return cls(Path(value["image"]), value["label"], value["score"], heatmap, Path(value["overlay"]))

    @property
    def painted_heatmap(self) -> Path:
        """File of the heatmap in colours; the client writes it beside the overlay."""
        return self.overlay.with_name(self.overlay.name.removesuffix("_overlay.png") + "_heatmap.png")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One answer held against the truth: was the class right, and does the heatmap point at the object?"""

    correct: bool
    pointed: bool

    @property
    def right(self) -> bool:
        """Right, and for the right reason."""
        return self.correct and self.pointed


@dataclasses.dataclass(frozen=True)
class Tally:
    """How many answers were correct, and how many of those pointed at the object."""

    scenes: int
    correct: int
    pointed: int

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Self:
        """Count."""
        return cls(len(verdicts), sum(v.correct for v in verdicts), sum(v.right for v in verdicts))

    @property
    def accuracy(self) -> float:
        """Share of the scenes whose class was predicted, 0..1."""
        return self.correct / self.scenes if self.scenes else 0.0

    @property
    def pointing_game(self) -> float:
        """Share of the correctly classified scenes whose hottest pixel lies in the object's box, 0..1."""
        return self.pointed / self.correct if self.correct else 0.0


def judge(truth: Truth, answer: Answer) -> Verdict:
    """Hold an answer against the truth: class, and pointing game without tolerance (Zhang et al. 2016)."""
    with Image.open(answer.image) as image:
        pixel = hottest_pixel(answer.heatmap, image.size)
    return Verdict(answer.label == truth.label, pixel is not None and truth.box.holds(*pixel))


def hottest_pixel(heatmap: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[int, int] | None:
    """Find the pixel of the picture that the heatmap points at.

    The map is resized bilinearly with half-pixel centres, as overlays are, and its maximum taken; of equal maxima
    the first in reading order.

    Args:
        heatmap: `[h, w]`, 0..1.
        size: width and height of the picture, pixels.

    Returns:
        `(x, y)`, or None where the map is zero everywhere: it points at nothing.
    """
    if not heatmap.any():
        return None
    pixels = np.asarray(Image.fromarray(heatmap).resize(size, Image.Resampling.BILINEAR))
    y, x = np.unravel_index(int(pixels.argmax()), pixels.shape)
    return int(x), int(y)
