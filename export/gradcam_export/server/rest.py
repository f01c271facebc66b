"""TensorFlow Serving's REST API: paths, answers and errors as it gives them.

Source: TensorFlow Serving's api_rest.md and http_rest_api_util.cc.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from gradcam_export.server import metrics
from gradcam_export.server.calls import SIGNATURE_DEF
from gradcam_export.server.http_messages import HttpRequest, HttpResponse
from gradcam_export.server.json_forms import fill_request, parse_document, write_answer
from gradcam_export.server.repository import version_number
from gradcam_export.server.status import StatusError, invalid_argument

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from gradcam_export.server.calls import Calls

TIMEOUT_MS = 30_000
"""How long the graph may run for a request, which cannot say so itself: --rest_api_timeout_in_ms by default."""

_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE)
_MODEL = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?", re.IGNORECASE)

_HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 499,  # the client closed the request; http.HTTPStatus does not know it
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
"""The stock server's table; every other code is an internal error."""


class RestApi:
    """Answers HTTP requests with what `calls` answers; at `metrics_path`, if any, with their metrics."""

    def __init__(self, calls: Calls, metrics_path: str | None = None) -> None:
        self._calls = calls
        self._metrics_path = metrics_path

    def answer(self, request: HttpRequest) -> HttpResponse:
        """The response to `request`; an error is an object with the one key `error`."""
        if request.path == self._metrics_path:
            return HttpResponse(HTTPStatus.OK, self._calls.metrics.page().encode(), metrics.CONTENT_TYPE)
        if not request.path.lower().startswith("/v1/"):
            return HttpResponse.of_json({"error": f"Nothing is served at {request.path}"}, HTTPStatus.NOT_FOUND)
        try:
            return HttpResponse.of_json(self._answer(request))
        except StatusError as error:
            status = _HTTP_STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
            return HttpResponse.of_json({"error": error.message}, status)

    def _answer(self, request: HttpRequest) -> dict[str, Any]:
        if request.method == "POST" and (match := _PREDICTION.fullmatch(request.path)):
            if match["method"] == "predict":
                return self._predict(_model_spec(match), request.body)
            if match["method"] in {"classify", "regress"}:
                raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"{match['method']} is not served here; use predict")
        if request.method == "GET" and (match := _MODEL.fullmatch(request.path)):
            if match["name"] is None:
                raise invalid_argument("Missing model name in request.")
            return self._metadata(_model_spec(match)) if match["metadata"] else self._status(_model_spec(match))
        raise invalid_argument(f"Malformed request: {request.method} {request.path}")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> dict[str, Any]:
        with self._calls.metrics.request(spec.name, "predict", "REST"):
            document = parse_document(body)
            request = predict_pb2.PredictRequest(model_spec=spec)
            with self._calls.lease(spec) as served:
                form = fill_request(document, request, served.loaded.signatures)
                response = self._calls.predict(served, request, TIMEOUT_MS)
            return write_answer(response.outputs, form)

    def _status(self, spec: model_pb2.ModelSpec) -> dict[str, Any]:
        return _json(self._calls.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec)))

    def _metadata(self, spec: model_pb2.ModelSpec) -> dict[str, Any]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
        response = self._calls.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        return {"model_spec": _json(response.model_spec), "metadata": {SIGNATURE_DEF: _json(signatures)}}


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=_unquoted(match["name"]))
    if match["version"] is not None:
        number = version_number(match["version"])
        if number is None:
            raise invalid_argument(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = number
    elif match["label"] is not None:
        spec.version_label = _unquoted(match["label"])
    return spec


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise invalid_argument(f"Failed to decode {text}: {error.reason}") from error


def _json(message: Message) -> dict[str, Any]:
    """Every field, under the name that the .proto gives it; 64-bit integers are strings."""
    return json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
