"""The ways into a served version, each a function from a question to its answer."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import tensorflow as tf
from load import Answer, Question, RefusedError
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from gradcam_export.savedmodel.session import LoadedVersion
    from load import Door

CODES = {code.value[0]: code.name for code in grpc.StatusCode}
HTTP_CODES = {400: "INVALID_ARGUMENT", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


def grpc_door(channel: grpc.Channel, model: str, version: int | None = None, timeout: float = 60) -> Door:
    """Predict through a channel, within `timeout` seconds."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask(question: Question) -> Answer:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, question.signature
        if version is not None:
            request.model_spec.version.value = version
        for name, value in question.inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            response = stub.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            raise RefusedError(error.code().name, error.details()) from error
        values = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
        return Answer(values, response.model_spec.version.value)

    return ask


@contextlib.contextmanager
def rest_door(address: str, model: str, version: int) -> Iterator[Door]:
    """Predict in columns, as JSON over one kept connection a thread; it does not say which version answered."""
    kept = threading.local()
    opened = []

    def ask(question: Question) -> Answer:
        if not hasattr(kept, "connection"):
            kept.connection = http.client.HTTPConnection(address, timeout=60)
            opened.append(kept.connection)
        inputs = {name: _to_json(value) for name, value in question.inputs.items()}
        body = json.dumps({"signature_name": question.signature, "inputs": inputs})
        try:
            kept.connection.request("POST", f"/v1/models/{model}:predict", body)
            response = kept.connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            kept.connection.close()
            raise RefusedError("UNAVAILABLE", str(error)) from error
        if response.status != http.HTTPStatus.OK:
            raise RefusedError(HTTP_CODES.get(response.status, str(response.status)), answer["error"])
        outputs = answer["outputs"]
        if not isinstance(outputs, dict):  # the only output goes without its name
            (name,) = question.wanted[0]
            outputs = {name: outputs}
        return Answer({name: _from_json(name, value) for name, value in outputs.items()}, version)

    yield ask
    for connection in opened:
        connection.close()


def _to_json(value: np.ndarray) -> Any:
    if value.dtype == object:
        return [{"b64": base64.b64encode(item).decode()} for item in value]
    return value.tolist()


def _from_json(name: str, value: Any) -> np.ndarray:
    flat = np.array(value, object)
    if name.endswith("_bytes"):
        return np.array([base64.b64decode(item["b64"]) for item in value], object)
    if flat.size and isinstance(flat.flat[0], str):
        return np.vectorize(str.encode, otypes=[object])(flat)
    return np.array(value)


def session_door(loaded: LoadedVersion, version: int) -> Door:
    """Run the graph on what is sent: `Session.run` would cast and refuse in Python what a server feeds as it came."""

    @functools.cache
    def prepared(name: str) -> Callable[..., list[np.ndarray]]:
        options = config_pb2.CallableOptions()
        options.feed.extend([info.name for info in loaded.signatures[name].inputs.values()])
        options.fetch.extend([info.name for info in loaded.signatures[name].outputs.values()])
        return loaded._session._make_callable_from_options(options)

    def ask(question: Question) -> Answer:
        signature = loaded.signatures[question.signature]
        try:
            values = prepared(question.signature)(*[question.inputs[name] for name in signature.inputs])
        except tf.errors.OpError as error:
            raise RefusedError(CODES[error.error_code], error.message) from error
        return Answer(dict(zip(signature.outputs, values, strict=True)), version)

    return ask


def retrying(door: Door, codes: Collection[str] = ("UNAVAILABLE",), seconds: float = 120) -> Door:
    """Ask again where the server says that the question was not run, for so long."""

    def ask(question: Question) -> Answer:
        end = time.monotonic() + seconds
        while True:
            try:
                return door(question)
            except RefusedError as refusal:
                if refusal.code not in codes or time.monotonic() > end:
                    raise
                time.sleep(0.2)

    return ask
