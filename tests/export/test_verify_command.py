"""`gradcam-export verify`: what it prints, writes and answers, on a version here and on one that is served."""

import contextlib
import json
import re
import shutil
from unittest import mock

import numpy as np
import pytest
from disk_faults import EDITS, manifest_with
from exporter_faults import ROAD
from gradcam_export.checks import verify as checks_verify
from gradcam_export.cli import main
from gradcam_export.server import EmbeddedServer, ServedModel
from mutations import network, published

ROAD_FAULTS = {fault.name: fault for fault in ROAD}
EDIT_FAULTS = {fault.name: fault for fault in EDITS}


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "network.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def good(model, tmp_path_factory):
    return published(model, tmp_path_factory.mktemp("good"))


@pytest.fixture
def here():
    """Spare the command the start of another process."""

    def report_here(version, expected, scope):
        with np.load(expected) as values:
            return checks_verify.verify(version, values, scope)

    with mock.patch.object(checks_verify, "report_of_fresh_process", report_here):
        yield


def command(*arguments) -> int:
    return main(["verify", *map(str, arguments)])


def test_a_good_version_is_verified_in_a_process_of_its_own(good, file, tmp_path, capsys):
    report, summary = tmp_path / "report.json", tmp_path / "summary.md"
    summary.write_text("before\n")
    code = command(good, "--model", file, "--report", report, "--markdown", summary)
    captured = capsys.readouterr()
    assert code == 0, captured.out
    lines = captured.out.splitlines()
    assert lines[0].split() == ["check", "difference", "tolerance", "verdict"]
    found = json.loads(report.read_text(), parse_constant=lambda constant: pytest.fail(constant))
    assert found["passed"]
    assert lines[-1] == f"all {len(found['checks'])} checks hold"
    assert {check["check"] for check in found["checks"]} >= {"predictions", "heatmap of gradcam", "bytes of memory"}
    assert all(check["passed"] and check["largest_difference"] is not None for check in found["checks"])
    written = summary.read_text()
    assert written.startswith(f"before\n### {good}: verified\n")
    assert "| predictions | " in written
    assert written.count(" | ok |") == len(found["checks"])


@pytest.mark.usefixtures("here")
def test_a_wrong_version_is_refused_by_the_name_of_its_fault(model, file, tmp_path, capsys):
    with ROAD_FAULTS["preprocessing of another mode"].road(model):
        version = published(model, tmp_path)
    report, summary = tmp_path / "report.json", tmp_path / "summary.md"
    assert command(version, "--model", file, "--report", report, "--markdown", summary) == 1
    captured = capsys.readouterr()
    assert "the preprocessing is 'tf' instead of 'unit'" in captured.out
    assert captured.out.splitlines()[-1].startswith("refused: ")
    assert "looking for the fault" in captured.err
    failures = [check for check in json.loads(report.read_text())["checks"] if not check["passed"]]
    assert "the preprocessing is 'tf' instead of 'unit'" in failures[0]["message"]
    assert summary.read_text().startswith(f"### {version}: refused\n\n- **predictions**: predictions\\[")
    # Told so, the model is asked as the version was made.
    capsys.readouterr()
    assert command(version, "--model", file, "--preprocessing", "tf") == 0


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-bytes", "1000"], r"bytes on disk: [\d,]+ where at most 1,000 are allowed"),
        (["--max-memory", "1"], r"bytes of memory: [\d,]+ where at most 1 are allowed"),
        (["--labels", "{other}"], "label 1 is 'class_1' instead of 'class_2' as .*other.txt has it"),
        (["--labels", "{fewer}"], "5 labels instead of 2 as .*fewer.txt has it"),
    ],
)
def test_limits_and_labels_are_held(good, tmp_path, capsys, arguments, message):
    names = {name: tmp_path / f"{name}.txt" for name in ("other", "fewer")}
    names["other"].write_text("class_0\nclass_2\nclass_1\nclass_3\nclass_4\n")
    names["fewer"].write_text("class_0\nclass_1\n")
    assert command(good, *(argument.format(**names) for argument in arguments)) == 1
    assert re.search(message, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{good}", "--model-name", "flowers"], "--model-name says what a server calls the model: give --server"),
        (["{nowhere}"], "there is no such directory"),
        (["{good}", "--report", "{nowhere}/report.json"], "report.json: cannot be written to: No such file"),
        (["{good}", "--images", "{nowhere}"], "nowhere: is no folder of images"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_cannot_be_done_is_said_in_one_line(good, tmp_path, capsys, arguments, message):
    assert command(*(one.format(good=good, nowhere=tmp_path / "nowhere") for one in arguments)) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert message in said


@contextlib.contextmanager
def serving(base_path, name="tiny"):
    with EmbeddedServer([ServedModel(name=name, base_path=base_path)]) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.mark.usefixtures("here")
def test_files_that_were_changed_after_the_build_are_named(good, tmp_path, capsys):
    version = shutil.copytree(good, tmp_path / "1")
    files = {"assets/labels.txt": "sha256:0", "notes.txt": "sha256:0"}
    manifest_with(files=files)(version)
    assert command(version) == 1
    said = capsys.readouterr().out
    assert "notes.txt is missing" in said
    assert "assets/labels.txt was changed" in said


@pytest.mark.usefixtures("here")
def test_a_served_version_is_verified_through_its_server(good, file, capsys):
    with serving(good.parent) as address:
        code = command(good, "--model", file, "--server", address, "--model-name", "tiny")
    out = capsys.readouterr().out
    assert code == 0, out
    assert "batching_isolation" in out
    assert "bytes of memory" not in out


@pytest.mark.usefixtures("here")
def test_another_version_than_the_one_given_is_not_verified_by_mistake(good, tmp_path, capsys):
    EDIT_FAULTS["manifest of other weights"].edit(shutil.copytree(good, tmp_path / "other/1"))
    with serving(tmp_path / "other") as address:
        assert command(good, "--server", address, "--model-name", "tiny") == 1
    assert "describe answers another manifest than assets.extra holds" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_server_without_the_version_is_named(good, tmp_path, capsys):
    second = shutil.copytree(good, tmp_path / "model/2")
    with serving(good.parent) as address:
        assert command(good, "--server", address, "--model-name", "roses") == 1
        assert f"error: {address} serves no model 'roses' version 1: NOT_FOUND" in capsys.readouterr().err
        assert command(second, "--server", address, "--model-name", "tiny") == 1
        assert f"{address} serves no model 'tiny' version 2: NOT_FOUND" in capsys.readouterr().err
    assert command(good, "--server", address) == 1
    assert f"error: {address} serves no model 'model' version 1: UNAVAILABLE" in capsys.readouterr().err
