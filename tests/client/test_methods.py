"""Other CAM methods of one served model."""

import numpy as np
import pytest
from colour_server import FURTHER, LABELS, ColourModel, channel_maps, classify, manifest
from gradcam_client import codec
from gradcam_client.errors import OptionError, SignatureNotFound, UnknownClass
from gradcam_client.images import fit


def methods(own, *further):
    """A version whose explanations are by `own`, and by each of `further` where asked for."""
    signatures = [name for name, method in FURTHER.items() if method in further]
    explanation = manifest()["explanation"] | {"method": own, "methods": [own, *further]}
    return ColourModel(manifest(explanation=explanation), ("serving_default", "explain", "describe", *signatures))


def expected_map(picture, index, method):
    maps = channel_maps(fit(picture, (8, 12, 3))[None], [index], method)[0]
    return maps / maps.max(), maps.max()


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
@pytest.mark.parametrize("index", [None, 0, 1, 2])
def test_a_method_explains_what_it_alone_computes(client, pictures, method, index):
    found = client.explain(pictures[0], method=method, class_index=index)
    predictions = classify(fit(pictures[0], (8, 12, 3))[None])[0]
    heatmap, peak = expected_map(pictures[0], predictions.argmax() if index is None else index, method)
    np.testing.assert_allclose(found.heatmap, heatmap, rtol=1e-6)
    np.testing.assert_array_equal(found.predictions, predictions)
    assert found.heatmap_peak == pytest.approx(peak, rel=1e-6)
    assert found.method == method


def test_the_models_own_method_needs_no_signature_of_its_own(client, server, pictures):
    assert client.explain(pictures[0]).method == "gradcam"
    client.explain(pictures[0], method="gradcam")
    client.explain(pictures[0], method="gradcam", class_index=1)
    client.explain(pictures[0], method="gradcam++")
    assert server.signatures_asked()[1:] == ["serving_default", "serving_default", "explain", "explain_gradcam_pp"]
    assert codec.decode(server.requests[-1].inputs["class_index"]).tolist() == [-1]


def test_each_image_may_have_its_own_class_under_any_method(client, server, pictures):
    names = [LABELS[i % 3] for i in range(10)]
    found = client.explain(pictures, method="gradcam++", label=names)
    assert [one.label for one in found] == names
    for one, picture in zip(found, pictures, strict=True):
        np.testing.assert_allclose(one.heatmap, expected_map(picture, one.class_index, "gradcam++")[0], rtol=1e-6)
    assert [codec.decode(r.inputs["class_index"]).tolist() for r in server.requests[1:]] == [
        [0, 1, 2, 0, 1, 2, 0, 1],
        [2, 0],
    ]


def test_an_unknown_method_or_class_is_refused_without_asking_for_an_explanation(client, server, pictures):
    with pytest.raises(OptionError, match=r"has no method 'scorecam': it explains by gradcam, gradcam\+\+$"):
        client.explain(pictures[0], method="scorecam")
    with pytest.raises(UnknownClass, match="has no class 'bleu'"):
        client.explain(pictures[0], method="gradcam++", label="bleu")
    assert set(server.signatures_asked()) == {"describe"}


def test_a_method_of_a_newer_version_is_found(client, server, pictures):
    server.versions = {1: methods("gradcam")}
    client.describe()
    server.versions = {2: methods("gradcam", "gradcam++")}
    found = client.explain(pictures[0], method="gradcam++")
    assert (found.method, found.model_version) == ("gradcam++", 2)


def test_a_method_that_a_newer_version_has_lost_is_refused_by_its_manifest(client, server, pictures):
    client.explain(pictures[0], method="gradcam++")
    server.versions = {2: methods("gradcam")}
    with pytest.raises(OptionError, match=r"version 2 has no method 'gradcam\+\+': it explains by gradcam$"):
        client.explain(pictures[0], method="gradcam++")


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_a_version_whose_own_method_is_another_answers_by_the_one_asked_for(client, server, pictures, method):
    client.describe()
    server.versions = {2: methods("gradcam++", "gradcam")}
    found = client.explain(pictures[0], method=method)
    np.testing.assert_allclose(found.heatmap, expected_map(pictures[0], found.class_index, method)[0], rtol=1e-6)
    assert (found.method, found.model_version) == (method, 2)


def test_without_a_method_the_answering_versions_own_is_named(client, server, pictures):
    client.describe()
    server.versions = {2: methods("gradcam++")}
    found = client.explain(pictures[0])
    np.testing.assert_allclose(found.heatmap, expected_map(pictures[0], found.class_index, "gradcam++")[0], rtol=1e-6)
    assert found.method == "gradcam++"


def test_a_signature_that_the_manifest_promises_and_the_model_lacks_is_named(connect, server, pictures):
    server.versions[1].signatures = ("serving_default", "describe")
    with (
        connect(server.target, model="colours") as client,
        pytest.raises(SignatureNotFound, match='"explain_gradcam_pp" not found'),
    ):
        client.explain(pictures[0], method="gradcam++")
