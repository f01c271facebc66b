"""The whole road: a classifier is exported, served, and called over gRPC by the client, on real sockets and files."""

import json
import threading

import numpy as np
import pytest
from cam_reference import Reference, heatmaps
from classifiers import FAMILIES, INPUT_SHAPE, gradcam_in_float64, normalised, photographs
from gradcam_client import Client, ModelNotFound, ServerUnavailable, UnknownClass
from gradcam_client.cli import main as gradcam
from gradcam_export import export_classifier
from lean import LEAN
from PIL import Image

LABELS = ["ant", "bee", "cat", "dog", "eel"]


@pytest.fixture(scope="module")
def model():
    return FAMILIES["nested"].model()


@pytest.fixture(scope="module")
def base_path(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "insects"
    export_classifier(model, base, labels=LABELS, method=("gradcam", "layercam", "scorecam"), top_k=3)
    return base


@pytest.fixture(scope="module")
def target(serve, base_path):
    return serve(base_path, "insects")


def test_answers_over_the_wire_are_the_live_models(target, model):
    images = photographs(5)
    live = np.asarray(model(images.astype(np.float32), training=False))
    with Client(target, model="insects") as client:
        explanations = client.explain(list(images))
        one = client.explain(images[0])
        predictions = client.predict(list(images))
    raw = gradcam_in_float64(FAMILIES["nested"], model, images, live.argmax(axis=-1))
    for row, explanation in enumerate(explanations):
        np.testing.assert_allclose(explanation.predictions, live[row], rtol=0, atol=1e-5)
        np.testing.assert_allclose(explanation.heatmap, normalised(raw)[row], rtol=0, atol=1e-4)
        assert explanation.heatmap_peak == pytest.approx(raw[row].max(), rel=1e-4)
        assert explanation.label == LABELS[live[row].argmax()] == predictions[row].label
        assert explanation.model_version == 1
    np.testing.assert_allclose(one.heatmap, explanations[0].heatmap, rtol=0, atol=1e-5)


def test_a_class_is_asked_for_by_label_or_by_index(target, model):
    image = photographs(1)[0]
    with Client(target, model="insects") as client:
        by_label = client.explain(image, label="dog")
        by_index = client.explain(image, class_index=3)
    raw = gradcam_in_float64(FAMILIES["nested"], model, image[None], np.array([3]))
    np.testing.assert_allclose(by_label.heatmap, normalised(raw)[0], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(by_label.heatmap, by_index.heatmap)
    assert (by_label.label, by_label.class_index) == ("dog", 3)


def test_the_best_classes_come_in_one_call_each_with_its_own_map(target, model):
    images = photographs(2)
    with Client(target, model="insects") as client:
        best = client.top_k(list(images))
    live = np.asarray(model(images.astype(np.float32), training=False))
    for row, explanations in enumerate(best):
        order = np.argsort(-live[row], kind="stable")[:3]
        assert [explanation.class_index for explanation in explanations] == order.tolist()
        assert [explanation.label for explanation in explanations] == [LABELS[index] for index in order]
        raw = gradcam_in_float64(FAMILIES["nested"], model, images[[row] * 3], order)
        for explanation, wanted, index in zip(explanations, normalised(raw), order, strict=True):
            np.testing.assert_allclose(explanation.heatmap, wanted, rtol=0, atol=1e-4)
            assert explanation.score == pytest.approx(live[row, index], abs=1e-5)


@pytest.mark.parametrize("method", ["layercam", "scorecam"])
def test_a_further_method_is_the_papers_formula_over_the_wire(target, model, method):
    images, classes = photographs(2), [2, 4]
    with Client(target, model="insects") as client:
        explanations = client.explain(list(images), label=[LABELS[index] for index in classes], method=method)
    wanted = heatmaps(Reference.of(FAMILIES["nested"], model).maps(method, images.astype(float), classes))
    for explanation, heatmap in zip(explanations, wanted, strict=True):
        np.testing.assert_allclose(explanation.heatmap, heatmap.reshape(16, 20), rtol=0, atol=1e-4)


def test_files_of_any_size_and_mode_are_resized_as_the_manifest_says(target, model, tmp_path):
    picture = Image.fromarray(photographs(1)[0]).resize((333, 200))
    picture.save(tmp_path / "large.png")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    picture.convert("L").resize((1, 1)).save(tmp_path / "pixel.png")
    wanted = np.asarray(picture.resize((INPUT_SHAPE[1], INPUT_SHAPE[0]), Image.Resampling.BILINEAR), np.float32)
    with Client(target, model="insects") as client:
        explanation = client.explain(tmp_path / "large.png")
        others = client.explain([tmp_path / "cmyk.jpg", tmp_path / "pixel.png"])
    np.testing.assert_allclose(explanation.predictions, np.asarray(model(wanted[None]))[0], rtol=0, atol=1e-5)
    assert explanation.overlay().size == (333, 200)
    assert [other.overlay().size for other in others] == [(333, 200), (1, 1)]


def test_many_callers_at_once_get_their_own_rows(target, model):
    images = photographs(24)
    live = np.asarray(model(images.astype(np.float32), training=False))
    right: dict[int, bool] = {}
    with Client(target, model="insects") as client:
        client.describe()

        def call(row: int) -> None:
            answers = np.array([client.explain(images[row]).predictions for _ in range(5)])
            right[row] = np.allclose(answers, live[row], rtol=0, atol=1e-5)

        threads = [threading.Thread(target=call, args=(row,)) for row in range(len(images))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == dict.fromkeys(range(len(images)), True)


def test_what_the_server_refuses_is_a_typed_error(target, connect):
    import grpc

    stub = connect(target)
    with pytest.raises(grpc.RpcError) as refusal:
        stub.predict("insects", "explain", images=photographs(1), class_index=np.array([5], np.int32))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "class_index must be 0..4, or -1 for the predicted class" in refusal.value.details()
    with Client(target, model="insects") as client, pytest.raises(UnknownClass, match=r"no class 5: give 0\.\.4"):
        client.explain(photographs(1)[0], class_index=5)
    with Client(target, model="nobody") as client, pytest.raises(ModelNotFound, match="nobody"):
        client.explain(photographs(1)[0])


def test_a_server_that_is_down_is_one_clear_error():
    with Client("127.0.0.1:9", model="insects") as client, pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:9"):
        client.explain(photographs(1)[0])


def test_metadata_tells_the_contract(target, connect):
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "insects"
    answer = connect(target).prediction.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    images = signatures.signature_def["serving_default"].inputs["images"]
    assert [dim.size for dim in images.tensor_shape.dim] == [-1, *INPUT_SHAPE]


def test_the_command_line_writes_overlays_report_and_json(target, tmp_path, capsys):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for row in range(3):
        Image.fromarray(photographs(3)[row]).save(scenes / f"{row}.png")
    (scenes / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    out, report = tmp_path / "out", tmp_path / "report.html"
    arguments = ["--server", target, "--model", "insects"]
    code = gradcam(["explain", str(scenes), *arguments, "--out", str(out), "--report", str(report), "--json"])
    captured = capsys.readouterr()
    answers = [json.loads(line) for line in captured.out.splitlines()]
    assert code == 1
    assert captured.err.count("broken.png") == 1
    assert [answer["label"] in LABELS for answer in answers] == [True] * 3
    assert sorted(path.name for path in out.glob("*.png")) == sorted(
        f"{row}_{kind}.png" for row in range(3) for kind in ("heatmap", "overlay")
    )
    assert "insects" in report.read_text()
    assert gradcam(["status", *arguments]) == 0
    assert "AVAILABLE" in capsys.readouterr().out
    assert gradcam(["describe", *arguments]) == 0
    assert "base/features" in capsys.readouterr().out


def test_a_new_version_is_taken_up_without_an_error(serve, model, tmp_path):
    base = tmp_path / "m"
    export_classifier(model, base, labels=LABELS, **LEAN)
    target = serve(base, "m")
    with Client(target, model="m") as client:
        assert client.explain(photographs(1)[0]).model_version == 1
        export_classifier(model, base, labels=[label.upper() for label in LABELS], **LEAN)
        for _ in range(600):
            explanation = client.explain(photographs(1)[0])
            if explanation.model_version == 2:
                break
            threading.Event().wait(0.1)
        assert explanation.model_version == 2
        assert explanation.label.isupper()
        assert client.explain(photographs(1)[0], label="DOG").class_index == 3
