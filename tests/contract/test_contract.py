"""The contract that exporter and client meet at: the names, and what a really exported version answers to."""

import json
import types

import gradcam_client.contract
import gradcam_export.contract
import keras
import pytest
import tensorflow as tf
from gradcam_client.manifest import Manifest
from gradcam_export import export_classifier
from gradcam_export.savedmodel.session import LoadedVersion

B = None
"""The batch axis, which a signature leaves open."""
H, W, C = 16, 24, 3
GRID = (14, 22)
CLASSES = 4

IMAGES = {"images": (tf.uint8, (B, H, W, C))}
CLASS_INDEX = {"class_index": (tf.int32, (B,))}
ANSWER = {
    "predictions": (tf.float32, (B, CLASSES)),
    "class_index": (tf.int32, (B,)),
    "label": (tf.string, (B,)),
    "score": (tf.float32, (B,)),
}
HEATMAP = {"heatmap": (tf.float32, (B, *GRID)), "heatmap_peak": (tf.float32, (B,))}
SIGNATURES = {
    "serving_default": (IMAGES, ANSWER | HEATMAP),
    "explain": (IMAGES | CLASS_INDEX, ANSWER | HEATMAP),
    "predict": (IMAGES, ANSWER),
    "describe": ({"key": (tf.string, (B,))}, {"value": (tf.string, (B,))}),
}

MANIFEST = {
    "schema": None,
    "model": {"name", "source", "digest", "created"},
    "input": {"shape", "dtype", "color_order", "resize", "preprocessing"},
    "labels": None,
    "explanation": {"method", "layer", "grid", "score", "methods"},
    "overlay": {"colormap", "alpha"},
    "weights": None,
    "precision": None,
    "batching": {"mode", "max_batch_size", "allowed_batch_sizes"},
    "versions": {"tensorflow", "keras", "exporter"},
    "ops": None,
    "verified": None,
}
"""Each key of the manifest, with the keys under it where the contract names them."""


def names(contract: types.ModuleType) -> dict[str, object]:
    return {name: value for name, value in vars(contract).items() if name.isupper()}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A version of a very small classifier."""
    images = keras.Input((H, W, C))
    features = keras.layers.Conv2D(6, 3, activation="relu", name="features")(images / 255.0)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(images, keras.layers.Dense(CLASSES, activation="softmax")(pooled))
    return export_classifier(model, tmp_path_factory.mktemp("models") / "tiny", labels=["a", "b", "c", "d"])


@pytest.fixture(scope="module")
def signatures(published):
    with LoadedVersion.load(published.path) as loaded:
        yield loaded.signatures


@pytest.fixture(scope="module")
def manifest(published):
    return json.loads((published.path / "assets.extra" / "manifest.json").read_text())


def test_exporter_and_client_hold_the_same_names():
    exporter = names(gradcam_export.contract)
    assert exporter == names(gradcam_client.contract)
    assert {"SCHEMA", "EXPLAIN", "HEATMAP", "PREDICTED_CLASS"} <= set(exporter)


def test_every_name_of_a_signature_is_the_contracts():
    used = {*SIGNATURES, *(name for sides in SIGNATURES.values() for side in sides for name in side)}
    assert used <= set(names(gradcam_export.contract).values())


def test_a_version_has_exactly_these_signatures(signatures):
    assert set(signatures) == set(SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
def test_inputs_and_outputs_are_exactly_these(signatures, name):
    inputs, outputs = SIGNATURES[name]
    assert described(signatures[name].inputs) == inputs
    assert described(signatures[name].outputs) == outputs
    assert signatures[name].method_name == tf.saved_model.PREDICT_METHOD_NAME


def described(tensors):
    """Return dtype and shape of each tensor of a signature, an open axis as `None`."""
    return {
        name: (tf.as_dtype(info.dtype), tuple(tf.TensorShape(info.tensor_shape).as_list()))
        for name, info in tensors.items()
    }


def test_the_manifest_has_exactly_these_keys(manifest):
    assert set(manifest) == set(MANIFEST)
    for key, inner in MANIFEST.items():
        assert inner is None or set(manifest[key]) == inner, key


def test_the_manifest_says_what_was_compared(manifest):
    compared = {"predictions", "class_index", "heatmap", "row_independence", "finite", "describe", "label", "warmup"}
    assert compared <= set(manifest["verified"])
    for check in manifest["verified"].values():
        assert 0 <= check["largest_difference"] <= check["tolerance"]


def test_the_manifest_says_what_was_exported(manifest):
    assert manifest["schema"] == gradcam_export.contract.SCHEMA
    assert manifest["model"]["name"] == "tiny"
    assert manifest["input"]["shape"] == [H, W, C]
    assert manifest["labels"] == ["a", "b", "c", "d"]
    assert manifest["explanation"] == {
        "method": "gradcam",
        "layer": "features",
        "grid": list(GRID),
        "score": "logit",
        "methods": ["gradcam"],
    }


def test_the_client_understands_the_manifest(manifest):
    read = Manifest.parse(json.dumps(manifest).encode(), version=1)
    assert (read.name, read.labels, read.layer, read.grid) == ("tiny", ("a", "b", "c", "d"), "features", GRID)
