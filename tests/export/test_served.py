"""A version behind a server that is not ready, gone, or says no."""

import contextlib
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.checks import footprint
from gradcam_export.checks.served import ServedVersion
from gradcam_export.errors import VersionError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

STATES = get_model_status_pb2.ModelVersionStatus
INPUTS = {"images": np.zeros((1, 2), np.float32)}


class Server(model_service_pb2_grpc.ModelServiceServicer, prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers each call as it is told."""

    def __init__(self, state=STATES.AVAILABLE, refusing=None, with_code=grpc.StatusCode.INTERNAL) -> None:
        self.state, self.refusing, self.with_code = state, refusing, with_code
        self.asked = []

    def _answer(self, name, request, context, answer):
        self.asked.append(request)
        if name == self.refusing:
            context.abort(self.with_code, "for a reason.\nand more")
        return answer

    def GetModelStatus(self, request, context):  # noqa: N802
        status = STATES(version=3, state=self.state)
        answer = get_model_status_pb2.GetModelStatusResponse(model_version_status=[status])
        return self._answer("status", request, context, answer)

    def GetModelMetadata(self, request, context):  # noqa: N802
        declared = get_model_metadata_pb2.SignatureDefMap()
        declared.signature_def["predict"].method_name = "tensorflow/serving/predict"
        declared.signature_def["__saved_model_init_op"].method_name = "init"
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.metadata["signature_def"].Pack(declared)
        return self._answer("metadata", request, context, answer)

    def Predict(self, request, context):  # noqa: N802
        answer = predict_pb2.PredictResponse()
        answer.outputs["score"].CopyFrom(request.inputs["images"])
        return self._answer("predict", request, context, answer)


@contextlib.contextmanager
def listening(servicer):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_a_served_version_answers_like_one_in_a_session():
    servicer = Server()
    with listening(servicer) as address, ServedVersion(address, "flowers", 3) as version:
        assert list(version.signatures) == ["predict"]
        answer = version.run("predict", INPUTS, ["score"])
    np.testing.assert_array_equal(answer["score"], INPUTS["images"])
    assert {(one.model_spec.name, one.model_spec.version.value) for one in servicer.asked} == {("flowers", 3)}
    assert list(servicer.asked[-1].output_filter) == ["score"]


@pytest.mark.parametrize(
    ("servicer", "message"),
    [
        (Server(STATES.LOADING), "has no model 'flowers' version 3 available: it is not loaded yet, or failed to"),
        (Server(refusing="status"), "serves no model 'flowers' version 3: INTERNAL: for a reason.$"),
        (Server(refusing="metadata"), "does not say what model 'flowers' version 3 takes: INTERNAL: for a reason.$"),
    ],
)
def test_a_server_that_has_it_not_is_named(servicer, message):
    with listening(servicer) as address, pytest.raises(VersionError, match=f"{address} {message}"):
        ServedVersion(address, "flowers", 3)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, tf.errors.InvalidArgumentError),
        (grpc.StatusCode.INTERNAL, tf.errors.InternalError),
        (grpc.StatusCode.UNAVAILABLE, VersionError),
    ],
)
def test_a_refusal_is_the_runtimes_and_a_loss_is_not(code, error):
    servicer = Server(refusing="predict", with_code=code)
    with (
        listening(servicer) as address,
        ServedVersion(address, "flowers") as version,
        pytest.raises(error, match="for a reason"),
    ):
        version.run("predict", INPUTS)


def test_memory_is_told_in_bytes_with_and_without_a_status_file(monkeypatch, tmp_path):
    now = footprint.memory()
    monkeypatch.setattr(footprint, "_STATUS", tmp_path / "status")
    assert 10_000_000 < now < 1.05 * footprint.memory()


def test_size_counts_every_file_and_its_limit_is_held(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/data").write_bytes(bytes(900))
    (tmp_path / "saved_model.pb").write_bytes(bytes(100))
    assert footprint.check_size(tmp_path, None).largest_difference == 1000
    assert footprint.check_size(tmp_path, 1000).passed
    assert not footprint.check_size(tmp_path, 999).passed
