"""The command `gradcam-export compare`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from gradcam_export.commands.judgement import Judgement
from gradcam_export.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcam_export.checks.drift.limits import Limits
    from gradcam_export.checks.drift.pair import ComparedPair, Explained
    from gradcam_export.checks.drift.report import Comparison
    from gradcam_export.checks.drift.statistics import ImageDrift


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("old", type=Path, metavar="OLD", help="a version that build published, like models/flowers/3")
    add("new", type=Path, metavar="NEW", help="the version that is to follow it")
    add("--images", type=Path, required=True, metavar="DIR", help="images to ask both about, in its folders too")
    add("--max-flips", type=_from_to(0, 1), metavar="FRACTION", help="of the images that another class is predicted of")
    add("--max-score-drift", type=_from_to(0), metavar="X", help="mean change of the score of the old class")
    add("--min-iou", type=_from_to(0, 1), metavar="X", help="mean overlap of the hottest 20 %% of the heatmaps")
    add("--min-correlation", type=_from_to(-1, 1), metavar="X", help="mean correlation of the heatmaps")
    add("--max-shift", type=_from_to(0, 1), metavar="X", help="mean shift of the heatmaps' centre, in diagonals")
    add("--per-class", action="store_true", help="these limits hold for each class by itself too")
    add("--batch-size", type=_count, default=32, metavar="N", help="images that are asked about at once")
    add("--report", type=Path, metavar="FILE.json", help="write all that was found, as JSON")
    add("--markdown", type=Path, metavar="FILE", help="write a job summary")
    add("--html", type=Path, metavar="FILE", help="write a page with the worst pairs side by side")


def run(parsed: argparse.Namespace, say: Callable[[str], None]) -> Judgement:
    """Compare two versions on a folder of images.

    Raises:
        VersionError: one is no published version, or fails; or the two have no class in common.
        OptionError: there are no images or one cannot be read, a classifier takes none, or a report cannot be written.
    """
    from gradcam_export.checks.drift.limits import Limits
    from gradcam_export.checks.drift.pair import ComparedPair
    from gradcam_export.checks.drift.report import as_text
    from gradcam_export.checks.pictures import image_files

    reports = [path for path in (parsed.report, parsed.markdown, parsed.html) if path is not None]
    for path in reports:
        if path.is_dir() or not path.parent.is_dir():
            raise OptionError(f"{path}: cannot be written: it must be a file in a folder that exists.")
    limits = Limits(
        max_flips=parsed.max_flips,
        max_score_drift=parsed.max_score_drift,
        min_correlation=parsed.min_correlation,
        min_iou=parsed.min_iou,
        max_shift=parsed.max_shift,
        per_class=parsed.per_class,
    )
    files = image_files(parsed.images)
    with ComparedPair(parsed.old, parsed.new) as pair:
        images = _compare(pair, parsed.images, files, parsed.batch_size, say)
        comparison = _summed_up(pair, images, limits)
        try:
            _write_reports(parsed, comparison, lambda shown: _again(pair, parsed.images, shown, parsed.batch_size))
        except OSError as error:
            raise OptionError(f"{error.filename}: cannot be written: {error.strerror}.") from error
    for path in reports:
        say(f"wrote {path}")
    return Judgement(text=as_text(comparison), passed=not comparison.breaches)


def _compare(
    pair: ComparedPair, folder: Path, files: Sequence[Path], batch_size: int, say: Callable[[str], None]
) -> list[ImageDrift]:
    from gradcam_export.checks.quality.progress import Progress

    progress = Progress("comparing", len(files), "images", say)
    images: list[ImageDrift] = []
    for start in range(0, len(files), batch_size):
        batch = files[start : start + batch_size]
        images += [one.drift for one in pair.explain(folder, batch)]
        progress.advance(len(batch))
    return images


def _again(pair: ComparedPair, folder: Path, images: Sequence[ImageDrift], batch_size: int) -> list[Explained]:
    files = [folder / image.file for image in images]
    starts = range(0, len(files), batch_size)
    return [one for start in starts for one in pair.explain(folder, files[start : start + batch_size])]


def _summed_up(pair: ComparedPair, images: Sequence[ImageDrift], limits: Limits) -> Comparison:
    from gradcam_export.checks.drift.limits import breaches_of
    from gradcam_export.checks.drift.report import Comparison
    from gradcam_export.checks.drift.statistics import groups_of

    groups = groups_of(images)
    return Comparison(
        old=pair.old.path,
        new=pair.new.path,
        label_change=pair.label_change,
        facts=pair.differing_facts(),
        images=images,
        groups=groups,
        limits=limits,
        breaches=breaches_of(groups, limits),
    )


def _write_reports(
    parsed: argparse.Namespace,
    comparison: Comparison,
    explain: Callable[[Sequence[ImageDrift]], list[Explained]],
) -> None:
    from gradcam_export.checks.drift.page import write_page
    from gradcam_export.checks.drift.report import as_json, as_markdown

    if parsed.report is not None:
        parsed.report.write_text(as_json(comparison), "utf-8")
    if parsed.markdown is not None:
        parsed.markdown.write_text(as_markdown(comparison), "utf-8")
    if parsed.html is not None:
        write_page(parsed.html, comparison, explain)


def _from_to(least: float, most: float = math.inf) -> Callable[[str], float]:
    """Return what reads a number from `least` to `most`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
        # Written so that NaN is refused too.
        if not least <= value <= most:
            end = f"to {most:g}" if math.isfinite(most) else "up"
            raise argparse.ArgumentTypeError(f"{text!r} is not from {least:g} {end}")
        return value

    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)
