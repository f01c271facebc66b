"""What is known of a scene, and how the answers are measured against it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels; `x` and `y` are its left and top pixel, as in COCO."""

    x: int
    y: int
    width: int
    height: int

    def holds(self, x: int, y: int) -> bool:
        """Say whether pixel (`x`, `y`) lies inside."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


@dataclasses.dataclass(frozen=True)
class Truth:
    """One scene: its file name, the index of its class, and the box of the object."""

    file: str
    label: int
    box: Box


def write_truths(path: Path, truths: Sequence[Truth]) -> None:
    """Write the truths as JSON, each box as COCO writes it: `[x, y, width, height]`."""
    rows = [{"file": t.file, "label": t.label, "box": list(dataclasses.astuple(t.box))} for t in truths]
    path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")


def hottest_pixel(heatmap: npt.ArrayLike, size: tuple[int, int]) -> tuple[int, int] | None:
    """Find the pixel of the image that the heatmap points at.

    The map is upsampled bilinearly with half-pixel centres, as overlays are, and its maximum taken; of equal
    maxima the first in reading order.

    Args:
        heatmap: `[h, w]`, 0..1.
        size: width and height of the image, pixels; at least those of the map.

    Returns:
        `(x, y)`, or None where the map is zero everywhere: it points at nothing.
    """
    grid = np.asarray(heatmap, np.float32)
    if not grid.any():
        return None
    pixels = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BILINEAR))
    y, x = np.unravel_index(int(pixels.argmax()), pixels.shape)
    return int(x), int(y)


@dataclasses.dataclass(frozen=True)
class Tally:
    """How many answers were right, and how many of those were right for the right reason."""

    scenes: int
    correct: int
    pointed: int

    @property
    def accuracy(self) -> float:
        """Share of the scenes whose class was predicted, 0..1."""
        return self.correct / self.scenes if self.scenes else 0.0

    @property
    def pointing_game(self) -> float:
        """Share of the correctly classified scenes whose hottest pixel lies in the object's box, 0..1."""
        return self.pointed / self.correct if self.correct else 0.0


def tally(
    truths: Sequence[Truth], classes: Sequence[int], heatmaps: Sequence[npt.ArrayLike], size: tuple[int, int]
) -> Tally:
    """Measure answers against the truth: accuracy, and the pointing game without tolerance (Zhang et al. 2016).

    Args:
        truths: the truth of each scene.
        classes: the predicted class index of each scene, in the same order.
        heatmaps: the `[h, w]` heatmap of each scene's predicted class, in the same order.
        size: width and height of the scenes, pixels.
    """
    correct = pointed = 0
    for truth, class_index, heatmap in zip(truths, classes, heatmaps, strict=True):
        if class_index != truth.label:
            continue
        correct += 1
        pixel = hottest_pixel(heatmap, size)
        pointed += pixel is not None and truth.box.holds(*pixel)
    return Tally(len(truths), correct, pointed)
