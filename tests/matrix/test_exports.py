"""Exports made with every supported release of TensorFlow, in the runtime of the server's release: make test-matrix.

One file, written by the oldest Keras among them, is exported in the environment of each release by its own command.
"""

import io
import json
import os
import subprocess
from pathlib import Path

import cam_oracles
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export import contract
from gradcam_export.checks.stock_server import check_stock_server
from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.stock_ops import stock_server
from matrix.network import CLASSES, SIZE, Reference
from PIL import Image

CHECKOUT = Path(__file__).parents[2]
RELEASES = sorted(os.environ.get("TENSORFLOW_RELEASES", "").split(), key=lambda name: [*map(int, name.split("."))])
ORACLES = {
    "gradcam": cam_oracles.gradcam,
    "gradcam++": cam_oracles.gradcam_pp,
    "layercam": cam_oracles.layercam,
    "hirescam": cam_oracles.hirescam,
    "xgradcam": cam_oracles.xgradcam,
}
METHODS = [part for method in ORACLES for part in ("--method", method)]
FORMS = {
    "batched": ("small", (*METHODS, "--batching", "in-graph")),
    "constants": ("small", ("--method", "gradcam", "--method", "scorecam", "--weights", "constants")),
    "mobile": ("mobile", ("--batching", "in-graph")),
}
"""Name → file and options of `gradcam-export build`."""
PREDICTIONS, HEATMAPS = 1e-5, 1e-4
GREY_LEVELS = 3

pytestmark = [
    pytest.mark.skipif(not RELEASES, reason="exports with several releases of TensorFlow: make test-matrix"),
    pytest.mark.timeout(1800),
]


def command(release: str, name: str, *arguments: object) -> str:
    """Run a command of a release's environment."""
    file = CHECKOUT / f".venv-tf{release}" / "bin" / name
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "tests")}
    done = subprocess.run([file, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("files")
    command(RELEASES[0], "python", Path(__file__).with_name("write_classifiers.py"), directory)
    return directory


@pytest.fixture(scope="module", params=FORMS)
def versions(files, request, tmp_path_factory):
    """Release → directory of the version that it made."""
    file, options = FORMS[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    made = {}
    for release in RELEASES:
        base = directory / release / file
        made[release] = Path(
            command(release, "gradcam-export", "build", files / f"{file}.keras", base, *options).strip()
        )
    return made


def manifest_of(version):
    return json.loads((version / "assets.extra" / "manifest.json").read_text())


def pictures(manifest, count=5):
    """Return images `[B,H,W,C]` with structure in them."""
    random = np.random.default_rng(2)
    coarse = random.integers(0, 256, (count, 6, 8, 3), np.uint8)
    height, width, _ = manifest["input"]["shape"]
    return np.stack([np.asarray(Image.fromarray(one).resize((width, height), Image.BICUBIC)) for one in coarse])


def asked(manifest):
    """Signature → inputs, for every signature that answers with numbers."""
    images = pictures(manifest)
    classes = np.arange(len(images), dtype=np.int32) % len(manifest["labels"])
    encoded = np.array([png(image) for image in images], object)
    chosen = {"images": images, "class_index": classes}
    return {
        **{name: {"images": images} for name in ("predict", "serving_default", "top_k")},
        **{contract.explain_signature(method): chosen for method in manifest["explanation"]["methods"][1:]},
        "explain": chosen,
        "explain_bytes": {"image_bytes": encoded, "class_index": classes},
        "overlay": {"image_bytes": encoded, "class_index": classes},
    }


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def answers(version):
    manifest = manifest_of(version)
    with LoadedVersion.load(version) as loaded:
        questions = asked(manifest)
        assert {*questions, "describe"} == {*loaded.signatures}
        return {name: loaded.run(name, inputs) for name, inputs in questions.items()}


def tolerance_of(name, value):
    if name == "heatmap":
        return HEATMAPS
    if name == "heatmap_peak":
        return HEATMAPS * max(1.0, np.abs(value).max())
    return PREDICTIONS


def test_each_is_made_by_its_release_and_runs_in_the_servers(versions):
    assert tf.__version__.startswith(f"{stock_server().server}.")
    for release, version in versions.items():
        assert manifest_of(version)["versions"]["tensorflow"].startswith(f"{release}.")
        assert check_stock_server(version).passed


def test_all_answer_alike(versions):
    oldest, *others = versions
    wanted = answers(versions[oldest])
    for release in others:
        found = answers(versions[release])
        assert found.keys() == wanted.keys()
        for signature, outputs in wanted.items():
            assert found[signature].keys() == outputs.keys()
            for name, value in outputs.items():
                place = f"{signature}.{name} of {release} against {oldest}"
                compare(found[signature][name], value, name, place)


def compare(found, wanted, name, place):
    assert found.shape == wanted.shape, place
    if name == "overlay_bytes":
        for one, other in zip(found, wanted, strict=True):
            levels = [np.asarray(Image.open(io.BytesIO(data)), np.int16) for data in (one, other)]
            assert np.abs(levels[0] - levels[1]).max() <= GREY_LEVELS, place
    elif wanted.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance_of(name, wanted), err_msg=place)
    else:
        np.testing.assert_array_equal(found, wanted, err_msg=place)


def test_all_answer_what_the_formulas_say(versions):
    reference = Reference()
    for release, version in versions.items():
        manifest = manifest_of(version)
        if manifest["input"]["shape"] != list(SIZE):
            pytest.skip("a network with no reference in numpy; the export has compared it with the live model")
        images, classes = pictures(manifest), np.arange(5) % CLASSES
        answer = answers(version)
        np.testing.assert_allclose(
            answer["predict"]["predictions"], reference.predictions(images), rtol=0, atol=PREDICTIONS, err_msg=release
        )
        for method in set(manifest["explanation"]["methods"]) & ORACLES.keys():
            signature = contract.EXPLAIN if method == "gradcam" else contract.explain_signature(method)
            for row, (image, chosen) in enumerate(zip(images, classes, strict=True)):
                signed = ORACLES[method](*reference.evidence(image, chosen))
                raised = np.maximum(signed, 0)
                expected = raised / (raised.max() or 1)
                found = answer[signature]["heatmap"][row].ravel()
                np.testing.assert_allclose(found, expected, rtol=0, atol=HEATMAPS, err_msg=f"{release} {method} {row}")
