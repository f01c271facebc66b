"""Reading answers: every value is checked against the contract before it is handed on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradcam_client import codec, contract
from gradcam_client.errors import MalformedAnswer
from gradcam_client.results import Explanation, Prediction, VersionStatus
from gradcam_client.wire import gradcam_wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from gradcam_client.manifest import Manifest

Array = np.ndarray[Any, np.dtype[Any]]

PREDICT_OUTPUTS: Final = (contract.PREDICTIONS, contract.CLASS_INDEX, contract.LABEL, contract.SCORE)
_JPEG: Final = b"\xff\xd8\xff"
EXPLAIN_OUTPUTS: Final = (*PREDICT_OUTPUTS, contract.HEATMAP, contract.HEATMAP_PEAK)


def read_description(response: wire.PredictResponse) -> bytes:
    """The JSON that `describe` answered for one key.

    Raises:
        MalformedAnswer: it answered something else.
    """
    (text,) = _output(response, contract.VALUE, "O", (1,)).tolist()
    return text  # type: ignore[no-any-return]


def read_predictions(
    response: wire.PredictResponse, manifest: Manifest, images: Sequence[Image.Image]
) -> list[Prediction]:
    """One `Prediction` for each image of the request.

    Raises:
        MalformedAnswer: the answer is not what the contract says.
    """
    return [Prediction(**fields) for fields in _prediction_fields(response, manifest, (len(images),))]


def read_explanations(
    response: wire.PredictResponse, manifest: Manifest, images: Sequence[Image.Image], *, method: str | None = None
) -> list[Explanation]:
    """One `Explanation` for each image of the request, by `method` or the model's own.

    Raises:
        MalformedAnswer: the answer is not what the contract says.
    """
    return _explanations(response, manifest, images, (len(images),), method or manifest.method)


def read_top_k(
    response: wire.PredictResponse, manifest: Manifest, images: Sequence[Image.Image]
) -> list[list[Explanation]]:
    """T explanations for each image of the request, best class first.

    Raises:
        MalformedAnswer: the answer is not what the contract says.
    """
    classes = manifest.top_k
    repeated = [image for image in images for _ in range(classes)]
    flat = _explanations(response, manifest, repeated, (len(images), classes), manifest.method)
    rows = [flat[i * classes : (i + 1) * classes] for i in range(len(images))]
    for row in rows:
        indices = [one.class_index for one in row]
        if len(set(indices)) != classes:
            raise MalformedAnswer(f"the best classes of an image came as {indices}: one of them came twice")
    return rows


def read_overlays(response: wire.PredictResponse, manifest: Manifest, files: Sequence[bytes]) -> list[bytes]:  # noqa: ARG001 - read as the others are
    """One JPEG for each file of the request.

    Raises:
        MalformedAnswer: the answer is not what the contract says.
    """
    overlays: list[bytes] = _output(response, contract.OVERLAY_BYTES, "O", (len(files),)).tolist()
    if not all(one.startswith(_JPEG) for one in overlays):
        raise MalformedAnswer(f"output {contract.OVERLAY_BYTES!r} came with values that are no JPEG")
    return overlays


def _explanations(
    response: wire.PredictResponse,
    manifest: Manifest,
    images: Sequence[Image.Image],
    axes: tuple[int, ...],
    method: str,
) -> list[Explanation]:
    """One explanation for each class asked for: `axes` is `(B,)`, or `(B, T)`, read row by row."""
    heatmaps = _output(response, contract.HEATMAP, "f", (*axes, *manifest.grid)).reshape(-1, *manifest.grid)
    peaks = _output(response, contract.HEATMAP_PEAK, "f", axes).reshape(-1)
    # Written so that NaN fails as well.
    if not np.all((heatmaps >= 0) & (heatmaps <= 1)) or not np.all(peaks >= 0):
        raise MalformedAnswer("a heatmap came with values outside 0..1, or a peak below 0")
    return [
        Explanation(
            **fields,
            heatmap=_frozen(heatmap),
            heatmap_peak=float(peak),
            method=method,
            image=image,
            colormap=manifest.colormap,
            alpha=manifest.alpha,
        )
        for fields, heatmap, peak, image in zip(
            _prediction_fields(response, manifest, axes), heatmaps, peaks, images, strict=True
        )
    ]


def read_status(response: wire.GetModelStatusResponse) -> tuple[VersionStatus, ...]:
    """The state of each version that the server knows, newest first."""
    versions = (
        VersionStatus(
            version=one.version,
            state=_state(one.state),
            error=one.status.error_message if one.status.error_code else "",
        )
        for one in response.model_version_status
    )
    return tuple(sorted(versions, key=lambda one: -one.version))


def _state(number: int) -> str:
    states = wire.ModelVersionStatus.State
    return states.Name(number) if number in states.values() else "UNKNOWN"


def _prediction_fields(
    response: wire.PredictResponse, manifest: Manifest, axes: tuple[int, ...]
) -> list[dict[str, Any]]:
    """The fields of each class asked for; the classes of one image share its predictions."""
    predictions = _output(response, contract.PREDICTIONS, "f", (axes[0], None))
    indices = _output(response, contract.CLASS_INDEX, "i", axes).reshape(-1).tolist()
    labels = _output(response, contract.LABEL, "O", axes).reshape(-1).tolist()
    scores = _output(response, contract.SCORE, "f", axes).reshape(-1).tolist()
    rows = [row for row in map(_frozen, predictions) for _ in range(math.prod(axes[1:]))]
    classes = len(manifest.labels)
    if predictions.shape[1] != classes and (predictions.shape[1], classes) != (1, 2):
        raise MalformedAnswer(f"predictions came for {predictions.shape[1]} classes, the model has {classes}")
    if not np.all(np.isfinite(predictions)) or not np.all(np.isfinite(scores)):
        raise MalformedAnswer("predictions came that are not finite: the model computes NaN or infinity")
    if not all(0 <= index < classes for index in indices):
        raise MalformedAnswer(f"class indices {indices} came, the model has {classes} classes")
    return [
        {
            "label": label.decode("utf-8", "replace"),
            "class_index": index,
            "score": score,
            "predictions": row,
            "labels": manifest.labels,
            "model_version": manifest.version,
        }
        for label, index, score, row in zip(labels, indices, scores, rows, strict=True)
    ]


def _output(response: wire.PredictResponse, name: str, kind: str, shape: tuple[int | None, ...]) -> Array:
    """Output `name`, its kind (numpy's letter) and shape (`None` is any size) as expected."""
    if name not in response.outputs:
        raise MalformedAnswer(f"output {name!r} is missing: {sorted(response.outputs)} came")
    try:
        array = codec.decode(response.outputs[name])
    except MalformedAnswer as error:
        raise MalformedAnswer(f"output {name!r}: {error}") from error
    fits = array.ndim == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
    if array.dtype.kind != kind or not fits:
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise MalformedAnswer(
            f"output {name!r} came as {array.dtype} of shape {list(array.shape)}, "
            f"expected kind {kind!r} of [{expected}]"
        )
    return array


def _frozen(row: Array) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A read-only array of its own: one image's result must not keep its whole batch in memory."""
    own = row.astype(np.float32)
    own.flags.writeable = False
    return own
