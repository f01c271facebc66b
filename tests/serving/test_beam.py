"""Pipelines of Apache Beam, which lives in an environment of its own, against the embedded server: make test-beam."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from classifiers import FAMILIES, photographs
from gradcam_client import Client
from gradcam_export import export_classifier
from gradcam_export.server import EmbeddedServer, ServedModel
from lean import LEAN
from PIL import Image

ROOT = Path(__file__).parents[2]
SNIPPETS = [
    text
    for text in re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    if "gradcam_client.beam" in text
]
BEAM = os.environ.get("BEAM_PYTHON", "")
"""The Python of the environment that holds Apache Beam."""
LABELS = ["ant", "bee", "cat", "dog", "eel"]
IMAGES = 12

needs_beam = pytest.mark.skipif(not BEAM, reason="needs an environment of its own, with Apache Beam: make test-beam")


def test_without_apache_beam_it_says_what_to_install():
    code = "import sys; sys.modules['apache_beam'] = None; import gradcam_client.beam"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: gradcam_client.beam: Apache Beam is not installed: pip install 'gradcam-client[beam]'"
    )


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "insects"
    export_classifier(FAMILIES["nested"].model(), base, labels=LABELS, **LEAN)
    with EmbeddedServer([ServedModel(name="flowers", base_path=base)]) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of photographs, and a file that is none."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, pixels in enumerate(photographs(IMAGES)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def run(*arguments: object) -> None:
    """Run the other environment's Python."""
    done = subprocess.run([BEAM, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def lines(folder: Path, name: str) -> list:
    return [json.loads(line) for path in folder.glob(f"{name}-*") for line in path.read_text("utf-8").splitlines()]


@needs_beam
def test_workers_answer_what_the_client_answers(target, photos, tmp_path):
    run(ROOT / "tests/beam/explain_folder.py", target, "flowers", photos, tmp_path)
    explained = dict(lines(tmp_path, "explained"))
    assert explained.keys() == {f"{number}.png" for number in range(IMAGES)}
    with Client(target, model="flowers") as client:
        for name, answer in explained.items():
            expected = client.explain(photos / name)
            assert (answer["label"], answer["model_version"]) == (expected.label, 1)
            np.testing.assert_allclose(answer["heatmap"], expected.heatmap, rtol=0, atol=1e-5)
            np.testing.assert_allclose(answer["predictions"], expected.predictions, rtol=0, atol=1e-6)
    message = "the image of 10 bytes: is not an image that Pillow can read"
    assert lines(tmp_path, "failed") == [["broken.png", "ImageError", message]]


@needs_beam
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_readmes_pipeline_runs(target, photos, tmp_path, snippet):
    (tmp_path / "pipeline.py").write_text(snippet.replace("localhost:8500", target), "utf-8")
    run("pipeline.py")
    written = "".join(path.read_text("utf-8") for path in tmp_path.iterdir() if path.is_file() and "-of-" in path.name)
    assert all(path.name in written for path in photos.iterdir())
