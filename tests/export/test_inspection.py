"""What would be explained, on one screen and as JSON."""

import json
import re

import keras
import pytest
from classifiers import FAMILIES, INPUT_SHAPE, functional
from gradcam_export import ExplanationError, LabelsError, inspect_classifier
from gradcam_export.contract import explain_signature
from gradcam_export.inspection import SHOWN_CANDIDATES
from gradcam_export.methods import METHODS
from keras import layers

SCREEN = 45
LABELS = ["ant", "bee", "cat", "dog", "eel"]


def classifier(*tail, shape=INPUT_SHAPE, front=(), dtype=None):
    body = [layers.Conv2D(6, 3, strides=2, activation="relu", name="conv", dtype=dtype)]
    return keras.Sequential([keras.Input(shape), *front, *body, layers.GlobalAveragePooling2D(), *tail])


@pytest.fixture(scope="module")
def large():
    return inspect_classifier(
        "keras.applications:MobileNetV2",
        factory_args={"weights": None, "input_shape": (64, 64, 3), "alpha": 0.35},
        method=tuple(name for name in METHODS if name != "cam"),
        top_k=7,
    )


def test_a_large_network_fits_one_screen(large):
    lines = str(large).splitlines()
    assert len(lines) <= SCREEN
    assert len(large.candidates) > SHOWN_CANDIDATES
    shown = [line for line in lines if re.search(r"\d+ channels  ", line)]
    assert len(shown) == SHOWN_CANDIDATES
    assert f"(the last {SHOWN_CANDIDATES} of {len(large.candidates)})" in str(large)
    assert [line[:2] for line in shown if large.layer in line] == ["→ "]


def test_the_json_says_what_the_text_says(large):
    facts, text = json.loads(large.to_json()), str(large)
    assert facts["source"] == "keras.applications:MobileNetV2"
    assert facts["inputs"] == {"images": "uint8 [B,64,64,3]"}
    assert "input          images uint8 [B,64,64,3]\npreprocessing  tf\noutput         1000 classes, softmax\n" in text
    assert (facts["preprocessing"], facts["classes"], facts["activation"]) == ("tf", 1000, "softmax")
    assert (facts["layer"], facts["grid"]) == ("out_relu", [2, 2])
    assert f"chosen         out_relu (2×2)\nbecause        {facts['reason']}\n" in text
    assert f"methods        {', '.join(facts['methods'])}\n" in text
    for candidate in facts["candidates"][-SHOWN_CANDIDATES:]:
        row = next(line for line in text.splitlines() if line[2:].split(" ")[0] == candidate["name"])
        grid = "×".join(map(str, candidate["grid"]))
        assert row.split()[-4:] == [grid, str(candidate["channels"]), "channels", candidate["operation"]]
    assert [one["name"] for one in facts["candidates"] if one["chosen"]] == ["out_relu"]
    for name, kind in facts["signatures"].items():
        assert f"{name}: {kind}" in text
    for remark in facts["remarks"]:
        assert f"{remark}\n" in f"{text}\n"


def test_the_signatures_are_those_that_an_export_has(large):
    further = [explain_signature(method) for method in large.methods[1:]]
    assert list(large.signatures) == [
        "serving_default",
        "explain",
        *further,
        "top_k",
        "predict",
        "explain_bytes",
        "overlay",
        "describe",
    ]
    assert large.signatures["serving_default"].startswith("images → predictions [B,1000], class_index, label, score, ")
    assert large.signatures["serving_default"].endswith("heatmap [B,2,2], heatmap_peak")
    assert large.signatures["explain_gradcam_pp"] == "likewise, by gradcam++"
    assert large.signatures["top_k"] == "the same of the best 7 classes: heatmap [B,7,2,2]"


@pytest.mark.parametrize(
    ("model", "options", "remark"),
    [
        (functional, {}, "no labels: classes will be named class_0, class_1, …"),
        (functional, {"labels": LABELS}, "no preprocessing: the model gets pixels 0..255"),
        (lambda: classifier(layers.Dense(5), shape=(8, 7, 3)), {"labels": LABELS}, "the grid is coarse (3×3)"),
        (lambda: classifier(layers.Dense(5)), {"labels": LABELS}, "the model ends in logits: scores are no probab"),
        (lambda: classifier(layers.Dense(1)), {"labels": ["age"]}, "one linear unit is a regression"),
        (lambda: classifier(layers.Dense(5), dtype="mixed_float16"), {}, "features are float16: maps are known to"),
        (functional, {"method": "scorecam"}, "scorecam asks the model again for 24 altered inputs of each image"),
        (
            functional,
            {"method": ("cam", "ablationcam")},
            "ablationcam asks the model again for 24 altered inputs of each image",
        ),
    ],
)
def test_what_can_surprise_is_remarked(model, options, remark):
    inspection = inspect_classifier(model(), **options)
    assert [found for found in inspection.remarks if found.startswith(remark)] != []


def test_nothing_to_remark_is_said_too():
    model = classifier(layers.Dense(5, activation="softmax"), front=[layers.Rescaling(1 / 255)])
    inspection = inspect_classifier(model, labels=LABELS)
    assert inspection.remarks == ()
    assert str(inspection).splitlines()[-1] == "remarks        none"


@pytest.mark.parametrize("preprocessing", ["tf", "unit"])
def test_preprocessing_that_is_said_is_not_remarked_on(preprocessing):
    inspection = inspect_classifier(functional(), labels=LABELS, preprocessing=preprocessing)
    assert inspection.preprocessing == preprocessing
    assert inspection.remarks == ()


def test_one_unit_is_one_value():
    assert "output         1 value, linear\n" in str(inspect_classifier(classifier(layers.Dense(1))))
    binary = inspect_classifier(classifier(layers.Dense(1, activation="sigmoid")))
    assert "output         2 classes, sigmoid\n" in str(binary)
    assert binary.signatures["predict"].startswith("images → predictions [B,1], ")


def test_a_chosen_map_that_no_layer_returns_is_among_the_candidates():
    images = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(6, 3, padding="same", name="conv")(images)

    @keras.saving.register_keras_serializable("tests")
    class Shifted(layers.Layer):
        def call(self, x):
            return keras.ops.mean(keras.ops.relu(x) * keras.ops.sigmoid(x), axis=(1, 2))

    inspection = inspect_classifier(keras.Model(images, layers.Dense(3)(Shifted(name="shifted")(x))))
    (chosen,) = [one for one in inspection.candidates if one.chosen]
    assert chosen.operation == "Mul"
    assert chosen.name == inspection.layer
    assert inspection.candidates[0].name == "conv"


def test_several_inputs_are_all_listed():
    photo, age = keras.Input((32, 40, 3), name="photo"), keras.Input((2,), name="age")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(photo))
    model = keras.Model([photo, age], layers.Dense(3)(layers.Concatenate()([x, age])))
    inspection = inspect_classifier(model)
    assert inspection.inputs == {"images": "uint8 [B,32,40,3]", "age": "float32 [B,2]"}
    assert "input          images uint8 [B,32,40,3]\n               age float32 [B,2]\n" in str(inspection)
    assert inspection.signatures["explain"].endswith("images, age, class_index [B]")


def test_what_an_export_would_refuse_is_refused():
    with pytest.raises(LabelsError, match=r"2 labels .* for a classifier of 5 classes"):
        inspect_classifier(FAMILIES["functional"].build(), labels=["ant", "bee"])
    with pytest.raises(ExplanationError, match="Method 'cam' exists only where global average pooling and one linear"):
        inspect_classifier(FAMILIES["sequential"].build(), method="cam")
