"""Reading answers: every value is checked against the contract before it is handed on."""

from __future__ import annotations

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
    return [Prediction(**fields) for fields in _prediction_fields(response, manifest, len(images))]


def read_explanations(
    response: wire.PredictResponse, manifest: Manifest, images: Sequence[Image.Image]
) -> list[Explanation]:
    """One `Explanation` for each image of the request.

    Raises:
        MalformedAnswer: the answer is not what the contract says.
    """
    count = len(images)
    heatmaps = _output(response, contract.HEATMAP, "f", (count, *manifest.grid))
    peaks = _output(response, contract.HEATMAP_PEAK, "f", (count,))
    # Written so that NaN fails as well.
    if not np.all((heatmaps >= 0) & (heatmaps <= 1)) or not np.all(peaks >= 0):
        raise MalformedAnswer("a heatmap came with values outside 0..1, or a peak below 0")
    return [
        Explanation(
            **fields,
            heatmap=_frozen(heatmap),
            heatmap_peak=float(peak),
            image=image,
            colormap=manifest.colormap,
            alpha=manifest.alpha,
        )
        for fields, heatmap, peak, image in zip(
            _prediction_fields(response, manifest, count), heatmaps, peaks, images, strict=True
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


def _prediction_fields(response: wire.PredictResponse, manifest: Manifest, count: int) -> list[dict[str, Any]]:
    predictions = _output(response, contract.PREDICTIONS, "f", (count, None))
    indices = _output(response, contract.CLASS_INDEX, "i", (count,)).tolist()
    labels = _output(response, contract.LABEL, "O", (count,)).tolist()
    scores = _output(response, contract.SCORE, "f", (count,)).tolist()
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
            "predictions": _frozen(row),
            "labels": manifest.labels,
            "model_version": manifest.version,
        }
        for label, index, score, row in zip(labels, indices, scores, predictions, strict=True)
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
