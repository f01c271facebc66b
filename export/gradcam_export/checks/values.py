"""Compare the values that a version answers with those of the live model, and with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.behaviour import Explained, alike
from gradcam_export.checks.comparison import Array, Check, compare
from gradcam_export.checks.diagnosis import Diagnosis, of_classes
from gradcam_export.checks.heatmaps import FLOAT32_TOLERANCE, ExpectedHeatmaps
from gradcam_export.checks.precision import FULL_PRECISION, check_precision, measured_methods

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gradcam_export.checks.served import Version

PREDICTION_TOLERANCE = 1e-5
"""Largest difference of a probability; of other scores, relative to the largest."""
OWN = "own"
"""Names, among expected values, that they are the version's own: no live model is at hand."""

_ROUNDING = {FULL_PRECISION: 1e-5}
_HALF_ROUNDING = 1e-2
_MARGIN = 3.0


def own_values(loaded: Version, inputs: Mapping[str, Array], manifest: Mapping[str, Any]) -> dict[str, Array]:
    """Return what `live_values` would of the version itself, but what is inside of it: there is no live model.

    Args:
        loaded: the version.
        inputs: `[B,...]` by the signatures' names.
        manifest: of the version.
    """
    answer = loaded.run(contract.PREDICT, inputs)
    predictions, predicted = answer[contract.PREDICTIONS], answer[contract.CLASS_INDEX]
    if predictions.shape[1] > 1:
        other = np.argsort(predictions, axis=1)[:, -2].astype(np.int32)
    else:
        other = (1 - predicted if len(manifest["labels"]) == 2 else predicted).astype(np.int32)
    return {
        **{f"inputs/{name}": np.concatenate([value, value]) for name, value in inputs.items()},
        "asked": np.concatenate([np.full(len(predicted), contract.PREDICTED_CLASS, np.int32), other]),
        "answered": np.concatenate([predicted, other]),
        "predictions": np.concatenate([predictions, predictions]),
        "rounding": np.array(_ROUNDING.get(manifest["precision"], _HALF_ROUNDING)),
        OWN: np.array(1),
    }


class Comparison:
    """The values that one version must answer.

    Args:
        loaded: the version.
        version: its directory.
        manifest: what it says of itself.
        expected: as `gradcam_export.graph.live.live_values` names them, or `own_values`.
    """

    def __init__(
        self, loaded: Version, version: Path, manifest: Mapping[str, Any], expected: Mapping[str, Array]
    ) -> None:
        self._loaded, self._manifest = loaded, manifest
        self._expected = {name: expected[name] for name in expected}
        self._first, *self._further = manifest["explanation"]["methods"]
        self._full = manifest["precision"] == FULL_PRECISION
        self._heatmaps = None if OWN in self._expected else ExpectedHeatmaps(self._expected)
        self._inputs = {
            name.removeprefix("inputs/"): value for name, value in self._expected.items() if name.startswith("inputs/")
        }
        self._diagnosis = Diagnosis(version, self._expected, self.tolerance)

    @property
    def tolerance(self) -> float:
        """Largest difference of a score: of a probability, and relative to the largest of other scores."""
        largest = max(1.0, float(np.abs(self._expected["predictions"]).max()))
        return max(PREDICTION_TOLERANCE, float(self._expected["rounding"])) * largest

    def explained(self) -> Explained:
        """Ask the first method for each input's predicted and second-best class."""
        chosen = self._inputs | {contract.CLASS_INDEX: self._expected["answered"]}
        asked = {name: value[: self._rows(self._first)] for name, value in chosen.items()}
        answer = self._loaded.run(contract.EXPLAIN, asked)
        slack = self._heatmaps.slack(self._first) if self._heatmaps else _slack_of_peaks(answer, self._expected)
        return Explained(asked=asked, answer=answer, slack=slack, tolerance=self.tolerance)

    def checks(self, explained: Explained) -> Iterator[Check]:
        """Compare predictions, classes and heatmaps."""
        if self._heatmaps is not None:
            yield from (
                self._predictions() if self._full else check_precision(self._loaded, self._expected, self._manifest)
            )
            measured = () if self._full else measured_methods(self._expected)
            yield from self._heatmap(self._first, explained.answer, measured)
            for method in self._further:
                yield from self._heatmap(method, self._further_answer(method), measured)
        yield self._classes(explained)
        yield from self._signatures(explained)
        yield from self._encoded(explained)

    def _rows(self, method: str) -> int:
        if self._heatmaps is not None:
            return self._heatmaps.rows(method)
        return len(self._expected["asked"]) if method in self._manifest["batching"]["methods"] else 1

    def _predictions(self) -> Iterator[Check]:
        answer, wanted = self._loaded.run(contract.PREDICT, self._inputs), self._expected["predictions"]
        found, classes = answer[contract.PREDICTIONS], answer[contract.CLASS_INDEX]
        check = compare("predictions", found, wanted, self.tolerance)
        yield check if check.passed else check.told(self._diagnosis.of_predictions(found))
        if wanted.shape[1] > 1 and found.shape == wanted.shape:
            # Of classes that score alike within that, either may be the predicted one.
            chosen = np.take_along_axis(wanted, classes[:, None], axis=1)[:, 0]
            check = compare("score of class_index", chosen, wanted.max(axis=1), 2 * self.tolerance)
            yield check if check.passed else check.told(of_classes(classes, wanted.argmax(axis=1), wanted.shape[1]))

    def _further_answer(self, method: str) -> dict[str, Array]:
        chosen = self._inputs | {contract.CLASS_INDEX: self._expected["answered"]}
        asked = {name: value[: self._rows(method)] for name, value in chosen.items()}
        return self._loaded.run(contract.explain_signature(method), asked, [contract.HEATMAP, contract.HEATMAP_PEAK])

    def _heatmap(self, method: str, answer: Mapping[str, Array], measured: tuple[str, ...]) -> Iterator[Check]:
        if method in measured or self._heatmaps is None:
            return
        found = answer[contract.HEATMAP]
        check = self._heatmaps.check(method, found)
        if not check.passed:
            slack = self._heatmaps.slack(method)
            check = check.told(self._diagnosis.of_heatmap(method, found, self._heatmaps.tolerance, slack))
        yield check
        if check.passed:
            yield self._heatmaps.check_peak(method, answer[contract.HEATMAP_PEAK])

    def _classes(self, explained: Explained) -> Check:
        """Compare the classes that `explain` says it explained with those that it was asked for."""
        found, wanted = explained.answer[contract.CLASS_INDEX], explained.asked[contract.CLASS_INDEX]
        check = compare("explain.class_index", found, wanted, 0.0)
        return check.told(of_classes(found, wanted, len(self._manifest["labels"])))

    def _signatures(self, explained: Explained) -> Iterator[Check]:
        """Compare the signatures that take no class with `explain` of the predicted one."""
        predicted = self._expected["asked"][: len(explained.slack)] == contract.PREDICTED_CLASS
        inputs = {name: explained.asked[name][predicted] for name in self._inputs}
        top = self._loaded.run(contract.TOP_K, inputs)
        answers = {
            contract.SERVING_DEFAULT: self._loaded.run(contract.SERVING_DEFAULT, inputs),
            contract.PREDICT: self._loaded.run(contract.PREDICT, inputs),
            contract.TOP_K: {name: top[name] if name == contract.PREDICTIONS else top[name][:, 0] for name in top},
        }
        rows = np.flatnonzero(predicted)
        for signature, answer in answers.items():
            # Rounding may settle a tie otherwise than in the live model: then it is another class that is explained.
            same = answer[contract.CLASS_INDEX] == explained.asked[contract.CLASS_INDEX][predicted]
            for name, value in answer.items():
                wanted = explained.answer[name][rows[same]]
                place = f"{signature}.{name}"
                yield alike(place, value[same], wanted, explained.slack[rows[same]], explained.tolerance)

    def _encoded(self, explained: Explained) -> Iterator[Check]:
        """Compare the explanation of files that lose nothing with that of their pixels."""
        if contract.EXPLAIN_BYTES in self._loaded.signatures:
            files = [tf.io.encode_png(image).numpy() for image in explained.asked[contract.IMAGES]]
            inputs = {
                contract.IMAGE_BYTES: np.array(files, object),
                contract.CLASS_INDEX: explained.asked[contract.CLASS_INDEX],
            }
            for name, value in self._loaded.run(contract.EXPLAIN_BYTES, inputs).items():
                place = f"{contract.EXPLAIN_BYTES}.{name}"
                yield alike(place, value, explained.answer[name], explained.slack, explained.tolerance)


def _slack_of_peaks(answer: Mapping[str, Array], expected: Mapping[str, Array]) -> Array:
    """Return how many times the tolerance a map may differ that is weak beside the others, `[rows]`.

    Without the live model's features what its terms cancel to is not known; their sums elsewhere say how large they
    are.
    """
    peaks = np.nan_to_num(answer[contract.HEATMAP_PEAK].astype(np.float64))
    weakness = peaks.max(initial=0.0) / np.where(peaks > 0, peaks, np.inf)
    return np.maximum(1.0, _MARGIN * float(expected["rounding"]) * weakness / FLOAT32_TOLERANCE)
