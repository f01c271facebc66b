"""The channel to TensorFlow Serving, and the one place where gRPC's errors become ours."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from gradcam_client import errors
from gradcam_client.wire import gradcam_wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterator

PREDICT: Final = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_STATUS: Final = "/tensorflow.serving.ModelService/GetModelStatus"

# gRPC refuses messages above 4 MiB unless told otherwise: 21 maps of 224 by 224 are larger.
CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)

_ERRORS: Final = {
    grpc.StatusCode.UNAVAILABLE: (
        errors.ServerUnavailable,
        "no server answers: is it running, and is this its gRPC port?",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        errors.DeadlineExceeded,
        "no answer in time: give a longer timeout, or send fewer images",
    ),
    grpc.StatusCode.NOT_FOUND: (errors.ModelNotFound, "no such model or version is served"),
    grpc.StatusCode.FAILED_PRECONDITION: (errors.SignatureNotFound, "the model does not offer this call"),
    grpc.StatusCode.INVALID_ARGUMENT: (errors.InvalidRequest, "the server refused the request"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        errors.ServerOverloaded,
        "the server is at a limit: send fewer images at once, or fewer calls",
    ),
}


class Channel:
    """A connection to one server; may be used from any number of threads."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._predict = _unary(self._channel, PREDICT, wire.PredictResponse)
        self._status = _unary(self._channel, GET_MODEL_STATUS, wire.GetModelStatusResponse)

    def predict(self, request: wire.PredictRequest, timeout: float | None) -> wire.PredictResponse:
        """Run one signature; wait at most `timeout` seconds.

        Raises:
            ServerError: the server refused, or could not be reached.
        """
        with rpc_errors(self._target):
            return self._predict(request, timeout=timeout)  # type: ignore[no-any-return]

    def status(self, request: wire.GetModelStatusRequest, timeout: float | None) -> wire.GetModelStatusResponse:
        """Ask for the state of a model's versions; wait at most `timeout` seconds.

        Raises:
            ServerError: the server refused, or could not be reached.
        """
        with rpc_errors(self._target):
            return self._status(request, timeout=timeout)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the connection; calls still under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _unary(channel: Any, method: str, response: Any) -> Any:
    """One method by the path that TensorFlow Serving gives it, with messages of our own."""
    return channel.unary_unary(method, request_serializer=_serialize, response_deserializer=response.FromString)


def _serialize(message: Any) -> bytes:
    return message.SerializeToString()  # type: ignore[no-any-return]


@contextlib.contextmanager
def rpc_errors(target: str) -> Iterator[None]:
    """Turn gRPC's errors into ours, with the server's address and words.

    Raises:
        ServerError: the subclass that the status calls for.
    """
    try:
        yield
    except grpc.RpcError as error:
        status = error.code()
        kind, meaning = _ERRORS.get(status, (errors.ServerError, "the call failed"))
        raise kind(
            f"{target}: {meaning} ({status.name}: {error.details()})", target=target, status=status.name
        ) from error
