"""Our client asks a server made of `tensorflow-serving-api` alone; callers without our client ask our models.

What such callers run is in the README as well.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from classifiers import FAMILIES, photographs
from colour_server import BLOCK, FURTHER, LABELS, TOP_K, ColourModel, H, W, manifest
from gradcam_client import Client, ModelNotFound, SignatureNotFound, VersionStatus
from gradcam_export import export_classifier
from PIL import Image
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

SIGNATURES = ("serving_default", "explain", *FURTHER, "top_k", "predict", "describe")
INSECTS = ["ant", "bee", "cat", "dog", "eel"]


def as_content(array: np.ndarray) -> tf.compat.v1.TensorProto:
    return tf.make_tensor_proto(array)


def as_values(array: np.ndarray) -> tf.compat.v1.TensorProto:
    """Each value in a field of its type."""
    proto = tf.make_tensor_proto(array)
    fields = {tf.float32.as_datatype_enum: "float_val", tf.int32.as_datatype_enum: "int_val"}
    if proto.dtype in fields:
        proto.tensor_content = b""
        getattr(proto, fields[proto.dtype])[:] = array.ravel().tolist()
    return proto


def as_repetition(array: np.ndarray) -> tf.compat.v1.TensorProto:
    """The last value, where it is repeated, once: what TensorFlow's own compression makes."""
    proto = as_values(array)
    for field in (proto.float_val, proto.int_val, proto.string_val):
        while len(field) > 1 and field[-1] == field[-2]:
            field.pop()
    return proto


class ForeignServer(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Serves what numpy computes as `colours`, version 7, in messages of `tensorflow-serving-api` and TensorFlow."""

    def __init__(self, write) -> None:
        self.write = write
        self.model = ColourModel(manifest(), SIGNATURES)
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def Predict(self, request, context):  # noqa: N802 - gRPC's name
        if request.model_spec.name != "colours":
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request.model_spec.name}")
        signature = request.model_spec.signature_name
        if signature not in self.model.signatures:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        outputs = self.model.run(signature, {name: tf.make_ndarray(one) for name, one in request.inputs.items()})
        response = predict_pb2.PredictResponse()
        for name in request.output_filter or outputs:
            response.outputs[name].CopyFrom(self.write(outputs[name]))
        response.model_spec.name = "colours"
        response.model_spec.version.value = 7
        response.model_spec.signature_name = signature
        return response

    def GetModelStatus(self, request, context):  # noqa: N802
        del request, context
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=7, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        return response


@pytest.fixture(params=[as_content, as_values, as_repetition], ids=lambda write: write.__name__)
def foreign(request):
    server = ForeignServer(request.param)
    yield server
    server.stop()


@pytest.fixture
def flags():
    """Pictures of the model's own size, `[B, H, W, 3]` uint8, not resized; some maps end in equal values."""
    pictures = np.zeros((11, H, W, 3), np.uint8)
    for number, picture in enumerate(pictures):
        picture[:, : 1 + number, number % 3] = 250 - 20 * number
    return pictures


def test_the_client_reads_a_server_made_of_tensorflow_serving_api(foreign, flags):
    with Client(foreign.target, model="colours") as client:
        explained = client.explain(list(flags))
        greens = client.explain(list(flags), label="green", method="gradcam++")
        ranked = client.top_k(list(flags))
        predicted = client.predict(list(flags))
    model = ColourModel()
    expected = model.run("serving_default", {"images": flags})
    green = model.run("explain_gradcam_pp", {"images": flags, "class_index": np.ones(len(flags), np.int32)})
    best = model.run("top_k", {"images": flags})
    for row in range(len(flags)):
        np.testing.assert_array_equal(explained[row].predictions, expected["predictions"][row])
        np.testing.assert_array_equal(explained[row].heatmap, expected["heatmap"][row])
        np.testing.assert_array_equal(greens[row].heatmap, green["heatmap"][row])
        assert explained[row].heatmap_peak == expected["heatmap_peak"][row]
        assert explained[row].score == predicted[row].score == expected["score"][row]
        assert explained[row].label == predicted[row].label == LABELS[expected["class_index"][row]]
        assert (greens[row].label, greens[row].method, greens[row].model_version) == ("green", "gradcam++", 7)
        assert [one.class_index for one in ranked[row]] == best["class_index"][row].tolist()
        np.testing.assert_array_equal([one.heatmap for one in ranked[row]], best["heatmap"][row])
        assert len(ranked[row]) == TOP_K
    assert explained[0].heatmap.shape == (H // BLOCK, W // BLOCK)


def test_the_client_reads_its_status_and_refusals(foreign, flags):
    with Client(foreign.target, model="colours") as client:
        assert client.describe().version == 7
        assert client.status() == (VersionStatus(version=7, state="AVAILABLE"),)
        foreign.model.signatures = ("describe",)
        with pytest.raises(SignatureNotFound, match='Serving signature key "serving_default" not found'):
            client.explain(flags[0])
    with (
        Client(foreign.target, model="shapes") as client,
        pytest.raises(ModelNotFound, match="Servable not found for request: shapes"),
    ):
        client.explain(flags[0])


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "insects"
    model = FAMILIES["nested"].model()
    export_classifier(model, base, labels=INSECTS, method=("gradcam", "layercam"), top_k=3, batching="none")
    return base


@pytest.fixture(scope="module")
def addresses(serve_both, base_path):
    return serve_both(base_path, "insects")


def call(target: str, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The raw call: no code of ours, no name but those of the contract."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "insects"
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    with grpc.insecure_channel(target) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}


def assert_same(answer: dict[str, np.ndarray], row: int, explanation) -> None:
    np.testing.assert_allclose(answer["heatmap"][row], explanation.heatmap, rtol=0, atol=1e-5)
    np.testing.assert_allclose(answer["predictions"][row], explanation.predictions, rtol=0, atol=1e-6)
    assert answer["class_index"][row] == explanation.class_index
    assert answer["label"][row].decode() == explanation.label
    assert answer["score"][row] == pytest.approx(explanation.score, abs=1e-6)
    assert answer["heatmap_peak"][row] == pytest.approx(explanation.heatmap_peak, rel=1e-4)


def test_a_call_of_tensorflow_serving_api_is_answered_as_our_clients(addresses):
    images = photographs(3)
    classes = np.array([4, -1, 2], np.int32)
    with Client(addresses.grpc, model="insects") as client:
        by_default = client.explain(list(images))
        by_class = client.explain(list(images), class_index=classes.tolist())
        by_layercam = client.explain(list(images), class_index=classes.tolist(), method="layercam")
        ranked = client.top_k(list(images))
        predicted = client.predict(list(images))
        described = client.describe()
    default = call(addresses.grpc, "serving_default", images=images)
    chosen = call(addresses.grpc, "explain", images=images, class_index=classes)
    layercam = call(addresses.grpc, "explain_layercam", images=images, class_index=classes)
    best = call(addresses.grpc, "top_k", images=images)
    plain = call(addresses.grpc, "predict", images=images)
    for row in range(3):
        assert_same(default, row, by_default[row])
        assert_same(chosen, row, by_class[row])
        assert_same(layercam, row, by_layercam[row])
        for rank, explanation in enumerate(ranked[row]):
            columns = {name: best[name][:, rank] for name in best if name != "predictions"}
            assert_same(columns | {"predictions": best["predictions"]}, row, explanation)
        np.testing.assert_allclose(plain["predictions"][row], predicted[row].predictions, rtol=0, atol=1e-6)
    (text,) = call(addresses.grpc, "describe", key=np.array([b"manifest"]))["value"]
    assert tuple(json.loads(text)["labels"]) == described.labels == tuple(INSECTS)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_curl_is_answered_as_our_client(addresses, tmp_path):
    """A file as it is, over REST: the graph decodes and resizes it as the client does."""
    path = tmp_path / "photograph.png"
    Image.fromarray(photographs(1)[0]).save(path)
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    body = {"signature_name": "explain_bytes", "inputs": {"image_bytes": [{"b64": encoded}], "class_index": [3]}}
    (tmp_path / "body.json").write_text(json.dumps(body))
    url = f"http://{addresses.rest}/v1/models/insects:predict"
    command = ["curl", "--silent", "--show-error", "--fail", "--data", f"@{tmp_path / 'body.json'}", url]
    outputs = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["outputs"]
    with Client(addresses.grpc, model="insects") as client:
        explanation = client.explain(path, class_index=3)
    answer = {name: np.array(values) for name, values in outputs.items()}
    answer["label"] = np.array([label.encode() for label in outputs["label"]], object)
    assert_same(answer, 0, explanation)
