"""Servers to test against, and tiny models to serve.

`serve` and `serve_both` start the embedded server and, where there is one, a real `tensorflow_model_server`: from
PATH, or from its Docker image. Tests that ask for them run once on each.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import tensorflow as tf
from echo_server import Served
from gradcam_export.server import EmbeddedServer, ServedModel
from model_server import START_SECONDS, Addresses, model_server, no_model_server
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("tensorflow_model_server", marks=pytest.mark.model_server)]
)
def serve_both(request: pytest.FixtureRequest) -> Iterator[Callable[[Path, str], Addresses]]:
    """Serves the versions under a base path as a model of that name, and no longer what it served by that name."""
    launch = _embedded if request.param == "embedded" else model_server()
    running: dict[str, contextlib.ExitStack] = {}
    with contextlib.ExitStack() as servers:

        def serve(base_path: Path, name: str) -> Addresses:
            if name in running:
                running[name].close()
            running[name] = servers.enter_context(contextlib.ExitStack())
            return running[name].enter_context(launch(base_path, name))

        yield serve


@pytest.fixture(scope="module")
def serve(serve_both: Callable[[Path, str], Addresses]) -> Callable[[Path, str], str]:
    """The same, for gRPC alone."""
    return lambda base_path, name: serve_both(base_path, name).grpc


@contextlib.contextmanager
def _embedded(base_path: Path, name: str) -> Iterator[Addresses]:
    model = ServedModel(name=name, base_path=base_path)
    with EmbeddedServer([model], poll_seconds=0.05, rest_port=0) as server:
        yield Addresses(f"127.0.0.1:{server.port}", f"127.0.0.1:{server.rest_port}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a real server where there is none: by a mark, which pytest reports once a file."""
    marked = [item for item in items if item.get_closest_marker("model_server")]
    if marked and (reason := no_model_server()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


class Stub:
    """Both services on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(channel)
        self.request = predict_request

    def predict(self, model: str = "toy", signature: str = "", timeout: float | None = None, **inputs: Any) -> Any:
        return self.prediction.Predict(predict_request(model, signature, **inputs), timeout=timeout)


@pytest.fixture
def connect() -> Iterator[Callable[[str | int], Stub]]:
    """Factory: `connect("127.0.0.1:port")`, or a port alone, gives the stubs of a server."""
    with contextlib.ExitStack() as channels:

        def connect(target: str | int) -> Stub:
            address = f"127.0.0.1:{target}" if isinstance(target, int) else target
            return Stub(channels.enter_context(grpc.insecure_channel(address)))

        yield connect


def predict_request(model: str = "toy", signature: str = "", **inputs: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value))
    return request


class Rest:
    """JSON over one kept connection; every answer is `(status, object)`."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(address, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        self.connection.request(method, path, data, headers)
        response = self.connection.getresponse()
        text = response.read()
        assert response.getheader("Content-Type") == "application/json"
        return response.status, json.loads(text)

    def predict(self, body: Any, model: str = "toy") -> tuple[int, Any]:
        return self("POST", f"/v1/models/{model}:predict", body)


@pytest.fixture
def connect_rest() -> Iterator[Callable[[str | int], Rest]]:
    """Factory: `connect_rest("127.0.0.1:port")`, or a port alone, speaks to a server's REST port."""
    with contextlib.ExitStack() as connections:

        def connect(target: str | int) -> Rest:
            rest = Rest(f"127.0.0.1:{target}" if isinstance(target, int) else target)
            connections.callback(rest.connection.close)
            return rest

        yield connect


@pytest.fixture(scope="session", name="predict_request")
def _predict_request() -> Callable[..., predict_pb2.PredictRequest]:
    return predict_request


class Toy(tf.Module):
    """Signatures that are quick, picky or slow; `offset` tells one version's answers from another's."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = tf.Variable(offset)

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.uint8, "images")])
    def sums(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.reduce_sum(tf.cast(images, tf.float32), [1, 2, 3])
        return {
            "sums": total + self.offset,
            "mean": total / 48,
            "name": tf.as_string(tf.cast(total, tf.int32)),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "class_index")])
    def checked(self, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(class_index < 3), ["not a class" * 200])]):
            return {"class_index": tf.identity(class_index)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "key")])
    def describe(self, key: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"value": tf.strings.join([key, "=", tf.as_string(self.offset)])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "digits")])
    def number(self, digits: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"number": tf.strings.to_number(digits)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "steps")])
    def slow(self, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step is about a millisecond."""
        matrix = tf.while_loop(
            lambda step, _: step < tf.reduce_max(steps),
            lambda step, matrix: (step + 1, tf.linalg.matmul(matrix, matrix) * 0),
            (0, tf.ones([256, 256])),
        )[1]
        return {"done": tf.cast(steps, tf.float32) + matrix[0, 0] * 0}


@pytest.fixture(scope="session")
def toy_version(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Factory: a written version of `Toy` with that offset, under a name that no server looks at."""

    @functools.cache
    def write(offset: float) -> Path:
        toy = Toy(offset)
        path = tmp_path_factory.mktemp("toy") / "version"
        signatures = {"serving_default": toy.sums} | {
            name: getattr(toy, name) for name in ("checked", "describe", "number", "slow")
        }
        tf.saved_model.save(toy, str(path), signatures)
        return path

    return write


@pytest.fixture
def publish(toy_version: Callable[[float], Path], tmp_path: Path) -> Callable[..., Path]:
    """Factory: `publish(number, offset, warmup)` puts a version of `Toy` into the base path, which it returns."""
    base_path = tmp_path / "models" / "toy"

    def publish(number: int | str, offset: float | None = None, warmup: bytes | None = None) -> Path:
        base_path.mkdir(parents=True, exist_ok=True)
        unfinished = base_path / f"tmp_{number}"
        shutil.copytree(toy_version(float(number) if offset is None else offset), unfinished)
        if warmup is not None:
            (unfinished / "assets.extra").mkdir()
            (unfinished / "assets.extra" / "tf_serving_warmup_requests").write_bytes(warmup)
        return unfinished.rename(base_path / str(number)).parent

    return publish


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until the condition holds; the limit only keeps a broken server from hanging the tests."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + START_SECONDS
        while not condition():
            assert time.monotonic() < end, "the condition never held"
            time.sleep(0.01)

    return wait


@pytest.fixture
def start():
    """Factory: `start(**limits)` starts a server that says what it was asked, and stops it in the end."""
    started = []

    def start(**limits: float) -> Served:
        started.append(Served(**limits))
        return started[-1]

    yield start
    for served in started:
        served.released.set()
        if not served.stopped:
            served.stop(5)


@pytest.fixture
def served(start):
    """The same, started with the usual limits."""
    return start()
