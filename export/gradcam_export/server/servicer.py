"""TensorFlow Serving's PredictionService and ModelService, answers and errors as it gives them."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from gradcam_export.server.predict import predict
from gradcam_export.server.status import StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcam_export.server.repository import ModelRepository, Served

SIGNATURE_DEF = "signature_def"

_NO_DEADLINE_SECONDS = 10 * 365 * 86_400
"""gRPC gives a call without a deadline the end of time, which no timeout in milliseconds can hold."""


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; Classify, Regress and MultiInference stay UNIMPLEMENTED."""

    def __init__(self, models: Mapping[str, ModelRepository]) -> None:
        self._models = models

    def Predict(  # noqa: N802 - the RPC's name
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Run one signature of one version."""
        with _status(context), _lease(self._models, request) as served:
            response = predict(served.loaded, request, timeout_ms=_timeout_ms(context))
            response.model_spec.version.value = served.number
            return response

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of one version."""
        with _status(context):
            _check_metadata_fields(request.metadata_field)
            with _lease(self._models, request) as served:
                signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=served.loaded.signatures)
                response = get_model_metadata_pb2.GetModelMetadataResponse()
                response.model_spec.name = request.model_spec.name
                response.model_spec.version.value = served.number
                response.metadata[SIGNATURE_DEF].Pack(signatures)
                return response


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; HandleReloadConfigRequest stays UNIMPLEMENTED."""

    def __init__(self, models: Mapping[str, ModelRepository]) -> None:
        self._models = models

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """State of one version, or of all; a label is not looked at, nor does the stock server."""
        with _status(context):
            _check_model_spec(request)
            spec = request.model_spec
            repository = self._models.get(spec.name)
            states = dict(repository.states()) if repository else {}
            if not states:
                raise _not_found(f"Could not find any versions of model {spec.name}")
            if spec.HasField("version"):
                number = spec.version.value
                if number not in states:
                    raise _not_found(f"Could not find version {number} of model {spec.name}")
                states = {number: states[number]}
            response = get_model_status_pb2.GetModelStatusResponse()
            for number, state in states.items():
                status = response.model_version_status.add(version=number, state=state.state)
                status.status.error_code = state.error.number if state.error else 0
                status.status.error_message = state.error.message if state.error else ""
            return response


@contextlib.contextmanager
def _status(context: grpc.ServicerContext) -> Iterator[None]:
    """End the call with the status of whatever fails inside."""
    try:
        yield
    except StatusError as error:
        context.abort(error.code, error.message)


def _lease(
    models: Mapping[str, ModelRepository],
    request: predict_pb2.PredictRequest | get_model_metadata_pb2.GetModelMetadataRequest,
) -> contextlib.AbstractContextManager[Served]:
    """The version that `request` asks for by number, by label, or not at all: the highest."""
    _check_model_spec(request)
    spec = request.model_spec
    if not spec.name:
        raise _invalid("ModelSpec has no name specified.")
    number = _requested_version(models, spec)
    if spec.name not in models:
        asked = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        raise _not_found(f"Servable not found for request: {asked}")
    return models[spec.name].lease(number)


def _requested_version(models: Mapping[str, ModelRepository], spec: model_pb2.ModelSpec) -> int | None:
    match spec.WhichOneof("version_choice"):
        case "version":
            return int(spec.version.value)
        case "version_label":
            labels = models[spec.name].model.labels if spec.name in models else {}
            if spec.version_label not in labels:
                raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
            return labels[spec.version_label]
        case _:
            return None


def _timeout_ms(context: grpc.ServicerContext) -> int | None:
    """Milliseconds until the caller gives up.

    Raises:
        StatusError: DEADLINE_EXCEEDED: it has already.
    """
    remaining = context.time_remaining()
    if remaining is None or remaining > _NO_DEADLINE_SECONDS:
        return None
    if remaining <= 0:
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded before the request was run")
    return math.ceil(remaining * 1000)


def _check_model_spec(
    request: predict_pb2.PredictRequest
    | get_model_metadata_pb2.GetModelMetadataRequest
    | get_model_status_pb2.GetModelStatusRequest,
) -> None:
    if not request.HasField("model_spec"):
        raise _invalid("Missing ModelSpec")


def _check_metadata_fields(fields: list[str]) -> None:
    if not fields:
        raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != SIGNATURE_DEF:
            raise _invalid(f"Metadata field {field} is not supported")


def _invalid(message: str) -> StatusError:
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _not_found(message: str) -> StatusError:
    return StatusError(grpc.StatusCode.NOT_FOUND, message)
