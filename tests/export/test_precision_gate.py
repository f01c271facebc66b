"""Versions in half precision: what each kind of them answers, and that the given images decide on them."""

import json

import keras
import numpy as np
import pytest
from gradcam_export import OptionError, VerificationError, export_classifier
from gradcam_export.checks.samples import verification_inputs
from gradcam_export.cli import main
from gradcam_export.savedmodel.session import LoadedVersion
from keras import layers
from lean import LEAN
from picture_files import write

COLOURS = 3
GRID = 12


def of_colours() -> keras.Model:
    """Return a classifier whose score of class c is how much of colour c there is, blurred by one cell."""
    network = keras.Sequential(
        [
            keras.Input((GRID, GRID, COLOURS)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(COLOURS, 3, padding="same", use_bias=False, name="blur"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(COLOURS, activation="softmax"),
        ]
    )
    blur = np.eye(COLOURS)[None, None] * np.outer([1, 2, 1], [1, 2, 1])[..., None, None] / 16
    network.set_weights([blur, 8 * np.eye(COLOURS), np.zeros(COLOURS)])
    return network


def coloured(count: int) -> np.ndarray:
    """Return pictures of noise with a patch of one colour after the other, uint8."""
    random = np.random.default_rng(3)
    pictures = random.integers(0, 60, (count, GRID, GRID, COLOURS), np.uint8)
    for index, picture in enumerate(pictures):
        x, y = random.integers(0, GRID - 6, 2)
        picture[y : y + 6, x : x + 6, index % COLOURS] = random.integers(150, 256, (6, 6))
    return pictures


def blurred(pictures: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the map of a class in float64: all that its colour adds to the score, over the largest."""
    planes = np.stack([picture[..., one] for picture, one in zip(pictures, classes, strict=True)]) / 255
    padded = np.pad(planes, [(0, 0), (1, 1), (1, 1)])
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    maps = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16
    return maps / maps.max(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize(
    ("precision", "options", "rounding"),
    [
        ("bfloat16", {"weights": "constants", "batching": "in-graph", "max_batch_size": 2}, 2**-7),
        ("float16", {"weights": "variables", "batching": "server", "max_batch_size": 2}, 2**-10),
        ("bfloat16", {"weights": "variables", "batching": "none", "method": ["gradcam", "ablationcam"]}, 2**-7),
    ],
    ids=["constants, in-graph", "variables, server", "a method that asks again"],
)
def test_every_storage_batching_and_kind_of_method_answers_the_formula(tmp_path, precision, options, rounding):
    pictures = coloured(9)
    images = write(tmp_path / "images", pictures)
    published = export_classifier(
        of_colours(), tmp_path / "m", precision=precision, images=images, max_image_bytes=0, **options
    )
    with LoadedVersion.load(published.path) as loaded:
        answer = loaded.run("serving_default", {"images": pictures})
        classes = answer["class_index"]
        np.testing.assert_array_equal(classes, np.arange(9) % COLOURS)
        np.testing.assert_allclose(answer["heatmap"], blurred(pictures, classes), atol=2 * rounding)
        if "ablationcam" in published.manifest.explanation["methods"]:
            # Without its channel the class has no score left: the weight of its colour is 1, of any other 0.
            asked = {"images": pictures, "class_index": classes}
            ablated = loaded.run("explain_ablationcam", asked)["heatmap"]
            np.testing.assert_allclose(ablated, blurred(pictures, classes), atol=2 * rounding)


def rivals() -> keras.Model:
    """Return a classifier whose second class wins by a part in a thousand, which bfloat16 rounds away."""
    images = keras.Input((GRID, GRID, 3))
    features = layers.Conv2D(2, 1, use_bias=False)(layers.Rescaling(1 / 255)(images))
    scores = layers.Dense(2, use_bias=False)(layers.GlobalAveragePooling2D()(features))
    model = keras.Model(images, layers.Softmax()(scores))
    kernel = np.ones((1, 1, 3, 2)) * [1, 1 + 2**-10]
    model.set_weights([kernel, 8 * np.eye(2)])
    return model


def test_a_version_that_loses_the_top_class_is_refused_with_the_figures(tmp_path):
    images = write(tmp_path / "images", coloured(12))
    base = tmp_path / "m"
    message = (
        r"in bfloat16 12 of 12 inputs are predicted to be of another class: top-1 agreement 0\.0%, at least 99\.5% is "
        r"needed; build with precision float32"
    )
    with pytest.raises(VerificationError, match=message):
        export_classifier(rivals(), base, precision="bfloat16", images=images, **LEAN)
    assert not list(base.glob("[0-9]*"))


def test_a_version_whose_maps_move_is_refused_with_the_figures(tmp_path):
    """The map is what remains of two channels that all but cancel; the class does not depend on that."""
    images = keras.Input((GRID, GRID, 3))
    x = layers.Conv2D(3, 1, use_bias=False)(layers.Rescaling(1 / 255)(images))
    scores = layers.Dense(2, bias_initializer=keras.initializers.Constant([1000, 0]))(
        layers.GlobalAveragePooling2D()(x)
    )
    model = keras.Model(images, scores)
    kernel, head, bias = model.get_weights()
    kernel[0, 0] = [[1, 1, 0], [1, 1.02, 0], [1, 1, 0]]
    head[:] = [[-1, 0], [1, 0], [0, 0]]
    model.set_weights([kernel, head, bias])
    pictures = write(tmp_path / "images", coloured(12))
    message = (
        r"in bfloat16 the heatmap of gradcam differs by 0\.\d+ \(median of 12 inputs\), at most 0\.02 is allowed; .*"
        r"\(99th percentile of 12 inputs\), at most 0\.1 is allowed"
    )
    with pytest.raises(VerificationError, match=message):
        export_classifier(model, tmp_path / "m", precision="bfloat16", images=pictures, **LEAN)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_pictures_are_not_decided_on_without_pictures(tmp_path, precision):
    with pytest.raises(OptionError, match=rf"precision='{precision}' rounds, .* give a folder .*\(--images\)"):
        export_classifier(of_colours(), tmp_path / "m", precision=precision, **LEAN)


def test_what_no_file_holds_is_decided_on_by_synthetic_inputs(tmp_path):
    wave = keras.Input((40, 2))
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(6, 5, activation="relu")(wave))
    keras.utils.set_random_seed(0)
    model = keras.Model(wave, layers.Dense(2)(x))
    kernel, bias, head, offset = model.get_weights()
    model.set_weights([kernel, bias, head, offset + np.array([5, 0])])
    published = export_classifier(model, tmp_path / "m", precision="bfloat16", **LEAN)
    assert "top_1_agreement" in published.manifest.verified


def test_images_are_taken_from_all_over_a_folder(tmp_path):
    for part in "abcde":
        write(tmp_path / part, np.full((10, 4, 4, 3), 10 * ord(part) - 900, np.uint8))
    taken = verification_inputs([{"name": "images", "shape": [4, 4, 3], "dtype": "uint8"}], tmp_path, 10)["images"]
    np.testing.assert_array_equal(np.unique(taken, return_counts=True), [[70, 80, 90, 100, 110], [2 * 4 * 4 * 3] * 5])


def test_the_command_takes_a_precision(tmp_path, capsys):
    of_colours().save(tmp_path / "colours.keras")
    images = write(tmp_path / "images", coloured(6))
    build = ["build", str(tmp_path / "colours.keras"), str(tmp_path / "m"), "--precision", "bfloat16"]
    build += ["--batching", "none", "--max-image-bytes", "0"]
    assert main(build) == 1
    assert "give a folder of some hundred with images (--images)" in capsys.readouterr().err
    assert main([*build, "--images", str(images)]) == 0
    manifest = json.loads((tmp_path / "m/1/assets.extra/manifest.json").read_text())
    assert manifest["precision"] == "bfloat16"
    assert "Elsewhere it is slower than float32, or oneDNN refuses it" in manifest["processor"]
