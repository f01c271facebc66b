"""What changed between two versions, for a terminal, a job summary and a program."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from gradcam_export.checks.drift.statistics import worst_first
from gradcam_export.checks.drift.tables import (
    class_table,
    facts_table,
    flip_table,
    flips_of,
    note_lines,
    pair_table,
    plain,
    statistics_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gradcam_export.checks.drift.limits import Breach, Limits
    from gradcam_export.checks.drift.pair import LabelChange
    from gradcam_export.checks.drift.statistics import Group, ImageDrift

SCHEMA: Final = 1
"""Of the JSON report."""
SHOWN_FLIPS: Final = 20
"""Flips that a terminal and a job summary list."""
SHOWN_CLASSES: Final = 30
"""Classes that they list."""
SHOWN_PAIRS: Final = 5
"""Images that they list for their heatmaps."""

DEFINITIONS: Final = (
    "Both heatmaps of an image explain the class that the old version predicts. Score drift: by how much that class's "
    "output differs. Correlation: Pearson's. IoU: intersection over union of the hottest 20 % of the area. Shift: "
    "distance of the centres of mass as a fraction of the image's diagonal. p95: 95 % of the images are no worse. "
    "Two zero maps are alike (1, 1, 0); a zero map and another have nothing in common (0, 0, 1)."
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that was found."""

    old: Path
    new: Path
    label_change: LabelChange
    facts: Sequence[tuple[str, str, str]]
    """What the manifests say otherwise: a name, the old value, the new one."""
    images: Sequence[ImageDrift]
    groups: Sequence[Group]
    """Overall first, then the classes."""
    limits: Limits
    breaches: Sequence[Breach]

    @property
    def flipped(self) -> list[ImageDrift]:
        """The images of which another class is predicted."""
        return [image for image in self.images if image.flipped]


def as_text(comparison: Comparison) -> str:
    """Return what a terminal shows."""
    overall = comparison.groups[0]
    parts = [
        f"{comparison.old} → {comparison.new}: {overall.images} images, {flips_of(overall)}",
        *note_lines(comparison.label_change, comparison.facts),
        "",
        *_aligned(*statistics_table(overall)),
        "",
        *_aligned(*class_table(comparison.groups[1:][:SHOWN_CLASSES])),
        *_rest(len(comparison.groups) - 1, SHOWN_CLASSES, "classes"),
        "",
        *_aligned(*pair_table(worst_first(comparison.images)[:SHOWN_PAIRS])),
    ]
    if comparison.flipped:
        parts += ["", *_aligned(*flip_table(comparison.flipped[:SHOWN_FLIPS]))]
        parts += _rest(len(comparison.flipped), SHOWN_FLIPS, "flips")
    return "\n".join([*map(plain, parts), "", *verdict_lines(comparison)])


def as_markdown(comparison: Comparison) -> str:
    """Return what a job summary shows."""
    overall = comparison.groups[0]
    parts = [
        f"## {_escaped(str(comparison.old))} → {_escaped(str(comparison.new))}",
        "",
        *(f"- {_escaped(line)}" for line in verdict_lines(comparison)),
        f"- {overall.images} images, {flips_of(overall)}",
        *(f"- {_escaped(line)}" for line in note_lines(comparison.label_change, comparison.facts)),
        "",
        *_markdown(*statistics_table(overall)),
        "",
        *_markdown(*class_table(comparison.groups[1:][:SHOWN_CLASSES])),
        "",
        *_rest(len(comparison.groups) - 1, SHOWN_CLASSES, "classes"),
        "",
        *_markdown(*pair_table(worst_first(comparison.images)[:SHOWN_PAIRS])),
    ]
    if comparison.flipped:
        parts += ["", *_markdown(*flip_table(comparison.flipped[:SHOWN_FLIPS]))]
        parts += ["", *_rest(len(comparison.flipped), SHOWN_FLIPS, "flips")]
    if comparison.facts:
        parts += ["", *_markdown(*facts_table(comparison.facts))]
    return "\n".join([*parts, "", DEFINITIONS, ""])


def as_json(comparison: Comparison) -> str:
    """Return all of it for programs."""
    report = {
        "schema": SCHEMA,
        "old": str(comparison.old),
        "new": str(comparison.new),
        "passed": not comparison.breaches,
        "limits": comparison.limits.asked | {"per_class": comparison.limits.per_class},
        "breaches": [asdict(breach) for breach in comparison.breaches],
        "labels": asdict(comparison.label_change),
        "facts": [{"name": name, "old": old, "new": new} for name, old, new in comparison.facts],
        "overall": _group(comparison.groups[0]),
        "classes": [{"label": group.label} | _group(group) for group in comparison.groups[1:]],
        "images": [
            asdict(image) | {"flipped": image.flipped, "score_drift": image.score_drift} for image in comparison.images
        ],
    }
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def _group(group: Group) -> dict[str, Any]:
    statistics = {name: found and asdict(found) for name, found in group.statistics.items()}
    return {"images": group.images, "flips": group.flips, "flip_share": group.flip_share} | statistics


def verdict_lines(comparison: Comparison) -> list[str]:
    """Say for each limit that does not hold that it does not; else that all hold, or that none was given."""
    if comparison.breaches:
        return [plain(f"FAILED: {breach.message}") for breach in comparison.breaches]
    count = len(comparison.limits.asked)
    if not count:
        return ["no limits were given, such as --min-iou 0.5: nothing to hold"]
    return [f"passed: {'the limit holds' if count == 1 else f'all {count} limits hold'}"]


def _rest(count: int, shown: int, what: str) -> list[str]:
    return [f"… and {count - shown} more {what}, in the report"] if count > shown else []


def _aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [[plain(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    first = [row[0].ljust(widths[0]) for row in table]
    rest = ["".join(f"  {cell.rjust(width)}" for cell, width in zip(row[1:], widths[1:], strict=True)) for row in table]
    return [(left + right).rstrip() for left, right in zip(first, rest, strict=True)]


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(_escaped, row)) + " |" for row in (headers, *rows)]
    # All but the first column are mostly figures.
    return [lines[0], "| --- |" + " ---: |" * (len(headers) - 1), *lines[1:]]


def _escaped(text: str) -> str:
    """Return `text` as Markdown shows it, whatever a label or a file's name holds."""
    return "".join(f"\\{character}" if character in "\\|`*_[]<>#" else character for character in plain(text))
