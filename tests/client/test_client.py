import dataclasses
import threading

import numpy as np
import pytest
from colour_server import LABELS, ColourModel, channel_maps, classify, manifest
from gradcam_client import codec
from gradcam_client.errors import (
    IncompatibleModel,
    OptionError,
    UnknownClass,
)
from gradcam_client.images import fit, read
from gradcam_client.overlay import blend
from PIL import Image


def expected_map(picture, index):
    maps = channel_maps(fit(picture, (8, 12, 3))[None], [index])[0]
    return maps / maps.max(), maps.max()


def test_an_explanation_is_what_numpy_computes(client, pictures):
    explanation = client.explain(pictures[0])
    predictions = classify(fit(pictures[0], (8, 12, 3))[None])[0]
    index = int(predictions.argmax())
    heatmap, peak = expected_map(pictures[0], index)
    np.testing.assert_array_equal(explanation.predictions, predictions, strict=True)
    np.testing.assert_allclose(explanation.heatmap, heatmap, rtol=1e-6)
    assert (explanation.class_index, explanation.label) == (index, LABELS[index])
    assert explanation.score == pytest.approx(float(predictions[index]), abs=0)
    assert explanation.heatmap_peak == pytest.approx(peak, rel=1e-6)
    assert explanation.model_version == 1
    assert explanation.image == pictures[0]


def test_path_bytes_and_array_are_explained_alike(client, pictures, tmp_path):
    file = tmp_path / "picture.png"
    pictures[0].save(file)
    expected = client.explain(pictures[0])
    for source in (file, str(file), file.read_bytes(), np.asarray(pictures[0])):
        found = client.explain(source)
        np.testing.assert_array_equal(found.heatmap, expected.heatmap)
        assert found.image == expected.image


def test_a_list_comes_back_as_a_list_in_its_order(client, server, pictures):
    found = client.explain(pictures)
    alone = [client.explain(picture) for picture in pictures]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one.heatmap, other.heatmap)
        np.testing.assert_array_equal(one.predictions, other.predictions)
        assert one.image == other.image
    assert isinstance(client.explain(tuple(pictures[:1])), list)
    assert client.explain([]) == []


def test_a_list_is_sent_in_calls_that_the_server_takes(client, server, pictures):
    assert len(client.explain(pictures)) == 10
    assert [codec.decode(r.inputs["images"]).shape[0] for r in server.requests[1:]] == [8, 2]
    server.versions = {2: ColourModel(manifest(batching={"max_batch_size": 4}))}
    server.requests.clear()
    client.describe()
    assert len(client.predict(pictures)) == 10
    assert [codec.decode(r.inputs["images"]).shape[0] for r in server.requests[1:]] == [4, 4, 2]


def test_the_class_is_chosen_by_index_or_label(client, pictures):
    blue, _ = expected_map(pictures[0], 2)
    for choice in ({"class_index": 2}, {"class_index": np.int64(2)}, {"label": "blue"}):
        found = client.explain(pictures[0], **choice)
        assert (found.label, found.class_index) == ("blue", 2)
        np.testing.assert_allclose(found.heatmap, blue, rtol=1e-6)
    assert client.explain(pictures[0], class_index=-1).class_index == client.explain(pictures[0]).class_index


def test_each_image_of_a_list_may_have_its_own_class(client, pictures):
    indices = [i % 3 for i in range(10)]
    assert [one.class_index for one in client.explain(pictures, class_index=indices)] == indices
    names = [LABELS[i] for i in indices]
    assert [one.label for one in client.explain(pictures, label=names)] == names
    assert {one.label for one in client.explain(pictures, label="red")} == {"red"}


def test_wrong_classes_are_refused_without_asking_for_an_explanation(client, server, pictures):
    with pytest.raises(UnknownClass, match="no class 'bleu': did you mean 'blue'"):
        client.explain(pictures[0], label="bleu")
    with pytest.raises(UnknownClass, match=r"no class 3: give 0\.\.2"):
        client.explain(pictures[0], class_index=3)
    with pytest.raises(OptionError, match="class index 1 and label 'red' were both given"):
        client.explain(pictures[0], class_index=1, label="red")
    for wrong in (1.5, [1.5, 1], np.array([0.0, 1.0]), [[1], [2]]):
        with pytest.raises(OptionError, match=r"class .* was asked for: give a class index, an integer, or a label"):
            client.explain(pictures[:2], class_index=wrong)
    with pytest.raises(OptionError, match="2 classes for 10 images: give one for all, or one for each"):
        client.explain(pictures, class_index=[1, 2])
    assert set(server.signatures_asked()) == {"describe"}


def test_predict_asks_for_no_heatmap(client, server, pictures):
    prediction = client.predict(pictures[0])
    np.testing.assert_array_equal(prediction.predictions, classify(fit(pictures[0], (8, 12, 3))[None])[0])
    assert server.signatures_asked() == ["describe", "predict"]
    assert not set(server.requests[-1].output_filter) & {"heatmap", "heatmap_peak"}
    assert len(client.predict(pictures)) == 10


def test_the_manifest_is_read_once_for_each_version(client, server, pictures):
    for _ in range(3):
        client.explain(pictures[0])
    assert server.signatures_asked().count("describe") == 1
    server.versions[2] = ColourModel()
    assert client.explain(pictures[0]).model_version == 2
    assert client.explain(pictures[0]).model_version == 2
    assert server.signatures_asked().count("describe") == 2


def test_a_pinned_version_is_asked_for_in_every_call(connect, server, pictures):
    server.versions[2] = ColourModel()
    with connect(server.target, model="colours", version=1) as client:
        assert client.explain(pictures[0]).model_version == 1
        assert client.describe().version == 1
    assert {request.model_spec.version.value for request in server.requests} == {1}


def test_a_version_that_wants_another_input_is_followed(client, server, pictures):
    client.explain(pictures[0])
    larger = manifest()["input"] | {"shape": [16, 24, 3]}
    server.versions = {2: ColourModel(manifest(input=larger))}
    found = client.explain(pictures[0])
    assert found.model_version == 2
    np.testing.assert_array_equal(found.predictions, classify(fit(pictures[0], (16, 24, 3))[None, :8, :12])[0])


def test_a_version_with_other_labels_is_asked_for_the_label_not_the_index(client, server, pictures):
    assert client.explain(pictures[0], label="red").class_index == 0
    server.versions = {2: ColourModel(manifest(labels=["blue", "green", "red"]))}
    assert client.explain(pictures[0], label="red").class_index == 2
    server.versions = {3: ColourModel(manifest(labels=["blue", "green", "scarlet"]))}
    assert client.explain(pictures[0], label="scarlet").class_index == 2


def test_versions_that_never_agree_are_refused(connect, server, pictures):
    versions = iter(range(10, 99))
    for number in range(1, 99):
        server.versions[number] = ColourModel(manifest(labels=[f"{number}a", f"{number}b", f"{number}c"]))

    def rename(response):
        response.model_spec.version.value = next(versions) if "heatmap" in response.outputs else 1
        return response

    server.tamper = rename
    with connect(server.target, model="colours") as client, pytest.raises(IncompatibleModel, match="another version 3"):
        client.explain(pictures[0])


def test_describe_and_status(client, server):
    assert client.describe().raw == manifest()
    server.versions[7] = ColourModel()
    status = client.status()
    assert [(one.version, one.state) for one in status] == [(7, "AVAILABLE"), (1, "AVAILABLE"), (0, "END")]
    assert status[-1].error == "no pb file"


def test_the_overlay_has_the_pictures_own_size_and_the_models_defaults(client, pictures, tmp_path):
    found = client.explain(pictures[3])
    assert found.overlay() == blend(pictures[3], found.heatmap, colormap="viridis", alpha=0.5)
    assert found.overlay(colormap="jet", alpha=0.4) == blend(pictures[3], found.heatmap, colormap="jet", alpha=0.4)
    found.save(tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as saved:
        assert saved.convert("RGB") == found.overlay()
    assert found.image == pictures[3]


def test_answers_cannot_be_changed(client, pictures):
    found = client.explain(pictures[0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.label = "rose"
    for array in (found.heatmap, found.predictions):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_black_picture_has_an_empty_map_and_its_overlay_is_the_picture(client):
    black = Image.new("RGB", (20, 10))
    found = client.explain(black)
    assert not found.heatmap.any()
    assert found.heatmap_peak == 0
    assert found.overlay() == black


def test_one_sigmoid_decides_between_two_classes(client, server, pictures):
    server.versions[1].description = manifest(labels=["cat", "dog"])

    def one_unit(response):
        if "predictions" in response.outputs:
            response.outputs["predictions"].CopyFrom(codec.encode(np.array([[0.75]], np.float32)))
            response.outputs["class_index"].CopyFrom(codec.encode(np.array([1], np.int32)))
        return response

    server.tamper = one_unit
    assert client.explain(pictures[0], class_index=1).top() == [("dog", 0.75), ("cat", 0.25)]


def test_answers_above_grpcs_own_limit_arrive(connect, server, pictures):
    grid = (700, 700)
    server.versions[1].description = manifest(explanation=manifest()["explanation"] | {"grid": list(grid)})

    def enlarge(response):
        if "heatmap" in response.outputs:
            count = codec.decode(response.outputs["class_index"]).shape[0]
            response.outputs["heatmap"].CopyFrom(codec.encode(np.full((count, *grid), 0.5, np.float32)))
        return response

    server.tamper = enlarge
    with connect(server.target, model="colours") as client:
        assert client.explain(pictures[:4])[3].heatmap.shape == grid


def test_many_threads_share_a_client(client, pictures):
    expected = [one.score for one in client.predict(pictures)]
    found = [[] for _ in range(4)]

    def work(mine):
        for picture in pictures:
            mine.append(client.explain(picture, class_index=-1).score)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_what_is_read_is_not_the_callers_image(client, pictures):
    found = client.explain(pictures[0])
    assert found.image is not pictures[0]
    assert read(pictures[0]) == pictures[0]
