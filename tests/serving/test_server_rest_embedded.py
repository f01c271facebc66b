"""What REST of the embedded server alone promises: labels, refusals, limits, its ports and its end."""

from __future__ import annotations

import http.client
import socket

import grpc
import numpy as np
import psutil
import pytest
from gradcam_export.errors import ServeError
from gradcam_export.server import EmbeddedServer, ServedModel
from gradcam_export.server.models import every
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


@pytest.fixture
def labelled(connect, connect_rest, publish):
    """Versions 1 and 2 under labels, over gRPC and REST."""
    base_path = publish(1)
    publish(2)
    model = ServedModel(name="my toy", base_path=base_path, policy=every, labels={"stable": 1, "canary": 2})
    with EmbeddedServer([model], rest_port=0) as server:
        yield connect(server.port), connect_rest(server.rest_port), server


def test_a_label_leads_to_its_version_everywhere(labelled) -> None:
    stub, rest, _ = labelled
    for label, number in (("stable", 1), ("canary", 2)):
        path = f"/v1/models/my%20toy/labels/{label}"
        body = {"signature_name": "describe", "instances": ["k"]}
        assert rest("POST", f"{path}:predict", body) == (200, {"predictions": [f"k={number}.000000"]})
        spec = model_pb2.ModelSpec(name="my toy", version_label=label)
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        (version,) = stub.model.GetModelStatus(request).model_version_status
        assert version.version == number
        assert [each["version"] for each in rest("GET", path)[1]["model_version_status"]] == [str(number)]
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        assert stub.prediction.GetModelMetadata(metadata).model_spec.version.value == number
        assert rest("GET", f"{path}/metadata")[1]["model_spec"]["version"] == str(number)


def test_an_unknown_label_is_an_invalid_argument_everywhere(labelled) -> None:
    stub, rest, _ = labelled
    error = "Unrecognized servable version label: beta"
    for path in ("", "/metadata"):
        assert rest("GET", f"/v1/models/my%20toy/labels/beta{path}") == (400, {"error": error})
    spec = model_pb2.ModelSpec(name="my toy", version_label="beta")
    with pytest.raises(grpc.RpcError, match=error) as refusal:
        stub.model.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_label_of_a_version_that_went_away_is_not_found(connect_rest, publish, eventually) -> None:
    base_path = publish(1)
    publish(2)
    model = ServedModel(name="toy", base_path=base_path, labels={"stable": 2})
    with EmbeddedServer([model], poll_seconds=0.02, rest_port=0) as server:
        rest = connect_rest(server.rest_port)
        body = {"signature_name": "describe", "instances": ["k"]}
        assert rest("POST", "/v1/models/toy/labels/stable:predict", body)[0] == 200
        publish(3)
        eventually(lambda: rest("GET", "/v1/models/toy/versions/2")[1]["model_version_status"][0]["state"] == "END")
        error = "Servable not found for request: Specific(toy, 2)"
        assert rest("POST", "/v1/models/toy/labels/stable:predict", body) == (404, {"error": error})


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/", 404, "Nothing is served at /"),
        ("GET", "/monitoring/prometheus/metrics", 404, "Nothing is served at /monitoring/prometheus/metrics"),
        ("POST", "/v1/models/my%20toy:classify", 501, "classify is not served here; use predict"),
        ("POST", "/v1/models/my%20toy:regress", 501, "regress is not served here; use predict"),
        ("POST", "/v1/models/my%20toy:PREDICT", 400, "Malformed request"),
        ("PUT", "/v1/models/my%20toy", 400, "Malformed request: PUT"),
        ("GET", "/v1/models/%ff", 400, "Failed to decode %ff: invalid start byte"),
        ("GET", "/v1/models/my%20toy/labels/%ff", 400, "Failed to decode %ff"),
    ],
)
def test_what_is_not_served_is_told(labelled, method, path, status, error) -> None:
    code, answer = labelled[1](method, path)
    assert (code, list(answer)) == (status, ["error"])
    assert error in answer["error"]


@pytest.mark.parametrize("value", [IMAGES[:, :3], IMAGES[0]], ids=["size", "rank"])
def test_shapes_are_checked_as_over_grpc(labelled, value) -> None:
    stub, rest, _ = labelled
    status, answer = rest.predict({"inputs": value.tolist()}, "my%20toy")
    with pytest.raises(grpc.RpcError) as refusal:
        stub.predict("my toy", images=value)
    assert (status, answer) == (400, {"error": refusal.value.details()})
    assert "Expects images to have the shape [-1, 4, 4, 3]" in answer["error"]


def test_a_request_that_runs_too_long_times_out(labelled, monkeypatch) -> None:
    monkeypatch.setattr("gradcam_export.server.rest.TIMEOUT_MS", 50)
    status, answer = labelled[1].predict({"signature_name": "slow", "instances": [100_000]}, "my%20toy")
    assert (status, answer) == (504, {"error": "Timed out waiting for notification"})


def test_a_body_over_the_limit_is_refused_and_kept_by_nobody(labelled) -> None:
    _, rest, server = labelled
    rest.predict({"signature_name": "describe", "instances": ["k"]}, "my%20toy")
    before = psutil.Process().memory_info().rss
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    connection.request("POST", "/v1/models/toy:predict", headers={"Content-Length": str(2**31)})
    assert connection.getresponse().status == 413
    connection.close()
    deep = b'{"instances": ' + b"[" * 2**20
    assert rest.predict(deep, "my%20toy")[0] == 400
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


def test_the_ports_are_checked_before_anything_is_loaded(publish, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = EmbeddedServer([ServedModel(name="toy", base_path=tmp_path / "not looked at")], rest_port=port)
        with pytest.raises(ServeError, match=f"Cannot listen on 127.0.0.1:{port}: .*in use"):
            server.start()


def test_no_rest_unless_it_is_asked_for(publish) -> None:
    with EmbeddedServer([ServedModel(name="toy", base_path=publish(1))]) as server:
        assert server.rest_port is None


def test_a_grpc_port_taken_while_the_models_load_gives_the_rest_port_back(publish, monkeypatch) -> None:
    monkeypatch.setattr("gradcam_export.server.embedded._check_port", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        rest_port = free.getsockname()[1]
    with EmbeddedServer([ServedModel(name="toy", base_path=publish(1))]) as first:
        second = EmbeddedServer([ServedModel(name="toy", base_path=publish(2))], port=first.port, rest_port=rest_port)
        with pytest.raises(ServeError, match=f"Cannot listen on 127.0.0.1:{first.port}"):
            second.start()
        socket.create_server(("127.0.0.1", rest_port)).close()


def test_nothing_is_answered_after_the_stop(publish) -> None:
    server = EmbeddedServer([ServedModel(name="toy", base_path=publish(1))], rest_port=0)
    server.start()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.rest_port))
