"""The live model's values, which a version is verified against, themselves held against float64."""

import cam_oracles
import keras
import numpy as np
import pytest
import tensorflow as tf
from cam_reference import Reference, heatmaps
from classifiers import FAMILIES, photographs
from gradcam_export import ExplanationError, ExportOptions
from gradcam_export.checks.heatmaps import ExpectedHeatmaps
from gradcam_export.graph.live import RESCORED_ROWS, gradients_of, live_values
from gradcam_export.graph.trace import classifier_of
from gradcam_export.keras_model.load import load_classifier
from gradcam_export.methods import METHODS
from keras import layers

IMAGES = photographs(2)


def live(model, inputs=None, **options):
    asked = ExportOptions(**options)
    return live_values(classifier_of(load_classifier(model), asked), inputs or {"images": IMAGES}, asked)


@pytest.fixture(scope="module")
def model():
    return FAMILIES["functional"].model()


@pytest.fixture(scope="module")
def reference(model):
    return Reference.of(FAMILIES["functional"], model)


@pytest.fixture(scope="module")
def values(model):
    return live(model, method=tuple(METHODS))


@pytest.fixture(scope="module")
def rows(values):
    """Image and class of each row of the values, the classes as they were asked for in the end."""
    return list(zip(np.concatenate([IMAGES, IMAGES]).astype(float), values["answered"], strict=True))


def test_each_image_is_asked_for_its_best_and_its_second_best_class(values):
    order = np.argsort(-values["predictions"][:2], axis=1)
    assert values["asked"].tolist() == [-1, -1, *order[:, 1]]
    assert values["answered"].tolist() == [*order[:, 0], *order[:, 1]]
    np.testing.assert_array_equal(values["inputs/images"], np.concatenate([IMAGES, IMAGES]))
    assert values["rounding"] == 1e-5


def test_features_and_gradients_are_those_of_float64(values, rows, reference):
    for row, (image, chosen) in enumerate(rows):
        scores, features = reference.scores(image), reference.features(image)
        np.testing.assert_allclose(values["features"][row], features, rtol=0, atol=1e-5 * np.abs(features).max())
        directions = {
            "gradients": np.eye(5)[chosen],
            gradients_of("finercam"): cam_oracles.finercam_direction(scores, chosen),
        }
        for name, direction in directions.items():
            wanted = reference.gradients(image, direction)
            np.testing.assert_allclose(values[name][row], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("method", ["scorecam", "faster-scorecam", "ablationcam"])
def test_scores_of_altered_inputs_are_those_of_float64(values, rows, reference, method):
    for row, (image, chosen) in enumerate(rows[:RESCORED_ROWS]):
        features = reference.features(image)
        every = np.arange(features.shape[1])
        varied = cam_oracles.varied_channels(features, 10 if method == "faster-scorecam" else len(every))
        channels = every if method == "ablationcam" else varied
        assert values[f"{method}/channels"][row].tolist() == channels.tolist()
        wanted = (
            reference.ablated_scores(image, chosen)
            if method == "ablationcam"
            else reference.masked_scores(image, chosen, channels)
        )
        np.testing.assert_allclose(values[f"{method}/channel_scores"][row], wanted, rtol=0, atol=1e-4)
        np.testing.assert_allclose(values[f"{method}/score"][row], reference.scores(image)[chosen], rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_maps_expected_are_those_of_float64(values, rows, reference, method):
    expected = ExpectedHeatmaps(values)
    known = rows[: expected.rows(method)]
    assert len(known) == (RESCORED_ROWS if METHODS[method].alters else 4)
    images, classes = (np.array(each) for each in zip(*known, strict=True))
    wanted = heatmaps(reference.maps(method, images, classes))
    check = expected.check(method, wanted.reshape(-1, 16, 20))
    assert check.passed, check.message
    assert check.largest_difference < 1e-4
    assert expected.slack(method).max() < 5


@pytest.mark.parametrize(
    ("units", "activation", "asked", "answered"),
    [
        (1, "linear", [-1, -1, 0, 0], [0, 0, 0, 0]),
        (1, "sigmoid", [-1, -1, 1, 0], [0, 1, 1, 0]),
        (3, "sigmoid", [-1, -1, 1, 2], [2, 1, 1, 2]),
    ],
)
def test_the_second_class_of_heads_of_few_units(units, activation, asked, answered):
    images = keras.Input((4, 4, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(1, 1, kernel_initializer="ones")(images))
    x = layers.Dense(units, activation=activation, name="scores")(x - 127.0)
    model = keras.Model(images, x)
    # Dark images score low in the first unit and high in the last.
    model.get_layer("scores").set_weights([np.linspace(0.01, -0.005, units)[np.newaxis], np.zeros(units)])
    if units == 3:
        model.get_layer("scores").set_weights([np.array([[0.0, 0.01, -0.01]]), np.array([-5.0, 0, 0])])
    pixels = np.full((2, 4, 4, 1), [[[[10]]], [[[200]]]], np.uint8) + np.arange(4, dtype=np.uint8)[:, None]
    found = live(model, {"images": pixels})
    assert found["asked"].tolist() == asked
    assert found["answered"].tolist() == answered


@pytest.mark.parametrize(("policy", "rounding"), [("mixed_float16", 2e-3), ("mixed_bfloat16", 1e-2), ("float64", 1e-5)])
def test_the_rounding_is_that_of_the_features(policy, rounding):
    images = keras.Input((8, 9, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, dtype=policy)(images))
    model = keras.Model(images, layers.Dense(3, dtype="float32")(x))
    assert live(model, {"images": IMAGES[:, :8, :9]})["rounding"] == rounding


def test_nothing_is_asked_again_where_no_method_does(model):
    values = live(model, method=("gradcam", "eigencam"))
    assert {name for name in values if "/" in name} == {"inputs/images"}


@keras.saving.register_keras_serializable("tests")
class Picky(layers.Layer):
    """Refuses every value when it runs."""

    def call(self, x):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_any(x > 1e9), ["too small"])]):
            return tf.identity(x)


def test_a_model_that_does_not_run_here_is_one_clear_line():
    images = keras.Input((8, 9, 3))
    x = layers.GlobalAveragePooling2D()(Picky()(layers.Conv2D(4, 3)(images)))
    model = keras.Model(images, layers.Dense(3)(x), name="flowers")
    message = (
        r"^'flowers' does not run on this machine with its gradients: .*too small.* Choose a later layer with --layer"
    )
    with pytest.raises(ExplanationError, match=message) as refusal:
        live(model, {"images": IMAGES[:, :8, :9]})
    assert "\n" not in str(refusal.value)
