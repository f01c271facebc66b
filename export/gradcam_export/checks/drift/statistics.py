"""What changed on each image, and that summed up per class and overall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, kw_only=True)
class ImageDrift:
    """What changed on one image.

    All but the labels is of the class that the old version predicts; what the new one says of a class that it does not
    have is `None`.
    """

    file: str
    """Its path under the folder of images."""
    old_label: str
    """What the old version predicts."""
    new_label: str
    """What the new version predicts."""
    old_score: float
    """The old version's output for the old class."""
    new_score: float | None
    """The new version's output for the old class."""
    correlation: float | None
    """Pearson's correlation of the heatmaps, -1..1."""
    iou: float | None
    """Intersection over union of their hottest 20 %, 0..1."""
    shift: float | None
    """Distance of their centres of mass in diagonals of the image, 0..1."""

    @property
    def flipped(self) -> bool:
        """Whether another class is predicted now."""
        return self.old_label != self.new_label

    @property
    def score_drift(self) -> float | None:
        """By how much the output for the old class differs, at least 0."""
        return None if self.new_score is None else abs(self.new_score - self.old_score)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One of the measured differences."""

    name: str
    """Its key in reports."""
    title: str
    """Its heading for readers."""
    high_is_good: bool
    """Whether large values mean that little changed."""
    of: Callable[[ImageDrift], float | None]


METRICS: Final = (
    Metric(name="score_drift", title="score drift", high_is_good=False, of=lambda image: image.score_drift),
    Metric(name="correlation", title="heatmap correlation", high_is_good=True, of=lambda image: image.correlation),
    Metric(name="iou", title="IoU of the hottest 20 %", high_is_good=True, of=lambda image: image.iou),
    Metric(name="shift", title="shift of the centre", high_is_good=False, of=lambda image: image.shift),
)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """One metric over several images."""

    mean: float
    median: float
    p95: float
    """95 % of the images are no worse."""
    worst: float

    @classmethod
    def of(cls, metric: Metric, images: Sequence[ImageDrift]) -> Statistics | None:
        """Sum up the images that have the metric; `None` where none has."""
        values = np.array([value for value in map(metric.of, images) if value is not None], np.float64)
        if not values.size:
            return None
        return cls(
            mean=float(values.mean()),
            median=float(np.median(values)),
            p95=float(np.percentile(values, 5 if metric.high_is_good else 95)),
            worst=float(values.min() if metric.high_is_good else values.max()),
        )


@dataclass(frozen=True, kw_only=True)
class Group:
    """What changed on several images: all, or those of which the old version predicts one class."""

    label: str | None
    """The class; `None`: all of them."""
    images: int
    flips: int
    statistics: dict[str, Statistics | None]
    """By the names of `METRICS`."""

    @property
    def flip_share(self) -> float:
        """The share of the images that another class is predicted of, 0..1."""
        return self.flips / self.images

    @classmethod
    def of(cls, label: str | None, images: Sequence[ImageDrift]) -> Group:
        """Sum up at least one image."""
        return cls(
            label=label,
            images=len(images),
            flips=sum(image.flipped for image in images),
            statistics={metric.name: Statistics.of(metric, images) for metric in METRICS},
        )


def groups_of(images: Sequence[ImageDrift]) -> tuple[Group, ...]:
    """Sum up at least one image: overall, then by the old version's class, the least alike maps first."""
    by_label: dict[str, list[ImageDrift]] = {}
    for image in images:
        by_label.setdefault(image.old_label, []).append(image)
    classes = [Group.of(label, of_label) for label, of_label in by_label.items()]
    return (Group.of(None, images), *sorted(classes, key=_alikeness))


def worst_first(images: Sequence[ImageDrift]) -> list[ImageDrift]:
    """Return the images that both versions explain, those first whose heatmaps have least in common."""
    explained = [image for image in images if image.iou is not None]
    return sorted(explained, key=lambda image: (image.iou, image.correlation, -(image.shift or 0.0), image.file))


def _alikeness(group: Group) -> tuple[float, str]:
    overlap = group.statistics["iou"]
    return (-1.0 if overlap is None else overlap.mean, group.label or "")
