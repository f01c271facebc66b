"""The lines and tables that every report of a comparison shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradcam_export.checks.drift.statistics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcam_export.checks.drift.pair import LabelChange
    from gradcam_export.checks.drift.statistics import Group, ImageDrift

    Table = tuple[list[str], list[list[str]]]

_NAMED: Final = 5
"""Classes that a line names."""
_KIND_OF_HEATMAP: Final = ("explanation method", "explanation score")


def note_lines(change: LabelChange, facts: Sequence[tuple[str, str, str]]) -> list[str]:
    """Say what makes the versions hard to compare: other classes, or heatmaps of another kind; nothing else."""
    lines = [
        f"the heatmaps are of another kind: {name} {old} → {new}"
        for name, old, new in facts
        if name in _KIND_OF_HEATMAP
    ]
    if change.removed or change.added:
        parts = [
            f"{words} {', '.join(map(repr, labels[:_NAMED]))}{' …' if len(labels) > _NAMED else ''} ({len(labels)})"
            for words, labels in (("the new version lacks", change.removed), ("it adds", change.added))
            if labels
        ]
        lines.append(f"the classes differ: {'; '.join(parts)}; the rest is compared by name")
    if change.reordered:
        lines.append("the classes have other indices; they are compared by name")
    return lines


def flips_of(group: Group) -> str:
    """Say how many predictions flip."""
    return f"{group.flips} of {group.images} predictions flip ({group.flip_share:.1%})"


def statistics_table(group: Group) -> Table:
    """Return headers, and one row a metric."""
    rows = []
    for metric in METRICS:
        found = group.statistics[metric.name]
        values = (None,) * 4 if found is None else (found.mean, found.median, found.p95, found.worst)
        rows.append([metric.title, *map(number, values)])
    return ["", "mean", "median", "p95", "worst"], rows


def class_table(groups: Sequence[Group]) -> Table:
    """Return headers, and one row a class: of each metric the mean."""
    rows = []
    for group in groups:
        found = [group.statistics[metric.name] for metric in METRICS]
        means = [None if one is None else one.mean for one in found]
        rows.append([str(group.label), str(group.images), str(group.flips), *map(number, means)])
    return ["class", "images", "flips", *(metric.title for metric in METRICS)], rows


def flip_table(images: Sequence[ImageDrift]) -> Table:
    """Return headers, and one row an image."""
    rows = [
        [image.file, image.old_label, image.new_label, number(image.old_score), number(image.new_score)]
        for image in images
    ]
    return ["flipped", "old class", "new class", "old score", "new score of the old class"], rows


def pair_table(images: Sequence[ImageDrift]) -> Table:
    """Return headers, and one row an image that both versions explain."""
    rows = [
        [
            image.file,
            image.old_label,
            image.new_label,
            number(image.iou),
            number(image.correlation),
            number(image.shift),
        ]
        for image in images
    ]
    return ["least alike heatmaps", "old class", "new class", "IoU", "correlation", "shift"], rows


def facts_table(facts: Sequence[tuple[str, str, str]]) -> Table:
    """Return headers, and one row a fact that the versions state otherwise."""
    return ["stated by the versions", "old", "new"], [list(row) for row in facts]


def plain(text: str) -> str:
    """Return `text` as a terminal and a UTF-8 file can show it: one line, whatever a file's name holds."""
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return shown.encode("utf-8", "replace").decode("utf-8")


def number(value: float | None) -> str:
    """Return a figure in four digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.4g}" if abs(value) >= 1e-4 or not value else f"{value:.1e}"
