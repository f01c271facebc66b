"""What hostile callers send, and what it costs a server."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import grpc
from questions import SIZE
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server_process import ServerProcess

PREDICT = "/tensorflow.serving.PredictionService/Predict"
TYPES = {"images": types_pb2.DT_UINT8, "image_bytes": types_pb2.DT_STRING, "key": types_pb2.DT_STRING}

BEGINNINGS = [
    b"",
    b"GET",
    b"GET /v1/models/tiny HTTP/1.1\r\n\r\n",
    b"POST /v1/models/tiny:predict HTTP/1.1\r\nContent-Length: 99\r\n\r\n{",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0xFF, 0xFF, 0xFF, 1, 4, 0, 0, 0, 1]),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 100,
]


@contextlib.contextmanager
def raw(server: ServerProcess) -> Iterator[Any]:
    """Send bytes as a Predict request."""
    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        yield channel.unary_unary(PREDICT, None, predict_pb2.PredictResponse.FromString)


def code_of(call: Any, message: bytes) -> grpc.StatusCode:
    """The status that a message is answered with."""
    try:
        call(message, timeout=60)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def claim(name: str, rows: int, **values: Any) -> tensor_pb2.TensorProto:
    """A tensor of so many rows with the values given, if any."""
    tensor = tensor_pb2.TensorProto(dtype=TYPES.get(name, types_pb2.DT_INT32), **values)
    for size in (rows, SIZE, SIZE, 3)[: 4 if name == "images" else 1]:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@contextlib.contextmanager
def watching(server: ServerProcess, most: list[int]) -> Iterator[None]:
    """Keep the most memory that the server takes meanwhile."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], server.taken().memory)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
