"""Versions in half precision: what they answer, what they weigh, and that the given images decide on them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export import OptionError, VerificationError, export_classifier
from gradcam_export.checks.precision import LEAST_AGREEMENT, MEDIAN_LIMIT, PERCENTILE_99_LIMIT
from gradcam_export.checks.samples import verification_inputs
from gradcam_export.cli import main
from gradcam_export.demo import scenes
from gradcam_export.savedmodel.session import LoadedVersion
from keras import layers
from lean import LEAN
from PIL import Image
from shortcut import SIZE, draw

HALVES = ["bfloat16", "float16"]
IMAGES = 200
"""Held-out pictures of digits to decide on."""
EPOCHS, BATCH = 8, 32
COLOURS = 3
GRID = 12


def write(folder: Path, pictures) -> Path:
    """Write pictures as files of a folder."""
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:03}.png")
    return folder


def read(folder: Path) -> np.ndarray:
    """Return the pictures of a folder, in the order of their names."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A classifier of digits, briefly trained, and a folder of pictures it has never seen."""
    seen, unseen = scenes.load_digits()
    drawn = draw(seen, np.arange(len(seen.labels)), spurious=False, seed=1)
    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Rescaling(1 / 127.5, -1)])
    for filters, kernel, stride in ((16, 4, 2), (32, 4, 2), (32, 3, 1)):
        network.add(layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False))
        network.add(layers.BatchNormalization(momentum=0.9))
        network.add(layers.ReLU())
    network.add(layers.GlobalAveragePooling2D())
    network.add(layers.Dense(10, activation="softmax"))
    rate = keras.optimizers.schedules.CosineDecay(5e-3, EPOCHS * -(-len(drawn.labels) // BATCH))
    # To compile it by XLA takes as long as to train it.
    network.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", jit_compile=False)
    network.fit(drawn.pixels, drawn.labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    rows = np.random.default_rng(0).integers(0, len(unseen.labels), IMAGES)
    images = write(tmp_path_factory.mktemp("digits") / "images", draw(unseen, rows, spurious=False, seed=2).pixels)
    return network, images


@pytest.fixture(scope="module")
def versions(digits, tmp_path_factory):
    """The digit classifier in every precision."""
    network, images = digits
    base = tmp_path_factory.mktemp("models") / "digits"
    return {
        precision: export_classifier(network, base, precision=precision, images=images, **LEAN)
        for precision in ("float32", *HALVES)
    }


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


@pytest.mark.parametrize("precision", HALVES)
def test_a_trained_classifier_passes_and_the_manifest_has_the_figures(versions, precision):
    manifest = versions[precision].manifest
    assert (manifest.precision, manifest.verified["top_1_agreement"]["largest_difference"]) == (precision, 0)
    median, percentile = (manifest.verified[f"heatmap of gradcam, {one}"] for one in ("median", "99th percentile"))
    assert (median["tolerance"], percentile["tolerance"]) == (MEDIAN_LIMIT, PERCENTILE_99_LIMIT) == (0.02, 0.1)
    assert 0 < median["largest_difference"] < percentile["largest_difference"]
    assert median["largest_difference"] < 0.01
    assert LEAST_AGREEMENT == 0.995
    assert "predictions" not in manifest.verified


def test_the_figures_are_those_of_what_the_versions_answer(versions, digits):
    _, images = digits
    pixels = read(images)
    answers = {}
    for precision in ("float32", "bfloat16"):
        with LoadedVersion.load(versions[precision].path) as loaded:
            answers[precision] = loaded.run("serving_default", {"images": pixels})
    same = answers["float32"]["class_index"] == answers["bfloat16"]["class_index"]
    assert same.mean() >= LEAST_AGREEMENT
    differences = np.abs(answers["float32"]["heatmap"] - answers["bfloat16"]["heatmap"]).max(axis=(1, 2))[same]
    said = versions["bfloat16"].manifest.verified
    for name, percent in (("median", 50), ("99th percentile", 99)):
        figure = said[f"heatmap of gradcam, {name}"]["largest_difference"]
        assert figure == pytest.approx(np.percentile(differences, percent), rel=0.1)


def test_the_weights_take_half_the_disk(versions):
    size = {
        precision: sum(path.stat().st_size for path in (version.path / "variables").glob("*.data*"))
        for precision, version in versions.items()
    }
    for precision in HALVES:
        assert 0.45 < size[precision] / size["float32"] < 0.6


@pytest.mark.parametrize("precision", HALVES)
def test_a_caller_sees_no_half_type(versions, precision):
    with LoadedVersion.load(versions["float32"].path) as full, LoadedVersion.load(versions[precision].path) as half:
        for name, signature in full.signatures.items():
            assert half.signatures[name] == signature
        types = {
            info.dtype for one in half.signatures.values() for info in (*one.inputs.values(), *one.outputs.values())
        }
    assert types == {
        tf.uint8.as_datatype_enum,
        tf.int32.as_datatype_enum,
        tf.float32.as_datatype_enum,
        tf.string.as_datatype_enum,
    }


@pytest.mark.parametrize("precision", HALVES)
def test_rows_are_independent_and_answers_repeat(versions, digits, precision):
    pixels = read(digits[1])[:6]
    with LoadedVersion.load(versions[precision].path) as loaded:
        together, again = (loaded.run("serving_default", {"images": pixels}) for _ in range(2))
        alone = [loaded.run("serving_default", {"images": pixels[[row]]}) for row in range(6)]
        reversed_rows = loaded.run("serving_default", {"images": pixels[::-1]})
    for name, value in together.items():
        np.testing.assert_array_equal(value, again[name])
        for found in (np.concatenate([one[name] for one in alone]), reversed_rows[name][::-1]):
            if value.dtype.kind == "f":
                np.testing.assert_allclose(found, value, atol=5e-3 * max(1, np.abs(value).max()))
            else:
                np.testing.assert_array_equal(found, value)


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


@pytest.mark.parametrize("precision", HALVES)
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


def test_float32_asks_nothing_of_the_processor(versions):
    manifest = versions["float32"].manifest
    assert (manifest.precision, manifest.processor) == ("float32", "")
    assert "top_1_agreement" not in manifest.verified


WARM_UP = """
import sys
from pathlib import Path
from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.server.warmup import replay
print(replay(LoadedVersion.load(sys.argv[1]), Path(sys.argv[1])))
"""


@pytest.mark.large
@pytest.mark.skipif("avx512_bf16" not in Path("/proc/cpuinfo").read_text(), reason="needs AVX512-BF16 to be held back")
@pytest.mark.parametrize(("instructions", "refused"), [("AVX2", True), ("AVX512_CORE", False)])
def test_the_warm_up_fails_where_the_processor_cannot(versions, instructions, refused):
    """Held to AVX2, oneDNN refuses bfloat16; with AVX-512 alone it computes, slowly."""
    replayed = subprocess.run(
        [sys.executable, "-c", WARM_UP, str(versions["bfloat16"].path)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
        check=False,
    )
    if refused:
        assert replayed.returncode == 1
        assert "tf_serving_warmup_requests, record 0" in replayed.stderr
        assert "could not create a primitive" in replayed.stderr
    else:
        assert int(replayed.stdout.split()[-1]) > 0
