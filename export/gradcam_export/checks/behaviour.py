"""How a version behaves: alone and in batches, twice, without evidence, and in the order it promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_export import contract
from gradcam_export.checks.comparison import Array, Check, compare, failed, holds
from gradcam_export.checks.heatmaps import FLOAT32_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcam_export.checks.served import Version

_LOWEST_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One request to `explain`, and its answer, which the others must agree with."""

    asked: Mapping[str, Array]
    """The inputs and `class_index`, `[B,...]`."""
    answer: Mapping[str, Array]
    slack: Array
    """How many times the tolerance the heatmap of each row may differ, `[B]`."""
    tolerance: float
    """Of scores."""

    def rows(self, rows: Array | list[int] | slice) -> dict[str, Array]:
        """Return the request of some of its rows."""
        return {name: value[rows] for name, value in self.asked.items()}

    def compare(self, what: str, found: Mapping[str, Array], rows: Array | list[int] | slice) -> Iterator[Check]:
        """Compare another answer with that to some of the rows."""
        for name, value in found.items():
            yield alike(f"{name} of {what}", value, self.answer[name][rows], self.slack[rows], self.tolerance)


def alike(name: str, found: Array, wanted: Array, slack: Array, tolerance: float) -> Check:
    """Compare two answers of one version."""
    if contract.HEATMAP_PEAK in name:
        return compare(name, found, wanted, tolerance * max(1.0, float(np.abs(wanted).max(initial=0.0))), slack)
    if contract.HEATMAP in name:
        return compare(name, found, wanted, max(FLOAT32_TOLERANCE, tolerance), slack)
    return compare(name, found, wanted, tolerance if wanted.dtype.kind == "f" else 0.0)


def check_independence(loaded: Version, explained: Explained) -> Check:
    """Compare each row of the batch with the same row alone, and in reversed order."""
    count = len(explained.slack)
    orders = [[row] for row in range(count)] + [list(range(count))[::-1]]
    checks: list[Check] = []
    for order in orders if count > 1 else ():
        what = f"image {order[0]} {'alone' if len(order) == 1 else 'in another order'}"
        checks += explained.compare(what, loaded.run(contract.EXPLAIN, explained.rows(order)), order)
    return _worst("row_independence", checks, "rows depend on each other")


def check_determinism(loaded: Version, explained: Explained) -> Check:
    """Compare two answers to the same request."""
    again = loaded.run(contract.EXPLAIN, explained.asked)
    checks = explained.compare("the same request asked again", again, slice(None))
    return _worst("determinism", list(checks), "two calls differ, as where dropout or noise is active")


def check_batch_sizes(loaded: Version, explained: Explained, sizes: list[int]) -> Check:
    """Compare the answers to batches of each size with those to their rows."""
    checks: list[Check] = []
    for size in sizes:
        rows = np.arange(size) % len(explained.slack)
        answer = loaded.run(contract.EXPLAIN, explained.rows(rows))
        checks += explained.compare(f"a batch of {size}", answer, rows)
    return _worst("batch_sizes", checks, "a batch answers other values than its rows")


def check_finite(answer: Mapping[str, Array]) -> Check:
    """Check that every number is one, and every heatmap within 0..1."""
    for name, value in answer.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return failed("finite", f"{name} has {np.count_nonzero(~np.isfinite(value))} values that are not finite")
    heatmap = answer[contract.HEATMAP]
    if heatmap.min() < 0 or heatmap.max() > 1:
        return failed("finite", f"heatmap spans {heatmap.min()}..{heatmap.max()} instead of 0..1")
    return holds("finite")


def check_zero_maps(loaded: Version, explained: Explained, *, rows: int) -> Check:
    """Check that a map's maximum is exactly 1, or that it is all zeros where nothing raised the score.

    Such maps are looked for among the classes of the lowest scores of the first `rows` inputs, and of zeros.
    """
    zero = 0
    for answer in (explained.answer, *([_weak_maps(loaded, explained, rows)] if rows else [])):
        peaks, maps = answer[contract.HEATMAP_PEAK], answer[contract.HEATMAP].reshape(len(answer[contract.HEATMAP]), -1)
        wrong = _wrong_map(peaks, maps)
        if wrong:
            return failed("zero_maps", wrong)
        zero += int(np.count_nonzero(peaks == 0))
    return holds("zero_maps", f"{zero} maps of zeros")


def _weak_maps(loaded: Version, explained: Explained, rows: int) -> dict[str, Array]:
    classes = np.argsort(explained.answer[contract.PREDICTIONS][:rows], axis=1)[:, :_LOWEST_CLASSES].astype(np.int32)
    asked = {}
    for name, value in explained.asked.items():
        if name != contract.CLASS_INDEX:
            with_blank = np.concatenate([value[:rows], np.zeros_like(value[:1])])
            asked[name] = np.repeat(with_blank, classes.shape[1], axis=0)
    asked[contract.CLASS_INDEX] = np.concatenate([classes.ravel(), classes[0]])
    return loaded.run(contract.EXPLAIN, asked)


def _wrong_map(peaks: Array, maps: Array) -> str | None:
    for peak, values in zip(peaks, maps, strict=True):
        if not np.isfinite(values).all():
            return "a heatmap is NaN where nothing raised the score: it must be all zeros there"
        if peak < 0 or not np.isfinite(peak):
            return f"heatmap_peak is {peak}: it is the maximum after ReLU, and so at least 0"
        if peak == 0 and values.any():
            return f"a heatmap of peak 0 holds {np.abs(values).max()}: it must be all zeros"
        if peak > 0 and values.max() != 1:
            epsilon = peak / values.max() - peak if values.max() > 0 else np.inf
            return (
                f"a heatmap of peak {peak:.3g} has the maximum {values.max():.9g} instead of 1: it is not divided by "
                f"its own maximum" + (f" but by that plus eps = {epsilon:.2g}" if 0 < epsilon < peak else "")
            )
    return None


def check_order(top: Mapping[str, Array], labels: list[str]) -> Check:
    """Check that `top_k` answers the highest scores in falling order, and each class once."""
    classes, scores = top[contract.CLASS_INDEX], top[contract.SCORE]
    predictions = top[contract.PREDICTIONS]
    if len(labels) == 2 and predictions.shape[1] == 1:
        predictions = np.concatenate([1 - predictions, predictions], axis=1)
    best = -np.sort(-predictions, axis=1)[:, : classes.shape[1]]
    if any(len(set(row)) < len(row) for row in classes.tolist()):
        return failed("top_k order", "top_k answers one class twice")
    if classes.min() < 0 or classes.max() >= predictions.shape[1]:
        return failed("top_k order", f"top_k answers class {classes.max()} of {predictions.shape[1]}")
    check = compare("top_k order", np.take_along_axis(predictions, classes, axis=1), best, 0.0)
    if check.passed:
        return compare("top_k score", scores, best, 1e-6)
    return check.told("top_k is not sorted by falling score")


def check_score(answer: Mapping[str, Array], labels: list[str], signature: str) -> Check:
    """Check that `score` is that of `class_index` among the predictions."""
    predictions, classes = answer[contract.PREDICTIONS], answer[contract.CLASS_INDEX]
    if len(labels) == 2 and predictions.shape[1] == 1:
        predictions = np.concatenate([1 - predictions, predictions], axis=1)
    wanted = np.take_along_axis(predictions, classes[:, np.newaxis], axis=1)[:, 0]
    return compare(f"{signature}.score of its class", answer[contract.SCORE], wanted, 1e-6 * _scale(predictions))


def _scale(values: Array) -> float:
    return max(1.0, float(np.abs(values).max(initial=0.0)))


def _worst(name: str, checks: list[Check], otherwise: str) -> Check:
    if not checks:
        return holds(name, "a single row")
    worst = max(checks, key=lambda check: (not check.passed, check.largest_difference))
    return Check(
        name=name,
        tolerance=worst.tolerance,
        largest_difference=worst.largest_difference,
        message=f"{otherwise}: {worst.message}",
    )


def limits_of(manifest: Mapping[str, Any], *, above: bool) -> list[int]:
    """Return the batch sizes to try: each that is allowed, and one above the largest.

    Args:
        manifest: of the version.
        above: whether a request of more rows than a batch has is answered at all: not by a server that batches.
    """
    batching, explanation = manifest["batching"], manifest["explanation"]
    if explanation["method"] not in batching["methods"]:
        return [1, 2]
    sizes = list(batching["allowed_batch_sizes"])
    return [*sizes, sizes[-1] + 1] if above else sizes
