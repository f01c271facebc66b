"""What changed between two versions, as a page with the worst pairs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from gradcam_export.checks.drift.limits import FLIPS
from gradcam_export.checks.drift.report import DEFINITIONS, verdict_lines
from gradcam_export.checks.drift.statistics import METRICS, worst_first
from gradcam_export.checks.drift.tables import (
    class_table,
    facts_table,
    flip_table,
    flips_of,
    note_lines,
    number,
    plain,
    statistics_table,
)
from gradcam_export.checks.heat_colours import overlay
from gradcam_export.checks.page import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gradcam_export.checks.drift.pair import Explained
    from gradcam_export.checks.drift.report import Comparison
    from gradcam_export.checks.drift.statistics import ImageDrift

Array = np.ndarray[Any, Any]

SHOWN_PAIRS: Final = 12
"""Pairs in each of the two galleries."""
SHOWN_FLIPS: Final = 200
"""Flips in the table."""
SHOWN_BARS: Final = 30
"""Classes with a bar each."""
SIDE: Final = 256
"""The longer side of a picture, pixels."""


def write_page(path: Path, comparison: Comparison, explain: Callable[[Sequence[ImageDrift]], list[Explained]]) -> None:
    """Write the page.

    Args:
        path: where.
        comparison: what was found.
        explain: asks both versions of some of the images once more; keeping every map would fill the memory.

    Raises:
        OSError: it cannot be written.
    """
    overall = comparison.groups[0]
    page = Page(f"{comparison.old} → {comparison.new}", subtitle=f"{overall.images} images, {flips_of(overall)}")
    for line in (*verdict_lines(comparison), *note_lines(comparison.label_change, comparison.facts)):
        page.paragraph(line)
    _figures(page, comparison)
    ranked = worst_first(comparison.images)
    galleries = {
        "The same answer: the least alike heatmaps": [one for one in ranked if not one.flipped],
        "Another answer: the least alike heatmaps": [one for one in ranked if one.flipped],
    }
    for title, images in galleries.items():
        if images:
            page.heading(title)
            page.paragraph("Each image; under the old version's heatmap; under the new version's.")
            page.pictures([(_caption(one.drift), _side_by_side(one)) for one in explain(images[:SHOWN_PAIRS])])
    if comparison.flipped:
        page.heading(f"Flipped predictions{_of_which(len(comparison.flipped), SHOWN_FLIPS)}")
        page.table(*_plain(flip_table(comparison.flipped[:SHOWN_FLIPS])))
    if comparison.facts:
        page.heading("What the versions state otherwise")
        page.table(*_plain(facts_table(comparison.facts)))
    page.write(path)


def _figures(page: Page, comparison: Comparison) -> None:
    overall, *classes = comparison.groups
    page.heading("Overall")
    broken = {(breach.label, breach.metric) for breach in comparison.breaches}
    failing = [(row, 1) for row, metric in enumerate(METRICS) if (None, metric.name) in broken]
    page.table(*_plain(statistics_table(overall)), failing=failing)
    page.paragraph(DEFINITIONS)
    page.heading("By the class that the old version predicts, the least alike heatmaps first")
    columns = [FLIPS, *(metric.name for metric in METRICS)]
    failing = [
        (row, column)
        for row, group in enumerate(classes)
        for column, name in enumerate(columns, start=2)
        if (group.label, name) in broken
    ]
    page.table(*_plain(class_table(classes)), failing=failing)
    overlaps = {plain(str(one.label)): one.statistics["iou"] for one in classes[:SHOWN_BARS]}
    bars = {label: found.mean for label, found in overlaps.items() if found is not None}
    if bars:
        page.bars(f"Mean IoU of the hottest 20 %, by class{_of_which(len(classes), SHOWN_BARS)}", bars)


def _of_which(count: int, shown: int) -> str:
    return f": the first {shown} of {count}" if count > shown else ""


def _plain(table: tuple[list[str], list[list[str]]]) -> tuple[list[str], list[list[str]]]:
    headers, rows = table
    return headers, [[plain(cell) for cell in row] for row in rows]


def _caption(drift: ImageDrift) -> str:
    figures = f"IoU {number(drift.iou)}, correlation {number(drift.correlation)}, shift {number(drift.shift)}"
    now = f"{drift.new_label!r}, {drift.old_label!r} only" if drift.flipped else f"{drift.new_label!r}"
    answers = f"{drift.old_label!r} {number(drift.old_score)} → {now} {number(drift.new_score)}"
    return plain(f"{drift.file}: {answers}; {figures}")


def _side_by_side(one: Explained) -> list[Array]:
    """Return the picture, and under each of its heatmaps: uint8 `[H,W,3]` three times."""
    scale = SIDE / max(one.picture.size)
    width, height = (max(1, round(scale * side)) for side in one.picture.size)
    # What is enlarged keeps its pixels to be seen.
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    shown = np.asarray(one.picture.resize((width, height), how))
    maps = [heatmap for heatmap in (one.old_map, one.new_map) if heatmap is not None]
    return [shown, *(overlay(shown, heatmap) for heatmap in maps)]
