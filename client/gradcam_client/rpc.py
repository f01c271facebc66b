"""The channels to TensorFlow Serving, and the one place where gRPC's errors become ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

import grpc

from gradcam_client import errors
from gradcam_client.wire import gradcam_wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcam_client.options import Connection, Tls
    from gradcam_client.steps import Call

PREDICTION_SERVICE: Final = "tensorflow.serving.PredictionService"
MODEL_SERVICE: Final = "tensorflow.serving.ModelService"
PREDICT: Final = f"/{PREDICTION_SERVICE}/Predict"
GET_MODEL_STATUS: Final = f"/{MODEL_SERVICE}/GetModelStatus"

SERVICE_CONFIG: Final = {
    # Each call goes to the next of the target's addresses that answers; most targets have one.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": PREDICTION_SERVICE}, {"service": MODEL_SERVICE}],
            # Explaining changes nothing at the server, so that asking twice does no harm. gRPC varies the pauses by
            # itself, keeps to the call's deadline, and makes no more than five attempts whatever is written here.
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                # A stock server cancels whatever it merged with a request whose own deadline has passed, and a server
                # that is stopped cancels all; a call that is cancelled here is not tried again.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
}

CHANNEL_OPTIONS: Final = {
    # gRPC refuses messages above 4 MiB unless told otherwise: 21 maps of 224 by 224 are larger.
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    "grpc.service_config": json.dumps(SERVICE_CONFIG),
    # A request that does not fit in here is not tried again; gRPC's own 256 KiB hold one picture or two.
    "grpc.per_rpc_retry_buffer_size": 1 << 30,
    # gRPC's own pauses go up to two minutes, in which a server that is back is not asked.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 3_000,
    # Servers take more than a ping every five minutes for an attack. The second also bounds how long sent bytes may
    # stay unacknowledged: a machine that is switched off is given up after that many milliseconds.
    "grpc.keepalive_time_ms": 300_000,
    "grpc.keepalive_timeout_ms": 10_000,
    # By which releases of gRPC go for the answer to a ping; their own minute is long for a caller who waits.
    "grpc.http2.ping_timeout_ms": 10_000,
}

_COMPRESSION: Final = {
    None: grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}

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
    """A connection to one target; may be used from any number of threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel = _opened(grpc, connection)
        self._methods = _methods(self._channel)

    def call(self, step: Call) -> Any:
        """Send a request, and wait for its answer.

        Raises:
            ServerError: the server refused, or could not be reached.
        """
        metadata = self._connection.call_metadata()
        with rpc_errors(self._connection.target):
            return self._methods[type(step.request)](step.request, timeout=step.timeout, metadata=metadata)

    def close(self) -> None:
        """Close the connection; calls still under way are cancelled."""
        self._channel.close()


class AsyncChannel:
    """A connection to one target, for the event loop that runs when it is made."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel = _opened(grpc.aio, connection)
        self._methods = _methods(self._channel)

    async def call(self, step: Call) -> Any:
        """Send a request, and wait for its answer.

        Raises:
            ServerError: the server refused, or could not be reached.
        """
        connection = self._connection
        wait = callable(connection.token)
        metadata = await asyncio.to_thread(connection.call_metadata) if wait else connection.call_metadata()
        with rpc_errors(connection.target):
            return await self._methods[type(step.request)](step.request, timeout=step.timeout, metadata=metadata)

    async def close(self) -> None:
        """Close the connection; calls still under way are cancelled."""
        await self._channel.close()


def _opened(api: Any, connection: Connection) -> Any:
    """A channel of `api`, which is `grpc` or `grpc.aio`."""
    options = list((CHANNEL_OPTIONS | dict(connection.channel_options or {})).items())
    compression = _COMPRESSION[connection.compression]
    if connection.tls is None:
        return api.insecure_channel(connection.target, options=options, compression=compression)
    return api.secure_channel(connection.target, _credentials(connection.tls), options=options, compression=compression)


def _credentials(tls: Tls) -> Any:
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)


def _methods(channel: Any) -> dict[type, Any]:
    """What sends each kind of request, by the paths that TensorFlow Serving gives them, with messages of our own."""
    return {
        request: channel.unary_unary(path, request_serializer=_serialize, response_deserializer=response.FromString)
        for request, path, response in (
            (wire.PredictRequest, PREDICT, wire.PredictResponse),
            (wire.GetModelStatusRequest, GET_MODEL_STATUS, wire.GetModelStatusResponse),
        )
    }


def _serialize(message: Any) -> bytes:
    return message.SerializeToString()  # type: ignore[no-any-return]


def closed(target: str) -> errors.ServerError:
    """What becomes of a call by a client that was closed, for which gRPC has other errors in every way of calling."""
    return errors.ServerError(f"{target}: this client is closed: make another", target=target, status="CANCELLED")


@contextlib.contextmanager
def rpc_errors(target: str) -> Iterator[None]:
    """Turn gRPC's errors into ours, with the server's address and words.

    Raises:
        ServerError: the subclass that the status calls for.
    """
    try:
        yield
    except grpc.RpcError as error:
        status, details = error.code(), error.details() or ""
        kind, meaning = _ERRORS.get(status, (errors.ServerError, "the call failed"))
        raise kind(
            f"{target}: {meaning} ({status.name}: {details})", target=target, status=status.name, details=details
        ) from error
