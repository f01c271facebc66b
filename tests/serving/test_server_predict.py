"""Requests over a socket: each answer and each refusal, on the embedded server and on a real one."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
SUMS = IMAGES.reshape(2, -1).sum(1, dtype=np.float32)


@pytest.fixture
def stub(serve, connect, publish):
    publish(1)
    return connect(serve(publish(2), "toy"))


def refused(code: grpc.StatusCode, match: str):
    """The call ends with `code` and a text that `match` is found in."""
    return pytest.raises(grpc.RpcError, check=lambda error: error.code() is code, match=match)


def test_an_answer_holds_every_output_and_says_who_gave_it(stub) -> None:
    response = stub.predict(images=IMAGES)
    assert set(response.outputs) == {"sums", "mean", "name"}
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["sums"]), SUMS + 2)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["mean"]), SUMS / np.float32(48))
    assert list(response.outputs["name"].string_val) == [str(int(total)).encode() for total in SUMS]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("toy", 2, "serving_default")


def test_outputs_come_in_the_typed_fields_as_from_the_stock_server(stub) -> None:
    sums = stub.predict(images=IMAGES).outputs["sums"]
    assert list(sums.float_val) == list(SUMS + 2)
    assert not sums.tensor_content


def test_a_signature_is_asked_for_by_name(stub) -> None:
    response = stub.predict(signature="describe", key=[b"labels", b"\xff\x00"])
    assert list(response.outputs["value"].string_val) == [b"labels=2.000000", b"\xff\x00=2.000000"]
    assert response.model_spec.signature_name == "describe"


def test_only_the_outputs_that_are_asked_for_are_sent(stub, predict_request) -> None:
    request = predict_request(images=IMAGES)
    request.output_filter[:] = ["mean", "name"]
    assert set(stub.prediction.Predict(request).outputs) == {"mean", "name"}


def test_an_empty_batch_is_answered(stub) -> None:
    assert tf.make_ndarray(stub.predict(images=IMAGES[:0]).outputs["sums"]).shape == (0,)


@pytest.mark.parametrize(
    ("outputs", "match"),
    [
        (
            ["mean", "maen"],
            r"output tensor alias not found in signature: maen Outputs expected to be in the set",
        ),
        (["mean", "mean"], r"duplicate output tensor alias: mean"),
    ],
)
def test_a_wrong_output_filter_is_refused(stub, predict_request, outputs, match) -> None:
    request = predict_request(images=IMAGES)
    request.output_filter[:] = outputs
    with refused(grpc.StatusCode.INVALID_ARGUMENT, match):
        stub.prediction.Predict(request)


def test_an_unknown_signature_is_refused(stub) -> None:
    with refused(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "explain" not found'):
        stub.predict(signature="explain", images=IMAGES)


@pytest.mark.parametrize("names", [[], ["pictures"], ["images", "class_index"]])
def test_missing_and_unknown_inputs_are_refused(stub, names) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "(?i)inputs? "):
        stub.predict(**dict.fromkeys(names, IMAGES))


def test_the_refusal_names_the_inputs(stub, request) -> None:
    if "tensorflow_model_server" in request.node.name:
        pytest.skip("the stock server names them only where the number of inputs differs")
    match = r"2!=1 len\(\{a,b\}\) != len\(\{images\}\). Sent extra: \{a,b\}. Missing but required: \{images\}."
    with refused(grpc.StatusCode.INVALID_ARGUMENT, match):
        stub.predict(a=IMAGES, b=IMAGES)


@pytest.mark.parametrize("value", [IMAGES.astype(np.float32), IMAGES[:, :3], IMAGES[0]], ids=["type", "size", "rank"])
def test_a_value_that_does_not_fit_the_signature_is_refused(stub, value) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "."):
        stub.predict(images=value)


def test_a_tensor_cut_short_is_a_parsing_error(stub) -> None:
    proto = tf.make_tensor_proto(IMAGES)
    proto.tensor_content = proto.tensor_content[:-1]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "tensor parsing error: images"):
        stub.predict(images=proto)


def test_what_the_graph_refuses_comes_with_its_words_cut_short(stub) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "not a class") as refusal:
        stub.predict(signature="checked", class_index=np.int32([1, 7]))
    assert len(refusal.value.details()) <= 1024


def test_what_the_graph_refuses_may_hold_any_bytes(stub) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "StringToNumberOp could not correctly convert string"):
        stub.predict(signature="number", digits=[b"\xff\xfe"])


def test_a_model_that_is_not_there_is_not_found(stub) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, r"Servable not found for request: Latest\(other\)"):
        stub.predict("other", images=IMAGES)


def test_a_version_that_is_not_there_is_not_found(stub, predict_request) -> None:
    request = predict_request(images=IMAGES)
    request.model_spec.version.value = 3
    with refused(grpc.StatusCode.NOT_FOUND, r"Servable not found for request: Specific\(toy, 3\)"):
        stub.prediction.Predict(request)


def test_a_version_is_asked_for_by_number(stub, predict_request) -> None:
    request = predict_request(images=IMAGES)
    request.model_spec.version.value = 2
    assert stub.prediction.Predict(request).model_spec.version.value == 2


def test_a_label_that_nobody_gave_is_refused(stub, predict_request) -> None:
    request = predict_request(images=IMAGES)
    request.model_spec.version_label = "stable"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: stable"):
        stub.prediction.Predict(request)


def test_a_request_must_say_what_model_it_means(stub) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec"):
        stub.prediction.Predict(predict_pb2.PredictRequest())
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified"):
        stub.prediction.Predict(predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(signature_name="x")))


def test_a_deadline_ends_the_run(stub) -> None:
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "(?i)deadline"):
        stub.predict(signature="slow", timeout=0.2, steps=np.int32([3000]))
    np.testing.assert_array_equal(
        tf.make_ndarray(stub.predict(signature="slow", timeout=60, steps=np.int32([1])).outputs["done"]), [1]
    )


def metadata_request(*fields: str, model: str = "toy") -> get_model_metadata_pb2.GetModelMetadataRequest:
    return get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=model_pb2.ModelSpec(name=model), metadata_field=fields
    )


def test_the_metadata_are_the_signatures(stub) -> None:
    response = stub.prediction.GetModelMetadata(metadata_request("signature_def"))
    assert (response.model_spec.name, response.model_spec.version.value) == ("toy", 2)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "checked", "describe", "slow"} <= set(signatures.signature_def)
    images = signatures.signature_def["serving_default"].inputs["images"]
    assert [dim.size for dim in images.tensor_shape.dim] == [-1, 4, 4, 3]
    assert images.dtype == tf.uint8.as_datatype_enum


@pytest.mark.parametrize(
    ("request_", "code", "match"),
    [
        (metadata_request(), grpc.StatusCode.INVALID_ARGUMENT, "must specify at least one metadata_field"),
        (metadata_request("assets"), grpc.StatusCode.INVALID_ARGUMENT, "is not supported"),
        (
            metadata_request("signature_def", model="x"),
            grpc.StatusCode.NOT_FOUND,
            r"Servable not found .*Latest\(x\)",
        ),
        (
            get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Missing ModelSpec",
        ),
    ],
)
def test_a_wrong_metadata_request_is_refused(stub, request_, code, match) -> None:
    with refused(code, match):
        stub.prediction.GetModelMetadata(request_)


def status_request(model: str, version: int | None = None) -> get_model_status_pb2.GetModelStatusRequest:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=model))
    if version is not None:
        request.model_spec.version.value = version
    return request


def test_the_status_lists_the_versions(stub) -> None:
    for request in (status_request("toy"), status_request("toy", 2)):
        (status,) = stub.model.GetModelStatus(request).model_version_status
        assert (status.version, status.state) == (2, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        assert (status.status.error_code, status.status.error_message) == (0, "")


@pytest.mark.parametrize(
    ("request_", "code", "match"),
    [
        (status_request("x"), grpc.StatusCode.NOT_FOUND, "Could not find any versions of model x"),
        (status_request("toy", 9), grpc.StatusCode.NOT_FOUND, "Could not find version 9 of model toy"),
        (get_model_status_pb2.GetModelStatusRequest(), grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec"),
    ],
)
def test_a_wrong_status_request_is_refused(stub, request_, code, match) -> None:
    with refused(code, match):
        stub.model.GetModelStatus(request_)


def test_messages_are_as_large_as_they_are(stub) -> None:
    images = np.ones([200_000, 4, 4, 3], np.uint8)  # 9.6 MB, over the 4 MiB that gRPC allows by default
    assert len(stub.predict(images=images).outputs["sums"].float_val) == 200_000
