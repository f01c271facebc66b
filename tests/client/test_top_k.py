"""The best classes of an image, each with its heatmap, from one call."""

import grpc
import numpy as np
import pytest
from colour_server import LABELS, ColourModel, best_first, channel_maps, classify, manifest
from gradcam_client import codec
from gradcam_client.errors import ImageError, IncompatibleModel, InvalidRequest, MalformedAnswer
from gradcam_client.images import fit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def model(classes, **changes):
    """A version that explains so many classes at once; 0 is one of an exporter that could not."""
    explanation = manifest()["explanation"] | {"top_k": classes}
    if not classes:
        del explanation["top_k"]
    return ColourModel(manifest(explanation=explanation, **changes))


def check(found, pixels, classes):
    """Compare with numpy what was answered for `pixels`, [H, W, 3] as the model takes them."""
    predictions = classify(pixels[None])
    expected = best_first(predictions, classes)[0]
    assert [one.class_index for one in found] == expected.tolist()
    assert [one.label for one in found] == [LABELS[index] for index in expected]
    assert [one.score for one in found] == predictions[0][expected].tolist()
    for one in found:
        maps = channel_maps(pixels[None], [one.class_index])[0]
        np.testing.assert_allclose(one.heatmap, maps / (maps.max() or 1), rtol=1e-6)
        assert one.heatmap_peak == pytest.approx(maps.max(), rel=1e-6)
        np.testing.assert_array_equal(one.predictions, predictions[0])
        assert one.method == "gradcam"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    pixels=hnp.arrays(np.uint8, (8, 12, 3), elements=st.sampled_from([0, 1, 127, 255]) | st.integers(0, 255)),
    classes=st.integers(1, 3),
)
def test_the_best_classes_are_those_that_numpy_ranks(client, server, pixels, classes):
    version = max(server.versions) + 1
    server.versions = {version: model(classes)}
    client.describe()
    check(client.top_k(pixels), pixels, classes)


def test_the_first_of_them_is_what_explain_answers(client, server, pictures):
    (first, second), alone = client.top_k(pictures[0]), client.explain(pictures[0])
    np.testing.assert_array_equal(first.heatmap, alone.heatmap)
    assert first.to_json() == alone.to_json()
    assert [(one.label, one.score) for one in (first, second)] == alone.top(2)
    assert first.image == second.image == pictures[0]
    assert (first.colormap, first.alpha) == ("viridis", 0.5)


def test_a_list_comes_back_as_a_list_of_lists_from_one_call_for_eight(client, server, pictures):
    found = client.top_k(pictures)
    assert [len(one) for one in found] == [2] * 10
    for classes, picture in zip(found, pictures, strict=True):
        check(classes, fit(picture, (8, 12, 3)), 2)
        assert {id(one.image) for one in classes} == {id(classes[0].image)}
        assert classes[0].image == picture
    assert server.signatures_asked() == ["describe", "top_k", "top_k"]
    assert [codec.decode(r.inputs["images"]).shape[0] for r in server.requests[1:]] == [8, 2]
    assert set(server.requests[-1].inputs) == {"images"}
    assert [len(one) for one in client.top_k((pictures[0],))] == [2]
    assert client.top_k([]) == []


def test_one_class_is_a_list_of_one(client, server, pictures):
    server.versions = {1: model(1)}
    check(client.top_k(pictures[0]), fit(pictures[0], (8, 12, 3)), 1)


def test_classes_share_the_predictions_of_their_image_which_cannot_be_changed(client, pictures):
    first, second = client.top_k(pictures[0])
    assert first.predictions is second.predictions
    for array in (first.predictions, first.heatmap, second.heatmap):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        assert array.base is None


def test_a_model_without_it_is_named_and_not_asked(client, server, pictures):
    server.versions = {1: model(0)}
    with pytest.raises(IncompatibleModel, match="version 1 does not explain its best classes in one call: build it"):
        client.top_k(pictures[0])
    assert set(server.signatures_asked()) == {"describe"}


def test_a_newer_version_is_followed(client, server, pictures):
    server.versions = {1: model(0)}
    client.describe()
    server.versions = {2: model(3)}
    assert len(client.top_k(pictures[0])) == 3
    # It explains fewer classes, and the answer itself tells so.
    server.versions = {3: model(1)}
    assert [one.model_version for one in client.top_k(pictures[0])] == [3]
    server.versions = {4: model(2, input=manifest()["input"] | {"shape": [16, 24, 3]})}
    assert [one.model_version for one in client.top_k(pictures[0])] == [4, 4]
    lost = model(0)
    lost.signatures = ("serving_default", "describe")
    server.versions = {5: lost}
    with pytest.raises(IncompatibleModel, match="version 5 does not explain its best classes"):
        client.top_k(pictures[0])


def test_a_refusal_is_not_retried_on_the_same_version(client, server, pictures):
    client.describe()
    server.versions[1].description = manifest(input=manifest()["input"] | {"shape": [9, 9, 3]})
    with pytest.raises(InvalidRequest, match=r"INVALID_ARGUMENT: images of shape \(1, 8, 12, 3\)"):
        client.top_k(pictures[0])
    assert server.signatures_asked() == ["describe", "top_k", "describe"]


def test_pictures_and_deadlines_are_checked_as_for_explain(client, server, pictures):
    with pytest.raises(ImageError, match="is not an image"):
        client.top_k([pictures[0], b"no picture"])
    with pytest.raises(ValueError, match="timeout 0: give seconds above 0"):
        client.top_k(pictures[0], timeout=0)
    assert server.requests == []
    server.refuse = (grpc.StatusCode.INVALID_ARGUMENT, "out of luck")
    with pytest.raises(InvalidRequest, match="out of luck"):
        client.top_k(pictures[0])


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "heatmap",
            np.zeros((1, 2, 3), np.float32),
            r"'heatmap' came as float32 of shape \[1, 2, 3\], .* \[1, 2, 2, 3\]",
        ),
        (
            "heatmap",
            np.zeros((1, 3, 2, 3), np.float32),
            r"of shape \[1, 3, 2, 3\], expected kind 'f' of \[1, 2, 2, 3\]",
        ),
        ("heatmap", np.full((1, 2, 2, 3), np.nan, np.float32), "a heatmap came with values outside 0..1"),
        ("heatmap_peak", np.array([[1, -1]], np.float32), "a peak below 0"),
        ("class_index", np.array([0], np.int32), r"'class_index' came as int32 of shape \[1\], .* \[1, 2\]"),
        ("class_index", np.array([[0, 3]], np.int32), r"class indices \[0, 3\] came, the model has 3 classes"),
        (
            "class_index",
            np.array([[1, 1]], np.int32),
            r"best classes of an image came as \[1, 1\]: one of them came twice",
        ),
        ("label", np.array([[b"red"]], object), r"'label' came as object of shape \[1, 1\]"),
        ("score", np.array([[0.5, np.inf]], np.float32), "predictions came that are not finite"),
        ("predictions", np.zeros((1, 2, 3), np.float32), r"'predictions' came as float32 of shape \[1, 2, 3\]"),
    ],
)
def test_an_answer_against_the_contract_is_refused(client, server, pictures, name, array, message):
    def tamper(response):
        if "heatmap" in response.outputs:
            response.outputs[name].CopyFrom(codec.encode(array))
        return response

    server.tamper = tamper
    with pytest.raises(MalformedAnswer, match=message):
        client.top_k(pictures[0])
