"""Hold a version that computes in half precision against the live model, on many inputs: how much it may lose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_export import contract
from gradcam_export.checks.comparison import Array, Check
from gradcam_export.checks.heatmaps import ExpectedHeatmaps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradcam_export.checks.served import Version

FULL_PRECISION = "float32"
"""What a manifest says of a version that computes in the model's own types."""
LEAST_AGREEMENT = 0.995
"""Share of the inputs for which the predicted class must be the live model's."""
MEDIAN_LIMIT, PERCENTILE_99_LIMIT = 0.02, 0.1
"""Of the largest difference of each heatmap, on its 0..1 scale: half of the maps, and all but 1 % of them."""
MOST_INPUTS = 300

_INPUTS, _CLASSES, _HEATMAPS = "precision/inputs/", "precision/class_index", "precision/heatmap/"
_AT_ONCE = 8


def expected_explanations(
    inputs: Mapping[str, Array], rows: Iterable[Mapping[str, Array]], methods: Sequence[str]
) -> dict[str, Array]:
    """Return what `check_precision` compares with: the live model's classes, and their heatmaps by the formula.

    Args:
        inputs: `[n,...]` by the signatures' names.
        rows: values of the live model for each of the n, as `gradcam_export.graph.live.live_rows` names them.
        methods: the methods of features and gradients among those that the version explains with.
    """
    classes: list[Array] = []
    heatmaps: dict[str, list[Array]] = {method: [] for method in methods}
    for row in rows:
        classes.append(row["answered"])
        expected = ExpectedHeatmaps(row)
        for method in methods:
            heatmaps[method].append(expected.of(method).astype(np.float32))
    named = {f"{_HEATMAPS}{method}": np.concatenate(maps) for method, maps in heatmaps.items()}
    return {f"{_INPUTS}{name}": value for name, value in inputs.items()} | named | {_CLASSES: np.concatenate(classes)}


def measured_methods(expected: Mapping[str, Array]) -> tuple[str, ...]:
    """Return the methods whose heatmaps `check_precision` compares."""
    return tuple(name.removeprefix(_HEATMAPS) for name in expected if name.startswith(_HEATMAPS))


def check_precision(loaded: Version, expected: Mapping[str, Array], manifest: Mapping[str, Any]) -> Iterator[Check]:
    """Compare predicted classes, and the heatmaps of the classes that the live model predicts.

    One heatmap's difference is the largest of its positions; the limits are on its median and its 99th percentile over
    the inputs.

    Args:
        loaded: the version.
        expected: among other values those that `expected_explanations` returned.
        manifest: the version's.

    Raises:
        KeyError: `expected` lacks them.
    """
    precision, first = manifest["precision"], manifest["explanation"]["method"]
    inputs = {name.removeprefix(_INPUTS): expected[name] for name in expected if name.startswith(_INPUTS)}
    classes = expected[_CLASSES]
    found = _answer(loaded, contract.PREDICT, inputs, contract.CLASS_INDEX)
    other = int(np.count_nonzero(found != classes))
    yield Check(
        name="top_1_agreement",
        tolerance=1 - LEAST_AGREEMENT,
        largest_difference=other / len(classes),
        message=(
            f"in {precision} {other} of {len(classes)} inputs are predicted to be of another class: top-1 agreement "
            f"{1 - other / len(classes):.1%}, at least {LEAST_AGREEMENT:.1%} is needed; build with precision float32"
        ),
    )
    asked = inputs | {contract.CLASS_INDEX: classes}
    for method in measured_methods(expected):
        wanted = expected[f"{_HEATMAPS}{method}"]
        signature = contract.EXPLAIN if method == first else contract.explain_signature(method)
        heatmap = _answer(loaded, signature, asked, contract.HEATMAP).reshape(wanted.shape)
        differences = np.nan_to_num(np.abs(heatmap.astype(np.float64) - wanted).max(axis=1), nan=np.inf)
        yield _quantile(f"heatmap of {method}", "median", differences, 50, MEDIAN_LIMIT, precision)
        yield _quantile(f"heatmap of {method}", "99th percentile", differences, 99, PERCENTILE_99_LIMIT, precision)


def _quantile(what: str, quantile: str, differences: Array, percent: int, limit: float, precision: str) -> Check:
    value = float(np.percentile(differences, percent))
    return Check(
        name=f"{what}, {quantile}",
        tolerance=limit,
        largest_difference=value,
        message=(
            f"in {precision} the {what} differs by {value:.3g} ({quantile} of {len(differences)} inputs), at most "
            f"{limit:g} is allowed; build with precision float32"
        ),
    )


def _answer(loaded: Version, signature: str, inputs: Mapping[str, Array], output: str) -> Array:
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, _AT_ONCE):
        rows = {name: value[start : start + _AT_ONCE] for name, value in inputs.items()}
        parts.append(loaded.run(signature, rows, [output])[output])
    return np.concatenate(parts)
