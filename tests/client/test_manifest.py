import json

import pytest
from colour_server import manifest
from gradcam_client import Manifest, ModelInput
from gradcam_client.errors import IncompatibleModel, MalformedAnswer, OptionError, UnknownClass


def parse(**changes):
    return Manifest.parse(json.dumps(manifest(**changes)).encode(), version=4)


def test_what_the_exporter_wrote_is_read():
    read = parse()
    assert (read.version, read.name, read.input_shape, read.grid) == (4, "colours", (8, 12, 3), (2, 3))
    assert (read.labels, read.method, read.layer) == (("red", "green", "blue"), "gradcam", "body/last")
    assert (read.colormap, read.alpha, read.max_batch_size) == ("viridis", 0.5, None)
    assert (read.methods, read.top_k) == (("gradcam", "gradcam++"), 2)
    assert read.inputs == (ModelInput(name="images", dtype="uint8", shape=(8, 12, 3)),)
    assert read.picture_shape() == (8, 12, 3)
    assert read.raw == manifest()


def test_a_manifest_of_the_first_exporter_is_read():
    first = manifest()
    del first["input"]["name"], first["input"]["dtype"], first["more_inputs"]
    del first["explanation"]["top_k"], first["explanation"]["methods"]
    read = Manifest.parse(json.dumps(first).encode(), version=4)
    assert read.picture_shape() == (8, 12, 3)
    assert (read.methods, read.top_k) == (("gradcam",), 0)


def test_keys_of_a_later_exporter_are_left_alone():
    assert parse(novelty={"any": 1}).raw["novelty"] == {"any": 1}


def test_a_newer_contract_is_refused_before_anything_else_of_it_is_read():
    with pytest.raises(IncompatibleModel, match="contract 2, this client knows up to 1: upgrade gradcam-client"):
        Manifest.parse(b'{"schema": 2}', version=1)


def test_an_unknown_resize_policy_is_refused():
    with pytest.raises(IncompatibleModel, match="resized by 'lanczos', this client knows bilinear: upgrade"):
        parse(input=manifest()["input"] | {"resize": "lanczos"})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{}",
        b'{"schema": "1"}',
        b'{"schema": 0}',
        json.dumps(manifest(labels=None)).encode(),
        json.dumps(manifest(input=[8, 12, 3])).encode(),
        json.dumps(manifest(input={"shape": [8, 12, 3]})).encode(),
        json.dumps(manifest(input={"shape": 8, "resize": "bilinear"})).encode(),
        json.dumps(manifest(more_inputs=[{"name": "age"}])).encode(),
        json.dumps(manifest(more_inputs=None)).encode(),
        json.dumps(manifest(explanation=manifest()["explanation"] | {"top_k": 0})).encode(),
        json.dumps(manifest(explanation=manifest()["explanation"] | {"grid": [2, 1.5]})).encode(),
        json.dumps(manifest(input={"shape": [8, 0, 3], "resize": "bilinear"})).encode(),
        json.dumps(manifest(batching={"max_batch_size": 0})).encode(),
        json.dumps(manifest(batching={"max_batch_size": "8"})).encode(),
        json.dumps(manifest(overlay={"colormap": "jet", "alpha": "strong"})).encode(),
    ],
)
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(MalformedAnswer, match="the server's manifest cannot be read: "):
        Manifest.parse(text, version=1)


def test_a_class_is_found_by_its_label():
    assert parse().class_index("green") == 1


def test_an_unknown_label_names_those_that_come_close():
    with pytest.raises(UnknownClass, match=r"'colours' version 4 has no class 'Gren': did you mean 'green'"):
        parse().class_index("Gren")
    with pytest.raises(UnknownClass, match=r"no class 'tulip': its 3 classes are 'red', 'green', 'blue'$"):
        parse().class_index("tulip")
    with pytest.raises(UnknownClass, match=r"its 12 classes are 'c0', .* 'c9', …$"):
        parse(labels=[f"c{i}" for i in range(12)]).class_index("tulip")


def test_a_label_that_several_classes_share_is_refused():
    with pytest.raises(UnknownClass, match="several classes 'crane': give the index of one"):
        parse(labels=["crane", "crane"]).class_index("crane")


@pytest.mark.parametrize("index", [-2, 3, 10**9])
def test_an_index_without_a_class_is_refused(index):
    with pytest.raises(UnknownClass, match=f"has no class {index}: give 0..2, or -1 for the predicted"):
        parse().check_class_index(index)


@pytest.mark.parametrize(
    ("method", "signature"),
    [(None, "explain"), ("gradcam", "explain"), ("gradcam++", "explain_gradcam_pp")],
)
def test_a_method_has_a_signature(method, signature):
    assert parse().explain_signature(method) == signature


@pytest.mark.parametrize("method", ["scorecam", "GradCAM", "", "explain"])
def test_an_unknown_method_names_those_that_there_are(method):
    with pytest.raises(OptionError, match=rf"version 4 has no method '{method}': it explains by gradcam, gradcam\+\+$"):
        parse().explain_signature(method)


WAVE = {"name": "inputs", "dtype": "float32", "shape": [1000, 12]}
PICTURE = manifest()["input"]


@pytest.mark.parametrize(
    ("changes", "takes"),
    [
        ({"input": WAVE}, r"takes 'inputs' float32 \[B, 1000, 12\] and explains it on a grid \[2, 3\]"),
        ({"input": PICTURE | {"dtype": "float32"}}, r"takes 'images' float32 \[B, 8, 12, 3\] and explains"),
        ({"input": PICTURE | {"shape": [8, 12]}}, r"takes 'images' uint8 \[B, 8, 12\] and explains"),
        (
            {"more_inputs": [{"name": "age", "dtype": "float32", "shape": []}]},
            r"takes 'images' uint8 \[B, 8, 12, 3\] and 'age' float32 \[B\] and explains",
        ),
        ({"explanation": manifest()["explanation"] | {"grid": [7]}}, r"explains it on a grid \[7\]"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_the_model_takes(changes, takes):
    with pytest.raises(IncompatibleModel, match=rf"{takes}.*; call the model with tensorflow-serving-api$"):
        parse(**changes).picture_shape()
