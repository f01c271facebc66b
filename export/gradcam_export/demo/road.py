"""The whole road in one call: train, export, serve, explain over gRPC, measure."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from gradcam_export.demo import scenes
from gradcam_export.demo.answers import Answer, Tally, Verdict, judge
from gradcam_export.demo.classifier import Recipe, prepare_classifier
from gradcam_export.demo.contact_sheet import draw_contact_sheet
from gradcam_export.demo.processes import explain_folder, require_client, serving
from gradcam_export.demo.truth import Truth, write_truths
from gradcam_export.errors import DemoError, OptionError
from gradcam_export.export import export_classifier

TEST_SCENES = 200
TEST_SEED = 2
LEAST_ACCURACY = 0.97
LEAST_POINTING = 0.98

_DIGITS = "digits"
_SHOWN = 24
_SHOWN_FAILURES = 6

Item = TypeVar("Item")
ReportLine = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Where everything lies.

    Attributes:
        images: how many pictures were explained.
        scores: how good the answers were; None for pictures of the user's, of which nothing is known.
        overlays: the folder of overlays and heatmaps.
        contact_sheet: the PNG with some of them.
        report: the HTML page with all of them.
    """

    images: int
    scores: Tally | None
    overlays: Path
    contact_sheet: Path
    report: Path


def run_demo(
    directory: Path,
    *,
    model: str | Path | None = None,
    images: Path | None = None,
    labels: Path | None = None,
    report_line: ReportLine,
    recipe: Recipe | None = None,
    test_scenes: int = TEST_SCENES,
) -> DemoResult:
    """Run the whole road, on digit scenes or on a classifier and pictures of the user's.

    Args:
        directory: where everything is written; made when missing.
        model: the user's classifier, as `export_classifier` takes it.
        images: the user's pictures, a folder; goes with `model`.
        labels: the user's class names, a file of one a line; goes with `model`.
        report_line: called with each line that a user should see.
        recipe: how to train the digits' classifier.
        test_scenes: how many digit scenes to test on.

    Raises:
        OptionError: `model` without a folder of images, or `images` or `labels` without `model`.
        DemoError: something is not installed, does not start or cannot be written, or the figures are too low.
        GradcamExportError: the classifier cannot be exported.
    """
    if model is None and (images is not None or labels is not None):
        raise OptionError("--images and --labels belong to a classifier of yours: add --model.")
    if model is not None and (images is None or not images.is_dir()):
        found = "none was given" if images is None else f"{images} is no folder"
        raise OptionError(f"--model needs --images, a folder of pictures to explain; {found}.")
    require_client()
    road = _Road(directory, report_line)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if model is not None and images is not None:
            return _run_own(road, model, images, labels)
        return _run_digits(road, recipe or Recipe(), test_scenes)
    except OSError as error:
        raise DemoError(f"The demo cannot go on in {directory}: {error}") from error


class _Road:
    """The part of the road that any classifier takes: export, serve, explain, show."""

    def __init__(self, directory: Path, report_line: ReportLine) -> None:
        self.directory, self.report_line = directory, report_line
        self.overlays = directory / "overlays"
        self.contact_sheet = directory / "contact_sheet.png"
        self.report = directory / "report.html"

    def explain(self, model: str | Path, name: str, labels: Sequence[str] | Path | None, images: Path) -> list[Answer]:
        """Export the classifier, serve it, and have it explain a folder of pictures."""
        self.report_line(f"exporting {model}")
        published = export_classifier(model, self.directory / "models" / name, labels=labels)
        explanation = published.manifest.explanation
        grid = "×".join(map(str, explanation["grid"]))
        self.report_line(f"exported {published.path}: explains {explanation['layer']} ({grid})")
        with serving(published.path.parent, self.directory / "server.log") as address:
            self.report_line(f"explaining {images} over gRPC, served at {address}")
            return explain_folder(images, address, name, overlays=self.overlays, report=self.report)

    def show(self, title: str, answers: Sequence[Answer], truths: Sequence[Truth | None]) -> None:
        """Draw the contact sheet of some answers and say where everything lies."""
        draw_contact_sheet(title, answers, truths).save(self.contact_sheet)
        self.report_line(f"overlays       {self.overlays}")
        self.report_line(f"contact sheet  {self.contact_sheet}")
        self.report_line(f"report         {self.report}")

    def result(self, images: int, scores: Tally | None) -> DemoResult:
        """Say what came of it."""
        return DemoResult(
            images=images,
            scores=scores,
            overlays=self.overlays,
            contact_sheet=self.contact_sheet,
            report=self.report,
        )


def _run_own(road: _Road, model: str | Path, images: Path, labels: Path | None) -> DemoResult:
    name = Path(str(model).rpartition(":")[2]).stem
    answers = road.explain(model, name, labels, images)
    shown = _spread(answers, _SHOWN)
    title = f"{name}: {len(shown)} of {len(answers)} pictures, each with its heatmap and overlay"
    road.show(title, shown, [None] * len(shown))
    return road.result(len(answers), None)


def _run_digits(road: _Road, recipe: Recipe, test_scenes: int) -> DemoResult:
    train, test = scenes.load_digits()
    model = road.directory / "classifier.keras"
    prepare_classifier(model, train, recipe, road.report_line)
    truths = _write_scenes(road.directory, scenes.draw_scenes(test, test_scenes, TEST_SEED))
    answers = road.explain(model, _DIGITS, scenes.LABELS, road.directory / "scenes")
    _check_complete(truths, answers)
    verdicts = [judge(truth, answer) for truth, answer in zip(truths, answers, strict=True)]
    scores = Tally.of(verdicts)
    shown = _failures_first(verdicts)
    title = (
        f"Accuracy {scores.accuracy:.1%}, pointing game {scores.pointing_game:.1%} on {len(truths)} test scenes; "
        f"{len(shown)} of them, failures first, with heatmap and overlay. White box: the digit"
    )
    road.report_line(f"accuracy       {scores.accuracy:.1%} ({scores.correct} of {scores.scenes} scenes)")
    road.report_line(f"pointing game  {scores.pointing_game:.1%} ({scores.pointed} of {scores.correct} correct)")
    road.show(title, [answers[i] for i in shown], [truths[i] for i in shown])
    _check_scores(scores)
    return road.result(len(answers), scores)


def _write_scenes(directory: Path, drawn: Sequence[scenes.Scene]) -> list[Truth]:
    folder = directory / "scenes"
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("scene_*.png"):
        stale.unlink()
    truths = []
    for index, scene in enumerate(drawn):
        file = f"scene_{index:03}.png"
        Image.fromarray(scene.pixels).save(folder / file)
        truths.append(Truth(file, scenes.LABELS[scene.label], scene.box))
    write_truths(directory / "truth.json", truths)
    return truths


def _check_complete(truths: Sequence[Truth], answers: Sequence[Answer]) -> None:
    expected, answered = [truth.file for truth in truths], [answer.image.name for answer in answers]
    if expected != answered:
        strays = ", ".join(sorted(set(expected) ^ set(answered))[:3])
        raise DemoError(
            f"{len(expected)} scenes were drawn and {len(answered)} pictures answered; not in both: {strays}. "
            "Leave no other pictures among the scenes."
        )


def _failures_first(verdicts: Sequence[Verdict]) -> list[int]:
    failed = [index for index, verdict in enumerate(verdicts) if not verdict.right][:_SHOWN_FAILURES]
    right = [index for index, verdict in enumerate(verdicts) if verdict.right]
    return failed + right[: _SHOWN - len(failed)]


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Take at most `count` items, evenly spread."""
    taken = min(count, len(items))
    return [items[index * len(items) // taken] for index in range(taken)]


def _check_scores(scores: Tally) -> None:
    if scores.accuracy < LEAST_ACCURACY or scores.pointing_game < LEAST_POINTING:
        raise DemoError(
            f"The figures are too low: accuracy {scores.accuracy:.1%} (at least {LEAST_ACCURACY:.0%} expected), "
            f"pointing game {scores.pointing_game:.1%} (at least {LEAST_POINTING:.0%})."
        )
