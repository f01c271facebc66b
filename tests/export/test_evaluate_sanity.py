"""The sanity check by randomisation: weights of a published version are destroyed from the answer down."""

import shutil

import numpy as np
import pytest
from classifiers import FAMILIES, photographs
from gradcam_export import export_classifier
from gradcam_export.checks.quality.explaining import ExplainingVersion
from gradcam_export.checks.quality.randomised import RandomisableVersion, map_correlations, stages
from gradcam_export.cli import main
from gradcam_export.errors import VersionError
from lean import LEAN
from PIL import Image

METHODS = ["gradcam", "eigencam"]


@pytest.fixture(scope="module")
def model():
    return FAMILIES["functional"].model()


@pytest.fixture(scope="module", params=["none", "in-graph"])
def version(request, model, tmp_path_factory):
    options = {**LEAN, "batching": request.param, "max_batch_size": 2}
    return export_classifier(model, tmp_path_factory.mktemp("models") / "m", method=METHODS, **options).path


@pytest.fixture
def loaded(version):
    randomisable = RandomisableVersion.load(version)
    intact = ExplainingVersion.load(version, 8)
    with ExplainingVersion(randomisable, intact.facts, 8) as randomised, intact:
        yield randomisable, randomised, intact


def test_weights_are_destroyed_from_the_answer_down(loaded, model):
    randomisable, randomised, intact = loaded
    images = photographs(6)
    classes = intact.predict(images).argmax(axis=1)
    maps = {method: intact.explain(method, images, classes) for method in METHODS}
    assert map_correlations(randomised, images, classes, maps) == {"gradcam": 1, "eigencam": 1}
    kernels = [weight for weight in model.weights if "kernel" in weight.path]
    assert randomisable.layers == len(kernels)
    randomisable.randomise(1)
    head = map_correlations(randomised, images, classes, maps)
    # The features are what they were, and Eigen-CAM asks for nothing else; the scores are not.
    assert head["eigencam"] == 1
    assert head["gradcam"] < 0.6
    assert np.abs(randomised.predict(images) - intact.predict(images)).max() > 0.01
    randomisable.randomise(randomisable.layers)
    everything = map_correlations(randomised, images, classes, maps)
    assert everything["eigencam"] < 0.9
    assert everything["gradcam"] < 0.6


def test_it_is_randomised_in_the_same_way_each_time(version, loaded):
    randomisable, randomised, intact = loaded
    randomisable.randomise(2)
    again = RandomisableVersion.load(version)
    again.randomise(1)
    again.randomise(2)
    with ExplainingVersion(again, intact.facts, 8) as other:
        np.testing.assert_array_equal(other.predict(photographs(2)), randomised.predict(photographs(2)))


def test_weights_that_cannot_be_read_are_said_in_one_line(version, tmp_path):
    copy = shutil.copytree(version, tmp_path / "1")
    (copy / "variables/variables.index").write_bytes(b"")
    with pytest.raises(VersionError, match=r"1: cannot be loaded: [^\n]+$"):
        ExplainingVersion.load(copy, 8)


def test_stages_are_the_head_and_quarters():
    assert [stages(layers) for layers in (0, 1, 2, 8, 53)] == [[], [1], [1, 2], [1, 2, 4, 6, 8], [1, 14, 27, 40, 53]]


def test_the_command_reports_head_and_all(version, tmp_path, capsys):
    for index, pixels in enumerate(photographs(3)):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    page = tmp_path / "page.html"
    assert main(["evaluate", str(version), "--images", str(tmp_path), "--steps", "1", "--html", str(page)]) == 0
    said = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in said.out.splitlines() if line.startswith(("gradcam", "eigencam"))}
    assert rows["eigencam"][-2] == "1.000"
    assert float(rows["gradcam"][-2]) < 0.9
    assert "randomising ████████████████████ 5/5 stages" in said.err
    # What does not change is marked.
    assert '<td class="number bad">1.000</td>' in page.read_text()


def test_constants_cannot_be_randomised_and_that_is_said(model, tmp_path, capsys):
    version = export_classifier(model, tmp_path / "m", weights="constants", **LEAN).path
    Image.fromarray(photographs(1)[0]).save(tmp_path / "0.png")
    assert main(["evaluate", str(version), "--images", str(tmp_path), "--steps", "1"]) == 0
    said = capsys.readouterr()
    assert "no sanity check: this version's weights are constants of its graph; build it with --weights" in said.out
    assert "sanity, head" not in said.out
