"""What wrong values would look like: each known fault, computed from what the values should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcam_export.checks import oracle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcam_export.checks.comparison import Array

    Suspect = tuple[str, Array]
    """What is wrong, and the values that come of it."""

ALTERNATIVES = "alternatives/"
"""How the names of values begin that the live model answers when it is asked otherwise: `alternatives/WHAT/NAME`."""

_EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
_TINY = 1e-300


def of_predictions(expected: Mapping[str, Array]) -> Iterator[Suspect]:
    """Yield wrong predictions `[B,N]`, the likeliest first."""
    right = expected["predictions"].astype(np.float64)
    for what, values in alternatives(expected).items():
        if "predictions" in values and values["predictions"].shape == right.shape:
            yield what, values["predictions"].astype(np.float64)
    if right.shape[1] > 1:
        yield "class index off by one: the scores are shifted by one class", np.roll(right, 1, axis=1)
        yield "class index off by one: the scores are shifted by one class", np.roll(right, -1, axis=1)
        yield "the classes are in reverse order", right[:, ::-1]
    yield "the rows of the batch are mixed up", right[::-1]
    yield "the scores of row 0 are those of all rows", np.broadcast_to(right[:1], right.shape)
    logits = np.log(np.maximum(right, _TINY))
    yield "log-probabilities instead of probabilities", logits
    yield "the softmax is applied twice", _softmax(right)


def temperature(found: Array, expected: Mapping[str, Array]) -> float | None:
    """Return by what factor the logits of softmax predictions `[B,N]` were multiplied, if that explains them."""
    right = expected["predictions"].astype(np.float64)
    if right.shape[1] < 2 or found.shape != right.shape or min(found.min(), right.min()) <= 0:
        return None
    logits, others = (np.log(one) - np.log(one).mean(axis=1, keepdims=True) for one in (right, found))
    scale = float((logits * others).sum() / max((logits**2).sum(), _TINY))
    same = np.abs(_softmax(scale * logits) - found).max() <= 1e-4 * np.abs(found).max()
    return scale if same and abs(scale - 1) > 1e-3 else None


def of_heatmaps(method: str, expected: Mapping[str, Array], grid: tuple[int, ...]) -> Iterator[Suspect]:
    """Yield wrong heatmaps `[B,P]` of a method of features and gradients, the likeliest first.

    Args:
        method: what the version should explain with.
        expected: `features` and `gradients` `[B,P,K]`, and what `ALTERNATIVES` names.
        grid: sizes along the axes that P stands for.
    """
    evidence = {name: expected[name].astype(np.float64) for name in ("features", "gradients")}
    own = f"{method}/gradients"
    if own in expected:
        evidence["gradients"] = expected[own].astype(np.float64)
    yield from _wrongly_finished(oracle.signed_map(method, evidence), grid)
    averaged = np.broadcast_to(evidence["gradients"].mean(axis=0), evidence["gradients"].shape)
    yield "the gradient is averaged over the batch", _raised(method, evidence | {"gradients": averaged})
    for what, values in alternatives(expected).items():
        if "gradients" in values:
            yield what, _raised(method, evidence | values)
    for other in oracle.OF_GRADIENTS:
        if other != method:
            yield f"it is the map of {other}", _raised(other, evidence)


def alternatives(expected: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Return what the live model answers when it is asked otherwise, by what is otherwise."""
    found: dict[str, dict[str, Array]] = {}
    for name in expected:
        if name.startswith(ALTERNATIVES):
            what, _, value = name.removeprefix(ALTERNATIVES).rpartition("/")
            found.setdefault(what, {})[value] = expected[name]
    return found


def _wrongly_finished(signed: Array, grid: tuple[int, ...]) -> Iterator[Suspect]:
    """Yield what can go wrong between the sum over the channels and the heatmap."""
    raised = np.maximum(signed, 0)
    peak = raised.max(axis=1, keepdims=True)
    right = _divided(raised, peak)
    yield "ReLU is missing", _divided(signed, np.abs(signed).max(axis=1, keepdims=True))
    yield "ReLU is missing", _divided(signed, peak)
    yield "it is normalised by the maximum of the batch instead of each image's own", _divided(raised, raised.max())
    low = signed.min(axis=1, keepdims=True)
    yield (
        "it is brought to 0..1 by its minimum and maximum, without ReLU",
        _divided(signed - low, signed.max(axis=1, keepdims=True) - low),
    )
    low = raised.min(axis=1, keepdims=True)
    yield "its minimum is subtracted too", _divided(raised - low, peak - low)
    yield (
        "its absolute value is taken instead of ReLU",
        _divided(np.abs(signed), np.abs(signed).max(axis=1, keepdims=True)),
    )
    yield "its sign is turned: it shows what speaks against the class", _divided(*_peaked(-signed))
    yield "it is not divided by its maximum", raised
    for epsilon in _EPSILONS:
        yield f"it is divided by its maximum plus eps = {epsilon:g}", raised / (peak + epsilon)
    maps = right.reshape(-1, *grid)
    if len(grid) == 2:
        yield "it is transposed", maps.transpose(0, 2, 1).reshape(right.shape)
    for axis, what in zip(range(1, maps.ndim), ("upside down", "mirrored", "reversed"), strict=False):
        yield f"it is {what}", np.flip(maps, axis).reshape(right.shape)
    yield "it is the heatmap of row 0 in all rows", np.broadcast_to(right[:1], right.shape)
    for shift in range(1, len(right)):
        yield "the heatmaps belong to other rows of the batch", np.roll(right, shift, axis=0)


def _raised(method: str, evidence: Mapping[str, Array]) -> Array:
    return _divided(*_peaked(oracle.signed_map(method, evidence)))


def _peaked(signed: Array) -> tuple[Array, Array]:
    raised = np.maximum(signed, 0)
    return raised, raised.max(axis=1, keepdims=True)


def _divided(values: Array, by: Array) -> Array:
    return values / np.where(by > 0, by, 1)


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
