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
from gradcam_export.methods import METHODS
from gradcam_export.savedmodel.session import LoadedVersion

B = None
"""The batch axis, which a signature leaves open."""
H, W, C = 16, 24, 3
GRID = (14, 22)
CLASSES = 4

IMAGES = {"images": (tf.uint8, (B, H, W, C))}
IMAGE_BYTES = {"image_bytes": (tf.string, (B,))}
CLASS_INDEX = {"class_index": (tf.int32, (B,))}
ANSWER = {
    "predictions": (tf.float32, (B, CLASSES)),
    "class_index": (tf.int32, (B,)),
    "label": (tf.string, (B,)),
    "score": (tf.float32, (B,)),
}
HEATMAP = {"heatmap": (tf.float32, (B, *GRID)), "heatmap_peak": (tf.float32, (B,))}
OVERLAY = {name: ANSWER[name] for name in ("class_index", "label", "score")} | {"overlay_bytes": (tf.string, (B,))}
TOP_K = 3
BEST = {name: (dtype, (B, TOP_K, *shape[1:])) for name, (dtype, shape) in (ANSWER | HEATMAP).items()} | {
    "predictions": ANSWER["predictions"]
}
SIGNATURES = {
    "serving_default": (IMAGES, ANSWER | HEATMAP),
    "explain": (IMAGES | CLASS_INDEX, ANSWER | HEATMAP),
    "explain_gradcam_pp": (IMAGES | CLASS_INDEX, ANSWER | HEATMAP),
    "explain_faster_scorecam": (IMAGES | CLASS_INDEX, ANSWER | HEATMAP),
    "top_k": (IMAGES, BEST),
    "predict": (IMAGES, ANSWER),
    "explain_bytes": (IMAGE_BYTES | CLASS_INDEX, ANSWER | HEATMAP),
    "overlay": (IMAGE_BYTES | CLASS_INDEX, OVERLAY),
    "describe": ({"key": (tf.string, (B,))}, {"value": (tf.string, (B,))}),
}

EXPLAINED = ("gradcam", "gradcam++", "faster-scorecam")
MANIFEST = {
    "schema": None,
    "model": {"name", "source", "digest", "created"},
    "input": {"name", "shape", "dtype", "color_order", "resize", "preprocessing", "encoded"},
    "more_inputs": None,
    "labels": None,
    "explanation": {"method", "layer", "grid", "score", "methods", "top_k", "output"},
    "overlay": {"colormap", "alpha"},
    "weights": None,
    "precision": None,
    "processor": None,
    "batching": {"mode", "max_batch_size", "allowed_batch_sizes", "timeout_micros", "threads", "methods"},
    "versions": {"tensorflow", "keras", "exporter"},
    "ops": None,
    "verified": None,
    "files": None,
    "digest": None,
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
    base, methods = tmp_path_factory.mktemp("models") / "tiny", EXPLAINED
    return export_classifier(model, base, labels=["a", "b", "c", "d"], method=methods, top_k=TOP_K)


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
    further = {gradcam_export.contract.explain_signature(method) for method in METHODS}
    assert used <= {*names(gradcam_export.contract).values(), *further}


@pytest.mark.parametrize("method", METHODS)
def test_exporter_and_client_name_a_methods_signature_alike(method):
    name = gradcam_export.contract.explain_signature(method)
    assert name == gradcam_client.contract.explain_signature(method)
    assert name.removeprefix("explain_").isidentifier()


def test_every_method_has_a_signature_of_its_own():
    found = {gradcam_export.contract.explain_signature(method) for method in METHODS}
    assert len(found) == len(METHODS)
    assert found.isdisjoint({"explain", "explain_bytes"})
    assert {"explain_gradcam_pp", "explain_guided_gradcam_weights", "explain_faster_scorecam"} <= found


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
    answered = {
        f"{signature}.{name}"
        for signature in ("serving_default", "predict", "top_k", "explain_bytes")
        for name in SIGNATURES[signature][1]
    }
    assert set(manifest["verified"]) == answered | {
        "predictions",
        "score of class_index",
        *(f"{what} of {method}" for what in ("heatmap", "heatmap_peak") for method in EXPLAINED),
        *("row_independence", "determinism", "finite", "zero_maps", "explain.class_index"),
        *("explain.score of its class", "top_k score", "signatures", "batching queues"),
        *("files", "manifest", "labels", "describe", "label", "warmup", "stock_server"),
    }
    for check in manifest["verified"].values():
        assert 0 <= check["largest_difference"] <= check["tolerance"]


def test_the_manifest_says_what_was_exported(manifest):
    assert manifest["schema"] == gradcam_export.contract.SCHEMA
    assert manifest["model"]["name"] == "tiny"
    assert manifest["input"] == {
        "name": "images",
        "shape": [H, W, C],
        "dtype": "uint8",
        "color_order": "rgb",
        "resize": "bilinear",
        "preprocessing": "none",
        "encoded": True,
    }
    assert manifest["more_inputs"] == []
    assert manifest["labels"] == ["a", "b", "c", "d"]
    assert manifest["explanation"] == {
        "method": "gradcam",
        "layer": "features",
        "grid": list(GRID),
        "score": "logit",
        "methods": ["gradcam", "gradcam++", "faster-scorecam"],
        "top_k": TOP_K,
        "output": None,
    }


def test_the_client_understands_the_manifest(manifest):
    read = Manifest.parse(json.dumps(manifest).encode(), version=1)
    assert (read.name, read.labels, read.layer, read.grid) == ("tiny", ("a", "b", "c", "d"), "features", GRID)


def test_other_inputs_go_by_their_own_names(tmp_path):
    spectrum, age = keras.Input((40, 13), name="spectrum"), keras.Input((2,), name="age")
    x = keras.layers.Conv1D(4, 3, activation="relu")(spectrum)
    x = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(x), age])
    model = keras.Model([spectrum, age], keras.layers.Dense(3, activation="softmax")(x))
    version = export_classifier(model, tmp_path / "m")
    given = {"spectrum": (tf.float32, (B, 40, 13)), "age": (tf.float32, (B, 2))}
    with LoadedVersion.load(version.path) as loaded:
        for name in ("serving_default", "top_k", "predict"):
            assert described(loaded.signatures[name].inputs) == given
        assert described(loaded.signatures["explain"].inputs) == given | CLASS_INDEX
        assert described(loaded.signatures["explain"].outputs)["heatmap"] == (tf.float32, (B, 38))
    assert version.manifest.input == {
        "name": "spectrum",
        "shape": [40, 13],
        "dtype": "float32",
        "color_order": None,
        "resize": None,
        "preprocessing": "none",
        "encoded": False,
    }
    assert version.manifest.more_inputs == [{"name": "age", "shape": [2], "dtype": "float32"}]
    assert version.manifest.explanation["grid"] == [38]
