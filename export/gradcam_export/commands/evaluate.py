"""The command `gradcam-export evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from gradcam_export.commands.judgement import Judgement
from gradcam_export.errors import OptionError
from gradcam_export.options import Method, choices

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcam_export.checks.boxes import Objects
    from gradcam_export.checks.quality.explaining import ExplainingVersion
    from gradcam_export.checks.quality.results import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("version_dir", type=Path, metavar="VERSION_DIR", help="a version that build published, like models/flowers/3")
    add("--images", type=Path, required=True, metavar="DIR", help="the pictures to explain, in DIR and its folders")
    add("--boxes", type=Path, metavar="FILE", help="where the objects are: COCO's .json, or .csv with a header")
    add("--masks", type=Path, metavar="DIR", help="the same as PNG masks with the pictures' paths")
    add("--method", choices=choices(Method), action="append", help="CAM method, repeatable; by default all it has")
    add("--batch-size", type=_positive, default=32, metavar="N", help="rows to send to the version at once")
    add("--steps", type=_positive, default=20, metavar="N", help="steps of deletion and insertion")
    add("--limit", type=_positive, metavar="N", help="the most pictures to take, drawn at random")
    add("--report", type=Path, metavar="FILE.json", help="all figures, and those of every picture")
    add("--markdown", type=Path, metavar="FILE", help="the table as Markdown")
    add("--html", type=Path, metavar="FILE", help="a page with plots, and the best and worst pictures")


def run(parsed: argparse.Namespace, say: Callable[[str], None]) -> Judgement:
    """Measure the explanations of a version; what is good enough is for the reader to say.

    Raises:
        OptionError: an option, a picture or an object does not fit the version.
        VersionError: there is no version.
    """
    from gradcam_export.checks.pictures import image_files
    from gradcam_export.checks.quality.explaining import ExplainingVersion
    from gradcam_export.checks.quality.presentation import as_text
    from gradcam_export.checks.quality.study import Evaluation

    if parsed.boxes is not None and parsed.masks is not None:
        raise OptionError("--boxes and --masks both say where the objects are: give one of them.")
    with ExplainingVersion.load(parsed.version_dir, parsed.batch_size) as version:
        methods = version.chosen_methods(parsed.method)
        objects = _objects(parsed, version)
        paths = _sample(image_files(parsed.images), parsed.limit)
        evaluation = Evaluation(version, methods, parsed.steps, objects)
        evaluation.run(paths, parsed.images, parsed.batch_size, say)
        _report_unknown(parsed, evaluation.study, say)
        evaluation.check_sanity(parsed.version_dir, paths, parsed.batch_size, say)
        _write(parsed, version, evaluation.study)
    return Judgement(text=as_text(evaluation.study), passed=True)


def _objects(parsed: argparse.Namespace, version: ExplainingVersion) -> Objects | None:
    from gradcam_export.checks.boxes import Boxes, Masks

    if parsed.boxes is not None:
        return Boxes(parsed.boxes, version.labels)
    return Masks(parsed.masks) if parsed.masks is not None else None


def _sample(paths: list[Path], limit: int | None) -> list[Path]:
    """Take at most `limit`, drawn always in the same way: classes often follow one another, or take turns."""
    if limit is None or limit >= len(paths):
        return paths
    return [paths[index] for index in sorted(Random(0).sample(range(len(paths)), limit))]  # noqa: S311 - no secret


def _report_unknown(parsed: argparse.Namespace, study: Study, say: Callable[[str], None]) -> None:
    """Say of how many pictures no object is known.

    Raises:
        OptionError: of none.
    """
    source = parsed.boxes or parsed.masks
    if source is None or study.located_images == study.images:
        return
    if not study.located_images:
        raise OptionError(
            f"{source}: has no object for any of the {study.images} images in {parsed.images}; "
            "its file names must be theirs."
        )
    say(
        f"{source}: no object for {study.images - study.located_images} of {study.images} images; "
        "the pointing games leave them out"
    )


def _write(parsed: argparse.Namespace, version: ExplainingVersion, study: Study) -> None:
    from gradcam_export.checks.quality.presentation import as_json, as_markdown, write_page

    explanation = version.facts["explanation"]
    title = f"{version.facts['model']['name']}, version {parsed.version_dir.resolve().name}: its explanations"
    subtitle = f"{study.images} images · {explanation['layer']}, grid {' × '.join(map(str, explanation['grid']))}"
    try:
        if parsed.report is not None:
            parsed.report.write_text(as_json(str(parsed.version_dir), version.facts, study), "utf-8")
        if parsed.markdown is not None:
            parsed.markdown.write_text(as_markdown(title, study), "utf-8")
        if parsed.html is not None:
            write_page(title, subtitle, study, parsed.html)
    except OSError as error:
        raise OptionError(f"{error.filename}: cannot be written: {error.strerror}.") from error


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from error
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value
