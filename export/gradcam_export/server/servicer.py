"""TensorFlow Serving's PredictionService and ModelService, answers and errors as it gives them."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from typing import TYPE_CHECKING

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from gradcam_export.server.calls import check_model_spec
from gradcam_export.server.status import StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

    from gradcam_export.server.calls import Calls

_NO_DEADLINE_SECONDS = 10 * 365 * 86_400
"""gRPC gives a call without a deadline the end of time, which no timeout in milliseconds can hold."""

RUNS = max(16, 4 * (os.cpu_count() or 1))
"""Requests that are worked on at once: four a core, as in the stock server. It refuses more; here they wait."""


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; Classify, Regress and MultiInference stay UNIMPLEMENTED."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._runs = threading.Semaphore(RUNS)

    def Predict(  # noqa: N802 - the RPC's name
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Run one signature of one version."""
        with _status(context), self._calls.metrics.request(request.model_spec.name, "Predict", "GRPC"):
            check_model_spec(request)
            with self._runs, self._calls.lease(request.model_spec) as served:
                return self._calls.predict(served, request, _timeout_ms(context))

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of one version."""
        with _status(context):
            return self._calls.metadata(request)


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; HandleReloadConfigRequest stays UNIMPLEMENTED."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """State of one version, or of all."""
        with _status(context):
            return self._calls.status(request)


@contextlib.contextmanager
def _status(context: grpc.ServicerContext) -> Iterator[None]:
    """End the call with the status of whatever fails inside."""
    try:
        yield
    except StatusError as error:
        context.abort(error.code, error.message)


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
