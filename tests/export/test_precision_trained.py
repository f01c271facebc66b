"""A trained classifier in half precision: what its versions answer, weigh and ask of the processor."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export import export_classifier
from gradcam_export.checks.precision import LEAST_AGREEMENT, MEDIAN_LIMIT, PERCENTILE_99_LIMIT
from gradcam_export.demo import scenes
from gradcam_export.savedmodel.session import LoadedVersion
from keras import layers
from lean import LEAN
from picture_files import read, write
from shortcut import SIZE, draw

HALVES = ["bfloat16", "float16"]
IMAGES = 200
"""Held-out pictures of digits to decide on."""
EPOCHS, BATCH = 8, 32


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
