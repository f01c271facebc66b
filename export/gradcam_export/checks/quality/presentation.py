"""What an evaluation found: as text, Markdown, JSON and a page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradcam_export.checks.heat_colours import overlay
from gradcam_export.checks.page import Page
from gradcam_export.checks.quality.measures import MEASURES
from gradcam_export.checks.quality.results import EXAMPLES, RANDOM_MAP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gradcam_export.checks.quality.results import Example, Study

Array = np.ndarray[Any, Any]

UNMOVED: Final = 0.9
"""Correlation from which on a map hardly heeds what was randomised; such cells are marked."""
_SANITY: Final = ("sanity_head", "sanity_all")
_EXPLANATIONS: Final = (
    "Pointing game: how often the hottest pixel lies on the object, or within the tolerance (0 px: without any). "
    "Energy: the share of the map that lies on the object.",
    "Deletion and insertion: the area under the score of the predicted class while the hottest pixels are blackened, "
    "or brought into a blurred picture. Average drop and increase: the score of the picture times its map.",
    "ADCC joins coherency, complexity and average drop. ROAD: how much more the hottest pixels count than the "
    "coldest, each removed by imputation; 0 for a map that knows nothing.",
    "Sanity: rank correlation of the maps with those after the weights of the head, or of all layers, were shuffled; "
    "near 1, a map does not show what the model has learned.",
)


def rows_of(study: Study) -> tuple[list[str], list[list[str]]]:
    """Return the table of all methods: headers with an arrow to the better side, and rows of text."""
    summaries = study.summaries()
    names = list(next(iter(summaries.values())))
    headers = [
        "method",
        *(f"{MEASURES[name].name} {'↑' if MEASURES[name].better == 'high' else '↓'}" for name in names),
    ]
    return headers, [
        [method, *(_shown(name, value) for name, value in one.items())] for method, one in summaries.items()
    ]


def as_text(study: Study) -> str:
    """Return the table in columns, and what belongs beside it."""
    headers, rows = rows_of(study)
    # One figure a line and one method a column would not fit more than five methods either.
    table = [headers, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(headers))]
    lines = [
        "  ".join(cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in table)
    ]
    return "\n".join([*lines, "", *remarks(study)])


def as_markdown(title: str, study: Study) -> str:
    """Return the same as Markdown."""
    headers, rows = rows_of(study)
    ruler = ["---", *["---:"] * (len(headers) - 1)]
    table = ["| " + " | ".join(row) + " |" for row in (headers, ruler, *rows)]
    return "\n".join([f"### {title}", "", *table, "", *(f"- {remark}" for remark in remarks(study)), ""])


def remarks(study: Study) -> list[str]:
    """Return what has to be known to read the figures."""
    said = [f"{study.images} image{'s' * (study.images != 1)}; ↑ higher is better, ↓ lower is better"]
    if study.located_images:
        share = float(np.mean(study.object_shares))
        said.append(
            f"objects known in {study.located_images} images, covering {share:.1%} of the pixels on average "
            f"(the energy of a flat map); tolerance {study.tolerance} px of the input"
        )
    if study.accuracy is not None:
        said.append(f"accuracy {study.accuracy:.1%} of the {len(study.right)} images with labels")
    if not study.sanity_stages:
        said.append(
            "no sanity check: this version's weights are constants of its graph; "
            "build it with --weights variables to have them randomised"
        )
    return said


def as_json(version: str, facts: dict[str, Any], study: Study) -> str:
    """Return all figures, the mean curves, and those of every picture."""
    content = {
        "version": version,
        "model": facts["model"],
        "images": study.images,
        "located_images": study.located_images,
        "accuracy": study.accuracy,
        "tolerance_pixels": study.tolerance,
        "sanity_layers": study.sanity_stages,
        "methods": {
            method: {
                "summary": one,
                "deletion_curve": _numbers(study.methods[method].curve("deletion")),
                "insertion_curve": _numbers(study.methods[method].curve("insertion")),
                "sanity": {str(layers): value for layers, value in study.methods[method].sanity.items()},
                "pictures": _pictures(study, method),
            }
            for method, one in study.summaries().items()
        },
    }
    return json.dumps(content, indent=1) + "\n"


def write_page(title: str, subtitle: str, study: Study, path: Path) -> None:
    """Write the page: the table, curves and bars, and the best and worst pictures of each method.

    Raises:
        OSError: the file cannot be written.
    """
    page = Page(title, subtitle=subtitle)
    headers, rows = rows_of(study)
    page.table(headers, rows, failing=_unmoved(study))
    for remark in (*remarks(study), *_EXPLANATIONS):
        page.paragraph(remark)
    _add_plots(page, study)
    for method, examples in study.examples.items():
        if examples and method != RANDOM_MAP:
            page.heading(f"{method}: its best and its worst")
            page.pictures([_shown_example(one) for one in _spread(examples)])
    page.write(path)


def _add_plots(page: Page, study: Study) -> None:
    page.heading("While pixels go, and come")
    for name, doing in (("deletion", "deleted, the hottest first"), ("insertion", "inserted, the hottest first")):
        curves = {method: measured.curve(name) for method, measured in study.methods.items()}
        series = {
            method: [(step / (len(curve) - 1), float(score)) for step, score in enumerate(curve)]
            for method, curve in curves.items()
        }
        page.lines(name.capitalize(), series, x=f"share of the pixels {doing}", y="mean score")
    summaries = study.summaries()
    page.heading("Figure by figure")
    for name, measure in MEASURES.items():
        values = {method: one[name] for method, one in summaries.items() if one.get(name) is not None}
        if values:
            better = "higher is better" if measure.better == "high" else "lower is better"
            page.bars(f"{measure.name} ({better})", {method: float(value or 0) for method, value in values.items()})


def _unmoved(study: Study) -> set[tuple[int, int]]:
    return {
        (row, 1 + column)
        for row, one in enumerate(study.summaries().values())
        for column, (name, value) in enumerate(one.items())
        if name in _SANITY and value is not None and value >= UNMOVED
    }


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if MEASURES[name].percent else f"{value:.3f}"


def _spread(examples: Sequence[Example]) -> list[Example]:
    return list(examples) if len(examples) <= 2 * EXAMPLES else [*examples[:EXAMPLES], *examples[-EXAMPLES:]]


def _shown_example(example: Example) -> tuple[str, list[Array]]:
    kind = "insertion less deletion" if example.inside is None else "energy in the object"
    caption = f"{example.file}: {example.label} ({example.score:.2f}), {kind} {example.goodness:.2f}"
    pixels = example.pixels if example.pixels.shape[2] == 3 else example.pixels.repeat(3, axis=2)
    pictures = [pixels, overlay(example.pixels, example.saliency)]
    return caption, pictures if example.inside is None else [_outlined(one, example.inside) for one in pictures]


def _outlined(pixels: Array, inside: Array) -> Array:
    """Draw a white line along the border of a region."""
    padded = np.pad(inside, 1)
    within = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.where((inside & ~within)[:, :, np.newaxis], np.uint8(255), pixels)


def _numbers(values: Array) -> list[float]:
    return [float(value) for value in values]


def _pictures(study: Study, method: str) -> list[dict[str, Any]]:
    measured = study.methods[method]
    return [
        {
            "file": file,
            "score": faithful.score,
            "masked_score": faithful.masked_score,
            "gain": faithful.gain,
            "coherency": faithful.coherency,
            "complexity": faithful.complexity,
            "objects": [vars(one) for one in located],
        }
        for file, faithful, located in zip(measured.files, measured.faithful, measured.located, strict=True)
    ]
