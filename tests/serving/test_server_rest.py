"""REST over a socket: each answer and each refusal, on the embedded server and on a real one."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from gradcam_export.errors import ServeError
from gradcam_export.server import EmbeddedServer, ServedModel
from gradcam_export.server.models import every
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
SUMS = IMAGES.reshape(2, -1).sum(1, dtype=np.float32)


class Forms(tf.Module):
    """A signature for every form that inputs and outputs take in JSON."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, 2], tf.int32, "number"), tf.TensorSpec([None], tf.string, "text")]
    )
    def two(self, number, text):
        joined = tf.strings.join([text, tf.as_string(tf.reduce_sum(number, 1))])
        return {"number": number, "text": text, "joined_bytes": joined}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def logarithm(self, x):
        return {"y": tf.math.log(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def total(self, x):
        return {"x": x, "total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "x")])
    def raw(self, x):
        return {"y": x}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
    def scalar(self, x):
        return {"y": x * 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, "x")])
    def half(self, x):
        return {"y": x}

    @tf.function(input_signature=[])
    def nothing(self):
        return {"y": tf.constant([1.0])}


@pytest.fixture(scope="module")
def forms_version(tmp_path_factory):
    forms = Forms()
    path = tmp_path_factory.mktemp("forms") / "forms"
    names = ("two", "logarithm", "total", "raw", "scalar", "half", "nothing")
    tf.saved_model.save(forms, str(path / "1"), {name: getattr(forms, name) for name in names})
    return path


@pytest.fixture
def both(serve_both, connect, connect_rest, publish):
    addresses = serve_both(publish(2), "toy")
    return connect(addresses.grpc), connect_rest(addresses.rest)


@pytest.fixture
def forms(serve_both, connect_rest, forms_version):
    rest = connect_rest(serve_both(forms_version, "forms").rest)

    def predict(signature: str, **values):
        return rest.predict({"signature_name": signature, **values}, "forms")

    return predict


def test_rows_and_columns_give_grpc_s_values(both) -> None:
    stub, rest = both
    outputs = {name: tf.make_ndarray(proto) for name, proto in stub.predict(images=IMAGES).outputs.items()}
    np.testing.assert_array_equal(outputs["sums"], SUMS + 2)
    expected = {name: [x.decode() if isinstance(x, bytes) else x for x in outputs[name].tolist()] for name in outputs}
    status, answer = rest.predict({"inputs": {"images": IMAGES.tolist()}})
    assert (status, list(answer)) == (200, ["outputs"])
    assert {name: np.float32(values).tolist() for name, values in answer["outputs"].items()} == {
        name: np.float32(values).tolist() for name, values in expected.items()
    }
    for instances in (IMAGES.tolist(), [{"images": image} for image in IMAGES.tolist()]):
        status, rows = rest.predict({"instances": instances})
        assert (status, list(rows)) == (200, ["predictions"])
        columns = {name: [row[name] for row in rows["predictions"]] for name in expected}
        assert columns == answer["outputs"]
    assert rest.predict({"inputs": IMAGES.tolist()}) == (200, answer)


def test_every_input_is_named_where_there_are_several(forms) -> None:
    rows = [
        {"number": [1, 2], "text": "a"},
        {"number": [3, 4], "text": {"b64": base64.b64encode(b"b\xc3\xa9").decode()}},
    ]
    joined = [{"b64": base64.b64encode(value).decode()} for value in (b"a3", b"b\xc3\xa97")]
    columns = {"number": [[1, 2], [3, 4]], "text": ["a", "bé"], "joined_bytes": joined}
    assert forms("two", inputs={"number": columns["number"], "text": ["a", "bé"]}) == (200, {"outputs": columns})
    predictions = [{name: values[row] for name, values in columns.items()} for row in range(2)]
    assert forms("two", instances=rows) == (200, {"predictions": predictions})


def test_a_single_input_and_output_need_no_names(forms) -> None:
    assert forms("raw", instances=["a", {"b64": "Yg=="}]) == (200, {"predictions": ["a", "b"]})
    assert forms("raw", inputs=["a", {"b64": "Yg=="}]) == (200, {"outputs": ["a", "b"]})
    assert forms("scalar", inputs=3) == (200, {"outputs": 6.0})
    assert forms("total", inputs=[1, 2.5]) == (200, {"outputs": {"x": [1.0, 2.5], "total": 3.5}})


def test_what_is_not_a_number_goes_in_and_comes_out(forms) -> None:
    status, answer = forms("logarithm", instances=[-1.0, 0.0, float("inf"), float("nan"), 1])
    assert status == 200
    np.testing.assert_array_equal(answer["predictions"], [np.nan, -np.inf, np.inf, np.nan, 0])


def test_keys_that_mean_nothing_are_passed_over(forms) -> None:
    assert forms("raw", instances=["a"], output_filter=["z"])[1] == {"predictions": ["a"]}


@pytest.mark.parametrize(
    ("signature", "values", "error"),
    [
        ("none", {"instances": [1]}, 'Serving signature name: "none" not found in signature def'),
        ("", {"instances": [1]}, 'Serving signature name: "serving_default" not found in signature def'),
        (7, {"instances": [1]}, "'signature_name' key must be a string value"),
        ("nothing", {"inputs": []}, "Failed to get input map for signature: nothing"),
        ("raw", {}, "Missing 'inputs' or 'instances' key"),
        ("raw", {"inputs": ["a"], "instances": ["a"]}, "Not formatted correctly expecting only one of"),
        ("raw", {"instances": "a"}, "'instances' to be a"),
        ("raw", {"instances": []}, "No values in 'instances' array"),
        ("raw", {"instances": ["a", {"x": "b"}]}, "Expecting value/list but got object at item 1 of input list"),
        ("raw", {"instances": [{"x": "a"}, "b"]}, "Expecting object but got list at item 1 of input list"),
        ("raw", {"instances": [{"x": "a"}, {"x": "b", "z": 1}]}, "Failed to process element: 1"),
        ("two", {"instances": [{"number": [1, 2]}]}, "keys must be equal to: number,text"),
        ("two", {"instances": [[1, 2]]}, "instances is a plain list, but expecting list of objects"),
        ("two", {"inputs": [[1, 2]]}, "inputs is a plain value/list, but expecting an object"),
        ("two", {"inputs": {"number": [[1, 2]]}}, "Missing named input: text in 'inputs' object."),
        ("logarithm", {"instances": [1, "a"]}, 'JSON Value: "a" Type: String is not of expected type: float'),
        ("two", {"inputs": {"number": [[1, 2], [3]], "text": ["a", "b"]}}, "Encountered list at unexpected size: 1"),
        ("two", {"inputs": {"number": [[1.5, 2]], "text": ["a"]}}, "is not of expected type: int32"),
        ("total", {"instances": [1]}, "Tensor name: total has no shape information"),
        ("raw", {"instances": [{"b64": "%"}]}, "Unable to base64 decode"),
    ],
)
def test_what_does_not_fit_is_a_bad_request(forms, signature, values, error) -> None:
    status, answer = forms(signature, **values)
    assert (status, list(answer)) == (400, ["error"])
    assert error in answer["error"]


@pytest.mark.parametrize(
    ("body", "error"), [(b"", "The document is empty"), (b'{"instances": [1,]}', ""), (b"[]", "Is not object")]
)
def test_a_body_that_is_not_json_is_a_bad_request(both, body, error) -> None:
    status, answer = both[1].predict(body)
    assert status == 400
    assert error in answer["error"]


def test_the_graph_s_words_are_passed_on(both) -> None:
    status, answer = both[1].predict({"signature_name": "checked", "instances": [1, 7]})
    assert status == 400
    assert "not a class" in answer["error"]
    assert len(answer["error"]) <= 1024


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        ("POST", "/v1/models/toy/versions/3:predict", 404, "Servable not found for request: Specific(toy, 3)"),
        ("POST", "/v1/models/toy/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
        ("POST", f"/v1/models/toy/versions/{2**63}:predict", 400, f"Failed to convert version: {2**63} to numeric."),
        ("POST", "/v1/models/toy", 400, "Malformed request: POST /v1/models/toy"),
        ("POST", "/v1/models/toy:explain", 400, "Malformed request: POST /v1/models/toy:explain"),
        ("GET", "/v1/models/toy:predict", 400, "Malformed request: GET /v1/models/toy:predict"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
        ("GET", "/v1/models/toy/versions/9", 404, "Could not find version 9 of model toy"),
        ("GET", "/v1/models/other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("GET", "/v1/models/toy/versions/one", 400, "Malformed request"),
    ],
)
def test_a_wrong_path_is_refused(both, method, path, status, error) -> None:
    body = {"instances": IMAGES.tolist()} if method == "POST" else None
    code, answer = both[1](method, path, body)
    assert (code, list(answer)) == (status, ["error"])
    assert error in answer["error"]


def test_a_version_is_asked_for_by_number_and_case_means_nothing(both) -> None:
    body = {"signature_name": "describe", "instances": ["k"]}
    assert both[1]("POST", "/V1/Models/toy/Versions/2:predict?x=1", body) == (200, {"predictions": ["k=2.000000"]})


def test_the_status_is_grpc_s_in_json(both) -> None:
    version = {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/toy", "/v1/models/toy/versions/2"):
        assert both[1]("GET", path) == (200, {"model_version_status": [version]})


def test_the_metadata_are_the_signatures(both) -> None:
    for path in ("/v1/models/toy/metadata", "/v1/models/toy/versions/2/metadata"):
        status, answer = both[1]("GET", path)
        assert status == 200
        assert answer["model_spec"] == {"name": "toy", "version": "2", "signature_name": ""}
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        assert {"serving_default", "checked", "describe", "number", "slow"} <= set(signatures)
        images = signatures["serving_default"]["inputs"]["images"]
        assert images["dtype"] == "DT_UINT8"
        assert [dim["size"] for dim in images["tensor_shape"]["dim"]] == ["-1", "4", "4", "3"]


def test_sixteen_callers_at_once_get_their_own_answers(both) -> None:
    address = both[1].connection.host, both[1].connection.port

    def call(caller: int) -> None:
        connection = http.client.HTTPConnection(*address, timeout=60)
        for number in range(40):
            image = np.full([1, 4, 4, 3], (caller * 40 + number) % 256, np.uint8)
            good = number % 5
            connection.request(
                "POST", "/v1/models/toy:predict", json.dumps({"inputs": image[:, :, : 4 if good else 3].tolist()})
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == (200 if good else 400)
            if good:
                assert answer["outputs"]["sums"] == [image.sum() + 2.0]
        connection.close()

    with ThreadPoolExecutor(16) as callers:
        list(callers.map(call, range(16)))


# What the embedded server alone promises.


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


def test_a_type_that_json_cannot_carry_is_not_implemented(forms_version, connect_rest) -> None:
    with EmbeddedServer([ServedModel(name="forms", base_path=forms_version)], rest_port=0) as server:
        rest = connect_rest(server.rest_port)
        status, answer = rest.predict({"signature_name": "half", "instances": [1]}, "forms")
        assert (status, answer["error"]) == (501, "Input x has the type half, which JSON cannot carry")
        status, answer = rest.predict({"signature_name": "raw", "instances": [{"b64": "/w=="}]}, "forms")
        assert status == 400
        assert "Output y holds bytes that are no text" in answer["error"]


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
