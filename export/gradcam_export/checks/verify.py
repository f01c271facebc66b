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
from gradcam_export.checks import oracle
from gradcam_export.checks.comparison import Array, Check, Report, compare, failed
from gradcam_export.errors import VerificationError
from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.savedmodel.warmup import WARMUP_FILE, read_warmup
from gradcam_export.savedmodel.write import EXTRA_ASSETS, LABELS_FILE, MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREDICTION_TOLERANCE = 1e-5
"""Largest difference of a probability; of other scores, relative to the largest."""
HEATMAP_TOLERANCE = 1e-4
"""Largest difference of a heatmap on its 0..1 scale (deep networks in float32 against float64)."""
FLOAT32_ROUNDING = 1e-5
"""Relative error of a deep float32 network's features, which cancellation in a map magnifies."""


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
    report = Report(checks=checks)
    if report.failures:
        raise VerificationError("; ".join(check.message for check in report.failures))
    return report


def verify(version: Path, expected: Mapping[str, Array]) -> Report:
    """Compare every value that the version in `version` answers with what is expected.

    Args:
        version: directory of a SavedModel.
        expected: `images asked class_index predictions features gradients` of the live model.
    """
    with LoadedVersion.load(version) as loaded:
        inputs = {contract.IMAGES: expected["images"], contract.CLASS_INDEX: expected["asked"]}
        answer = loaded.run(contract.EXPLAIN, inputs)
        checks = (
            compare("predictions", answer[contract.PREDICTIONS], expected["predictions"], _scaled(expected)),
            compare("class_index", answer[contract.CLASS_INDEX], expected["class_index"], 0),
            _heatmaps(answer, expected),
            *_signatures(loaded, answer, expected),
            _rows(loaded, inputs, answer, expected),
            _finite(answer),
            _labels(answer, version),
            _describe(loaded, version),
            _warmup(loaded, version),
        )
    return Report(checks=checks)


def _scaled(expected: Mapping[str, Array]) -> float:
    return PREDICTION_TOLERANCE * max(1.0, float(np.abs(expected["predictions"]).max()))


def _heatmaps(answer: Mapping[str, Array], expected: Mapping[str, Array]) -> Check:
    """Compare heatmaps with the float64 formula, each image within what float32 can know of it."""
    raised = oracle.gradcam(expected["features"], expected["gradients"])
    peak = raised.max(axis=(1, 2))
    wanted = raised / np.where(peak > 0, peak, 1)[:, None, None]
    slack = _slack(expected)
    # Where all terms cancel, whatever float32 leaves of them is as good as nothing.
    nothing = (peak == 0) & (answer[contract.HEATMAP_PEAK] <= FLOAT32_ROUNDING * _terms(expected))
    return compare(
        contract.HEATMAP, answer[contract.HEATMAP], wanted, HEATMAP_TOLERANCE, np.where(nothing, np.inf, slack)
    )


def _terms(expected: Mapping[str, Array]) -> Array:
    return oracle.gradcam_magnitude(expected["features"], expected["gradients"])


def _slack(expected: Mapping[str, Array]) -> Array:
    """Return how much less than `HEATMAP_TOLERANCE` float32 can know of each image's map, `[B]`, at least 1.

    A map that nearly cancels is known to the rounding of its terms alone.
    """
    peak = oracle.gradcam(expected["features"], expected["gradients"]).max(axis=(1, 2))
    rounding = FLOAT32_ROUNDING * _terms(expected) / np.where(peak > 0, peak, np.inf)
    return np.maximum(1.0, rounding / HEATMAP_TOLERANCE)


def _signatures(
    loaded: LoadedVersion, explained: Mapping[str, Array], expected: Mapping[str, Array]
) -> Iterator[Check]:
    """Compare the signatures that take images alone with `explain` of the predicted class."""
    rows = expected["asked"] == contract.PREDICTED_CLASS
    for signature in (contract.SERVING_DEFAULT, contract.PREDICT):
        answer = loaded.run(signature, {contract.IMAGES: expected["images"][rows]})
        for name, value in answer.items():
            yield compare(f"{signature}.{name}", value, explained[name][rows], _row_tolerance(explained[name]))


def _row_tolerance(values: Array) -> float:
    if values.dtype.kind != "f":
        return 0.0
    return PREDICTION_TOLERANCE * max(1.0, float(np.abs(values).max()))


def _rows(
    loaded: LoadedVersion, inputs: Mapping[str, Array], together: Mapping[str, Array], expected: Mapping[str, Array]
) -> Check:
    """Compare each image in the batch with the same image alone, and in reversed order."""
    slack = _slack(expected)
    count = len(together[contract.SCORE])
    orders = [[row] for row in range(count)] + [list(range(count))[::-1]]
    checks = []
    for order in orders:
        answer = loaded.run(contract.EXPLAIN, {name: value[order] for name, value in inputs.items()})
        for name, value in answer.items():
            kind = "alone" if len(order) == 1 else "in another order"
            wanted = together[name][order]
            if name == contract.HEATMAP:
                check = compare(f"{name} of image {order[0]} {kind}", value, wanted, HEATMAP_TOLERANCE, slack[order])
            else:
                check = compare(f"{name} of image {order[0]} {kind}", value, wanted, _row_tolerance(wanted))
            checks.append(check)
    worst = max(checks, key=lambda check: (not check.passed, check.largest_difference))
    return Check(
        name="row_independence",
        tolerance=worst.tolerance,
        largest_difference=worst.largest_difference,
        message=f"rows depend on each other: {worst.message}",
    )


def _finite(answer: Mapping[str, Array]) -> Check:
    for name, value in answer.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return failed("finite", f"{name} has {np.count_nonzero(~np.isfinite(value))} values that are not finite")
    heatmap = answer[contract.HEATMAP]
    if heatmap.min() < 0 or heatmap.max() > 1:
        return failed("finite", f"heatmap spans {heatmap.min()}..{heatmap.max()} instead of 0..1")
    return Check(name="finite", tolerance=0.0, largest_difference=0.0, message="finite")


def _describe(loaded: LoadedVersion, version: Path) -> Check:
    """Compare what `describe` answers with the files beside the graph."""
    keys = np.array([contract.DESCRIBE_MANIFEST.encode(), contract.DESCRIBE_LABELS.encode()], object)
    manifest, labels = (
        json.loads(value) for value in loaded.run(contract.DESCRIBE, {contract.KEY: keys})[contract.VALUE]
    )
    if manifest != json.loads((version / EXTRA_ASSETS / MANIFEST_FILE).read_text()):
        return failed("describe", "describe answers another manifest than assets.extra holds")
    if labels != (version / "assets" / LABELS_FILE).read_text("utf-8").splitlines():
        return failed("describe", "describe answers other labels than assets/labels.txt holds")
    return Check(name="describe", tolerance=0.0, largest_difference=0.0, message="describe")


def _labels(answer: Mapping[str, Array], version: Path) -> Check:
    names = (version / "assets" / LABELS_FILE).read_text("utf-8").splitlines()
    wanted = np.array([names[index].encode() for index in answer[contract.CLASS_INDEX]], object)
    return compare(contract.LABEL, answer[contract.LABEL], wanted, 0)


def _warmup(loaded: LoadedVersion, version: Path) -> Check:
    """Replay the warm-up file; a server refuses a version whose warm-up fails."""
    replayed = set()
    for signature, inputs in read_warmup(version / EXTRA_ASSETS / WARMUP_FILE):
        try:
            loaded.run(signature, inputs)
        except (KeyError, ValueError, tf.errors.OpError) as error:
            return failed("warmup", f"the warm-up request of {signature!r} fails: {error}")
        replayed.add(signature)
    missing = set(loaded.signatures) - replayed
    if missing:
        return failed("warmup", f"the warm-up file has no request for {', '.join(sorted(missing))}")
    return Check(name="warmup", tolerance=0.0, largest_difference=0.0, message="warmup")


def _main() -> None:
    version, expected, answer = (Path(argument) for argument in sys.argv[1:])
    with np.load(expected) as values:
        report = verify(version, values)
    answer.write_text(json.dumps([asdict(check) for check in report.checks]))


if __name__ == "__main__":
    _main()
