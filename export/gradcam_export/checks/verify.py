"""Load a written version in a fresh process, the way the server does, and compare its values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.comparison import Array, Check, Report, compare, failed
from gradcam_export.checks.files import check_description, check_labels, check_warmup
from gradcam_export.checks.heatmaps import FLOAT32_TOLERANCE, ExpectedHeatmaps
from gradcam_export.checks.precision import FULL_PRECISION, check_precision, measured_methods
from gradcam_export.checks.stock_server import check_stock_server
from gradcam_export.errors import VerificationError
from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.savedmodel.write import EXTRA_ASSETS, MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREDICTION_TOLERANCE = 1e-5
"""Largest difference of a probability; of other scores, relative to the largest."""


def verify_in_fresh_process(version: Path, expected: Path) -> Report:
    """Verify the version in directory `version` against the values in `expected`, in another Python process.

    Raises:
        VerificationError: a check failed, or the version does not load at all.
    """
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "report.json"
        command = [
            sys.executable,
            "-m",
            "gradcam_export.checks.verify",
            str(version),
            str(expected),
            str(answer),
        ]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if process.returncode != 0:
            last = (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            raise VerificationError(f"{version.name} does not run in a Session, so no server can serve it: {last}")
        checks = tuple(Check(**check) for check in json.loads(answer.read_text()))
    return passed(Report(checks=checks))


def passed(report: Report) -> Report:
    """Return `report` of a version that may be published.

    Raises:
        VerificationError: a check failed.
    """
    if report.failures:
        raise VerificationError("; ".join(check.message for check in report.failures))
    return report


def verify(version: Path, expected: Mapping[str, Array]) -> Report:
    """Compare every value that the version in `version` answers with what is expected.

    Args:
        version: directory of a SavedModel.
        expected: values of the live model, as `gradcam_export.graph.live.live_values` names them.
    """
    stock = check_stock_server(version)
    if not stock.passed:
        # What the server cannot run may not run here either, and would say less.
        return Report(checks=(stock,))
    manifest = json.loads((version / EXTRA_ASSETS / MANIFEST_FILE).read_text())
    first, *further = manifest["explanation"]["methods"]
    full = manifest["precision"] == FULL_PRECISION
    measured = () if full else measured_methods(expected)
    heatmaps = ExpectedHeatmaps(expected)
    inputs = {name.removeprefix("inputs/"): value for name, value in expected.items() if name.startswith("inputs/")}
    chosen = inputs | {contract.CLASS_INDEX: expected["answered"]}
    with LoadedVersion.load(version) as loaded:
        asked = _rows(chosen, slice(heatmaps.rows(first)))
        answer = loaded.run(contract.EXPLAIN, asked)
        checks = (
            stock,
            *(_predictions(loaded, inputs, expected) if full else check_precision(loaded, expected, manifest)),
            *([] if first in measured else [heatmaps.check(first, answer[contract.HEATMAP])]),
            *(_further_heatmap(loaded, one, chosen, heatmaps) for one in further if one not in measured),
            *_signatures(loaded, asked, answer, expected, heatmaps.slack(first)),
            *_encoded(loaded, asked, answer, heatmaps.slack(first), _tolerance(expected)),
            _independence(loaded, asked, answer, heatmaps.slack(first), _tolerance(expected)),
            _finite(answer),
            check_labels(answer, version),
            check_description(loaded, version),
            check_warmup(loaded, version),
        )
    return Report(checks=checks)


def _rows(values: Mapping[str, Array], rows: slice | list[int] | Array) -> dict[str, Array]:
    return {name: value[rows] for name, value in values.items()}


def _tolerance(expected: Mapping[str, Array]) -> float:
    """Largest difference of a score: of a probability, and relative to the largest of other scores."""
    return max(PREDICTION_TOLERANCE, float(expected["rounding"])) * max(
        1.0, float(np.abs(expected["predictions"]).max())
    )


def _predictions(loaded: LoadedVersion, inputs: Mapping[str, Array], expected: Mapping[str, Array]) -> Iterator[Check]:
    answer, tolerance = loaded.run(contract.PREDICT, inputs), _tolerance(expected)
    yield compare("predictions", answer[contract.PREDICTIONS], expected["predictions"], tolerance)
    if expected["predictions"].shape[1] > 1:
        # Of classes that score alike within that, either may be the predicted one.
        chosen = np.take_along_axis(expected["predictions"], answer[contract.CLASS_INDEX][:, None], axis=1)[:, 0]
        yield compare("score of class_index", chosen, expected["predictions"].max(axis=1), 2 * tolerance)


def _further_heatmap(
    loaded: LoadedVersion, method: str, chosen: Mapping[str, Array], heatmaps: ExpectedHeatmaps
) -> Check:
    asked = _rows(chosen, slice(heatmaps.rows(method)))
    answer = loaded.run(contract.explain_signature(method), asked, [contract.HEATMAP])
    return heatmaps.check(method, answer[contract.HEATMAP])


def _signatures(
    loaded: LoadedVersion,
    asked: Mapping[str, Array],
    explained: Mapping[str, Array],
    expected: Mapping[str, Array],
    slack: Array,
) -> Iterator[Check]:
    """Compare the signatures that take no class with `explain` of the predicted one."""
    inputs = {name: value for name, value in asked.items() if name != contract.CLASS_INDEX}
    predicted = expected["asked"][: len(slack)] == contract.PREDICTED_CLASS
    top = loaded.run(contract.TOP_K, _rows(inputs, predicted))
    answers = {
        contract.SERVING_DEFAULT: loaded.run(contract.SERVING_DEFAULT, _rows(inputs, predicted)),
        contract.PREDICT: loaded.run(contract.PREDICT, _rows(inputs, predicted)),
        contract.TOP_K: {name: top[name] if name == contract.PREDICTIONS else top[name][:, 0] for name in top},
    }
    for signature, answer in answers.items():
        # Rounding may settle a tie otherwise than in the live model: then it is another class that is explained.
        same = answer[contract.CLASS_INDEX] == asked[contract.CLASS_INDEX][predicted]
        for name, value in answer.items():
            wanted = explained[name][predicted][same]
            yield _alike(f"{signature}.{name}", value[same], wanted, slack[predicted][same], _tolerance(expected))


def _encoded(
    loaded: LoadedVersion, asked: Mapping[str, Array], explained: Mapping[str, Array], slack: Array, tolerance: float
) -> Iterator[Check]:
    """Compare the explanation of files that lose nothing with that of their pixels."""
    if contract.EXPLAIN_BYTES in loaded.signatures:
        files = [tf.io.encode_png(image).numpy() for image in asked[contract.IMAGES]]
        inputs = {contract.IMAGE_BYTES: np.array(files, object), contract.CLASS_INDEX: asked[contract.CLASS_INDEX]}
        for name, value in loaded.run(contract.EXPLAIN_BYTES, inputs).items():
            yield _alike(f"{contract.EXPLAIN_BYTES}.{name}", value, explained[name], slack, tolerance)


def _independence(
    loaded: LoadedVersion, asked: Mapping[str, Array], together: Mapping[str, Array], slack: Array, tolerance: float
) -> Check:
    """Compare each row of the batch with the same row alone, and in reversed order."""
    count = len(slack)
    orders = [[row] for row in range(count)] + [list(range(count))[::-1]]
    checks = []
    for order in orders if count > 1 else ():
        kind = "alone" if len(order) == 1 else "in another order"
        for name, value in loaded.run(contract.EXPLAIN, _rows(asked, order)).items():
            place = f"{name} of image {order[0]} {kind}"
            checks.append(_alike(place, value, together[name][order], slack[order], tolerance))
    if not checks:
        return Check(name="row_independence", tolerance=0.0, largest_difference=0.0, message="a single row")
    worst = max(checks, key=lambda check: (not check.passed, check.largest_difference))
    return Check(
        name="row_independence",
        tolerance=worst.tolerance,
        largest_difference=worst.largest_difference,
        message=f"rows depend on each other: {worst.message}",
    )


def _alike(name: str, found: Array, wanted: Array, slack: Array, tolerance: float) -> Check:
    """Compare two answers of one version."""
    if contract.HEATMAP_PEAK in name:
        return compare(name, found, wanted, tolerance * max(1.0, float(np.abs(wanted).max(initial=0.0))), slack)
    if contract.HEATMAP in name:
        return compare(name, found, wanted, max(FLOAT32_TOLERANCE, tolerance), slack)
    return compare(name, found, wanted, tolerance if wanted.dtype.kind == "f" else 0.0)


def _finite(answer: Mapping[str, Array]) -> Check:
    for name, value in answer.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return failed("finite", f"{name} has {np.count_nonzero(~np.isfinite(value))} values that are not finite")
    heatmap = answer[contract.HEATMAP]
    if heatmap.min() < 0 or heatmap.max() > 1:
        return failed("finite", f"heatmap spans {heatmap.min()}..{heatmap.max()} instead of 0..1")
    return Check(name="finite", tolerance=0.0, largest_difference=0.0, message="finite")


def _main() -> None:
    version, expected, answer = (Path(argument) for argument in sys.argv[1:])
    with np.load(expected) as values:
        report = verify(version, values)
    answer.write_text(json.dumps([asdict(check) for check in report.checks]))


if __name__ == "__main__":
    _main()
