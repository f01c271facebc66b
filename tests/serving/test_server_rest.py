"""REST over a socket: each answer and each refusal, on the embedded server and on a real one."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
SUMS = IMAGES.reshape(2, -1).sum(1, dtype=np.float32)


@pytest.fixture
def both(serve_both, connect, connect_rest, publish):
    addresses = serve_both(publish(2), "toy")
    return connect(addresses.grpc), connect_rest(addresses.rest)


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
