"""How much may change between two versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradcam_export.checks.drift.statistics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradcam_export.checks.drift.statistics import Group

FLIPS: Final = "flips"
_MAX_FLIPS: Final = "max_flips"
_METRIC_OF: Final = {
    "max_score_drift": "score_drift",
    "min_correlation": "correlation",
    "min_iou": "iou",
    "max_shift": "shift",
}
_METRICS: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that were asked for; `None`: any change may be."""

    max_flips: float | None = None
    """Of the share of the images that another class is predicted of, 0..1."""
    max_score_drift: float | None = None
    """Of the mean score drift."""
    min_correlation: float | None = None
    """Of the mean correlation of the heatmaps."""
    min_iou: float | None = None
    """Of the mean IoU of their hottest 20 %."""
    max_shift: float | None = None
    """Of the mean shift of their centres."""
    per_class: bool = False
    """Whether they hold for each class by itself too."""

    @property
    def asked(self) -> dict[str, float]:
        """The limits there are, by their names."""
        values = {name: getattr(self, name) for name in (_MAX_FLIPS, *_METRIC_OF)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Breach:
    """One limit that does not hold."""

    limit: str
    """The limit's name."""
    metric: str
    """What was measured: `flips`, or a name of `METRICS`."""
    label: str | None
    """The class it does not hold for; `None`: all images together."""
    found: float | None
    """What was found; `None` where nothing could be measured."""
    message: str


def breaches_of(groups: Sequence[Group], limits: Limits) -> tuple[Breach, ...]:
    """Return the limits that do not hold, those overall first.

    What could not be measured on any image breaks its limit too: nobody can say that it holds.
    """
    held = [group for group in groups if limits.per_class or group.label is None]
    return tuple(
        breach
        for group in held
        for name, limit in limits.asked.items()
        for breach in (_flips(group, limit) if name == _MAX_FLIPS else _metric(group, name, limit))
    )


def option(limit: str) -> str:
    """Return the option that sets a limit."""
    return "--" + limit.replace("_", "-")


def _flips(group: Group, limit: float) -> Iterator[Breach]:
    if group.flip_share > limit:
        message = (
            f"{_of(group)}{group.flips} of {group.images} predictions flip ({group.flip_share:.4g}), "
            f"more than {option(_MAX_FLIPS)} {limit:g}"
        )
        yield Breach(limit=_MAX_FLIPS, metric=FLIPS, label=group.label, found=group.flip_share, message=message)


def _metric(group: Group, name: str, limit: float) -> Iterator[Breach]:
    metric = _METRICS[_METRIC_OF[name]]
    found = group.statistics[metric.name]
    if found is None:
        message = (
            f"{_of(group)}{metric.title} is unknown, since the new version has no class that the old one predicts on "
            f"{_images(group)}, so {option(name)} {limit:g} does not hold"
        )
        yield Breach(limit=name, metric=metric.name, label=group.label, found=None, message=message)
    elif found.mean < limit if metric.high_is_good else found.mean > limit:
        relation = "less" if metric.high_is_good else "more"
        message = (
            f"{_of(group)}mean {metric.title} is {found.mean:.4g} over {_images(group)}, "
            f"{relation} than {option(name)} {limit:g}"
        )
        yield Breach(limit=name, metric=metric.name, label=group.label, found=found.mean, message=message)


def _of(group: Group) -> str:
    return "" if group.label is None else f"class {group.label!r}: "


def _images(group: Group) -> str:
    return f"{group.images} image{'s' if group.images != 1 else ''}"
