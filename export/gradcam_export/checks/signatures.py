"""Hold the signatures of a version, as it or a server declares them, against the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.comparison import Check, failed, holds

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = tuple[int | None, ...]
    Tensors = dict[str, tuple[str, Shape]]
    """By name: type, and the sizes after the batch; `None` is a size that the manifest does not know."""

NAME = "signatures"


def check_signatures(signatures: Mapping[str, Any], manifest: Mapping[str, Any]) -> Check:
    """Check names, types and shapes of every input and output of every signature.

    Args:
        signatures: `SignatureDef` protos by name.
        manifest: says what there must be.
    """
    wanted = contract_signatures(manifest)
    wrong = [f"signature {name!r} is missing" for name in wanted if name not in signatures]
    wrong += [f"signature {name!r} is none that the manifest knows of" for name in signatures if name not in wanted]
    for name, (inputs, outputs) in wanted.items():
        if name in signatures:
            wrong += _differences(f"{name}: input", signatures[name].inputs, inputs)
            wrong += _differences(f"{name}: output", signatures[name].outputs, outputs)
    return failed(NAME, "; ".join(wrong)) if wrong else holds(NAME)


def contract_signatures(manifest: Mapping[str, Any]) -> dict[str, tuple[Tensors, Tensors]]:
    """Return inputs and outputs of each signature that a version of this manifest has."""
    explanation, main = manifest["explanation"], manifest["input"]
    given: Tensors = {one["name"]: (one["dtype"], tuple(one["shape"])) for one in (main, *manifest["more_inputs"])}
    chosen: Tensors = given | {contract.CLASS_INDEX: ("int32", ())}
    encoded: Tensors = {contract.IMAGE_BYTES: ("string", ()), contract.CLASS_INDEX: ("int32", ())}
    predicted: Tensors = {
        contract.CLASS_INDEX: ("int32", ()),
        contract.LABEL: ("string", ()),
        contract.SCORE: ("float32", ()),
    }
    predictions: Tensors = {contract.PREDICTIONS: ("float32", (None,))}
    maps: Tensors = {
        contract.HEATMAP: ("float32", tuple(explanation["grid"])),
        contract.HEATMAP_PEAK: ("float32", ()),
    }
    best: Tensors = {name: (kind, (explanation["top_k"], *shape)) for name, (kind, shape) in (predicted | maps).items()}
    explained: Tensors = predictions | predicted | maps
    found: dict[str, tuple[Tensors, Tensors]] = {
        contract.SERVING_DEFAULT: (given, explained),
        contract.EXPLAIN: (chosen, explained),
        contract.TOP_K: (given, predictions | best),
        contract.PREDICT: (given, predictions | predicted),
        contract.DESCRIBE: ({contract.KEY: ("string", ())}, {contract.VALUE: ("string", ())}),
    }
    found |= {contract.explain_signature(method): (chosen, explained) for method in explanation["methods"][1:]}
    if main.get("encoded"):
        found[contract.EXPLAIN_BYTES] = (encoded, explained)
        if len(explanation["grid"]) == len(main["shape"]) - 1:
            found[contract.OVERLAY] = (encoded, predicted | {contract.OVERLAY_BYTES: ("string", ())})
    return found


def width_of_predictions(signatures: Mapping[str, Any]) -> int:
    """Return N of `predictions` `[B,N]`, as the signature `predict` declares it."""
    return int(signatures[contract.PREDICT].outputs[contract.PREDICTIONS].tensor_shape.dim[1].size)


def _differences(place: str, found: Mapping[str, Any], wanted: Tensors) -> list[str]:
    wrong = [f"{place} {name!r} is missing" for name in wanted if name not in found]
    wrong += [f"{place} {name!r} is not of the contract" for name in found if name not in wanted]
    for name, (kind, shape) in wanted.items():
        if name not in found:
            continue
        declared = tf.as_dtype(found[name].dtype).name
        if declared != kind:
            wrong.append(f"{place} {name!r} is {declared} instead of {kind}")
        sizes = None if found[name].tensor_shape.unknown_rank else [one.size for one in found[name].tensor_shape.dim]
        if not _fits(sizes, shape):
            wrong.append(f"{place} {name!r} is of shape {_said(sizes)} instead of {_said([-1, *shape])}")
    return wrong


def _fits(sizes: list[int] | None, shape: Shape) -> bool:
    """Whether declared sizes are any batch and then `shape`; a size that a server leaves open may be any."""
    if sizes is None or len(sizes) != len(shape) + 1 or sizes[0] != -1:
        return False
    return all(size in (-1, one) or one is None for size, one in zip(sizes[1:], shape, strict=True))


def _said(sizes: Any) -> str:
    if sizes is None:
        return "[unknown]"
    return "[" + ",".join("?" if size in (-1, None) else str(size) for size in ("B", *sizes[1:])) + "]"
