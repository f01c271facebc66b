"""The action's steps, run in bash with a small classifier, from nothing published to a version refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from gradcam_export import PublishError, export_classifier
from gradcam_export.savedmodel.last_version import fetch_last_version
from keras import layers
from lean import LEAN
from PIL import Image
from pipeline import ACTION, CompositeRun, composite_steps

NOT_INSTALLED = ("Set up Python", "Install the exporter")
LABELS = ("ant", "bee", "cat")
ARGUMENTS = "--batching none\n--max-image-bytes 0"


def classifier(seed):
    keras.utils.set_random_seed(seed)
    network = [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((12, 12, 3)), *network, layers.Dense(3, activation="softmax")])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A team's repository: a classifier, labels and images, with blanks in their names."""
    folder = tmp_path_factory.mktemp("checkout")
    classifier(1).save(folder / "the insects.keras")
    (folder / "the labels.txt").write_text("\n".join(LABELS))
    (folder / "some images").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"some images/{number}.png")
    return folder


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The commands of this checkout, as its installation would put them on PATH."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "python").write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    (folder / "gradcam-export").write_text(f'#!/bin/bash\nexec "{sys.executable}" -m gradcam_export.cli "$@"\n')
    for script in folder.iterdir():
        script.chmod(0o755)
    return folder


def action(checkout, commands, **inputs):
    given = {"model": "the insects.keras", "labels": "the labels.txt", "images": "some images"}
    given |= {"base_path": "models/insects", "arguments": ARGUMENTS}
    (checkout / ".summary").unlink(missing_ok=True)
    return CompositeRun(checkout, commands, **{**given, **inputs})


@pytest.mark.large
def test_the_first_version_is_published_and_one_that_looks_elsewhere_is_not(checkout, commands):
    first = action(checkout, commands).run()
    assert not first.failed, first.log[-3000:]
    assert first.outputs == {"version": "1", "location": "models/insects/1", "report": "gradcam-report"}
    manifest = json.loads((checkout / "models/insects/1/assets.extra/manifest.json").read_text())
    assert (manifest["model"]["name"], manifest["labels"]) == ("insects", list(LABELS))
    assert manifest["batching"]["mode"] == "none"
    assert json.loads((checkout / "gradcam-report/verify.json").read_text())
    assert "|" in first.summary
    assert "Nothing to compare" in first.summary

    classifier(2).save(checkout / "the insects.keras")
    judged = (*NOT_INSTALLED, "Verify")  # once is enough
    other = action(checkout, commands, max_flips="0", min_iou="0.99").run(without=judged)
    assert other.failed == "Compare with the last published version", other.log[-3000:]
    assert other.outputs["version"] == other.outputs["location"] == ""
    assert [path.name for path in (checkout / "models/insects").iterdir() if path.name.isdigit()] == ["1"]
    assert (checkout / "gradcam-report/compare.html").is_file()
    assert (checkout / "gradcam-report/compare.md").read_text().strip() in other.summary


@pytest.fixture(scope="module")
def published(checkout):
    """Versions 1 and 2 of a model, and a 3 that somebody still uploads."""
    base = checkout / "published/insects"
    for _ in range(2):
        export_classifier(classifier(1), base, **LEAN)
    (base / "3/variables").mkdir(parents=True)
    return base


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_the_last_finished_version_is_fetched_from_any_place(published, tmp_path, scheme):
    place = f"{scheme}{published}"
    if scheme == "memory://":
        import fsspec

        fsspec.filesystem("memory").put(f"{published}/", f"{place}/", recursive=True)
    assert fetch_last_version(place, tmp_path / "last") == 2
    assert contents(tmp_path / "last") == contents(published / "2")


def test_where_nothing_is_published_nothing_is_fetched(tmp_path):
    for place in (tmp_path / "new", "memory://new/model"):
        assert fetch_last_version(place, tmp_path / "last") is None
    assert not (tmp_path / "last").exists()


def test_a_directory_that_exists_is_left_alone(published, tmp_path):
    with pytest.raises(PublishError, match=f"{tmp_path} exists: name a directory that version 2 of"):
        fetch_last_version(published, tmp_path)


def test_a_version_that_cannot_be_copied_says_so(published, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match=r"insects/2: cannot be copied to .*file/last: "):
        fetch_last_version(published, tmp_path / "file" / "last")


def test_the_command_fetches_and_tells_faults_in_one_line(published, tmp_path):
    command = [sys.executable, "-m", "gradcam_export.savedmodel.last_version"]
    done = subprocess.run([*command, published, tmp_path / "last"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "last/saved_model.pb").is_file()
    done = subprocess.run([*command, "s3:/typo", tmp_path / "other"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: s3:/typo is no URL of a base path")
    assert done.stderr.count("\n") == 1


def test_a_pull_request_builds_and_judges_but_publishes_nothing(checkout, commands, tmp_path):
    """The steps around the exporter, with commands that only tell what they were asked."""
    told = tmp_path / "gradcam-export"
    told.write_text('#!/bin/bash\necho "$*" >> told\necho "models/built/1"\n')
    told.chmod(0o755)
    (tmp_path / "python").symlink_to(commands / "python")
    run = action(checkout, tmp_path, publish="false", precision="bfloat16", compare_with="none", images="").run()
    assert not run.failed, run.log
    built, verified = (checkout / "told").read_text().splitlines()
    assert re.fullmatch(
        r"build the insects.keras /\S+/built/insects --precision bfloat16 "
        r"--batching none --max-image-bytes 0 --labels the labels.txt",
        built,
    )
    assert verified.startswith("verify models/built/1 --model the insects.keras --report gradcam-report/verify.json")
    assert run.outputs["version"] == ""
    assert run.outputs["location"] == "models/built/1"
    (checkout / "told").unlink()


@pytest.mark.parametrize(("exporter", "wanted"), [("", None), ("a.whl tensorflow==2.20.0", "a.whl tensorflow==2.20.0")])
def test_what_is_installed_is_the_exporter_beside_the_action_unless_told(checkout, tmp_path, exporter, wanted):
    (tmp_path / "python").write_text('#!/bin/bash\necho "$*" > told\n')
    (tmp_path / "python").chmod(0o755)
    run = CompositeRun(checkout, tmp_path, model="m", base_path="b", exporter=exporter)
    names = tuple(step["name"] for step in composite_steps() if step["name"] != "Install the exporter")
    run.run(without=names)
    told = (checkout / "told").read_text().split(" ", 4)
    (checkout / "told").unlink()
    assert told[:4] == ["-m", "pip", "install", "--quiet"]
    if wanted is None:
        source, _, constraints = told[4].split()
        assert Path(source, "pyproject.toml").is_file()
        assert os.path.normpath(constraints) == str(ACTION.parents[3] / "constraints.txt")
    else:
        assert told[4].strip() == wanted
