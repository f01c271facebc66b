"""Versions appear whole or not at all, whatever happens in between."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from finished_versions import MANIFEST, VERSION_FILES, at_once, finished
from gradcam_export import OptionError, PublishError, export_classifier, publish_version
from gradcam_export.savedmodel.publish import base_path_at

EXPORT = """
import sys, keras
from gradcam_export import export_classifier

def on_step(name, seconds):
    if seconds is None:
        print(name, flush=True)

keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
    keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax"),
])
export_classifier(model, sys.argv[1], on_step=on_step, batching="none", max_image_bytes=0)
"""

STEPS = ("load", "trace", "choose", "explain", "fold", "assemble", "write", "warm up", "verify", "publish")
WRITING = STEPS[-4:]


def export(base: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(base)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def versions(base: Path) -> list[str]:
    return sorted(child.name for child in base.iterdir() if child.name.isdigit())


def killed_in(base: Path, step: str) -> None:
    """Kill an export a moment after it has begun `step`."""
    process = export(base)
    for line in process.stdout:
        if line.strip() == step:
            break
    # Into the step, not only to its threshold: what runs there is killed wherever it happens to be.
    time.sleep(0.03)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [WRITING, pytest.param(STEPS, marks=pytest.mark.large)])
def test_killed_at_any_step_nothing_numeric_is_left_and_the_next_export_cleans_up(tmp_path, steps):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda step: killed_in(tmp_path / step, step), steps))
    for step in steps[:-1]:
        assert not (tmp_path / step).exists() or versions(tmp_path / step) == []
    for version in versions(tmp_path / "publish"):
        # The last step takes no longer than the signal: what did appear is whole.
        assert (tmp_path / "publish" / version / "assets.extra" / "manifest.json").exists()
    left = list((tmp_path / "verify").iterdir())
    assert [child.name.startswith(".unpublished") for child in left] == [True]
    process = export(tmp_path / "verify")
    process.communicate()
    assert process.returncode == 0
    assert [child.name for child in (tmp_path / "verify").iterdir()] == ["1"]


@pytest.mark.slow
def test_two_exports_at_once_get_two_versions(tmp_path):
    base = tmp_path / "m"
    processes = [export(base) for _ in range(2)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(child.name for child in base.iterdir()) == ["1", "2"]


def test_the_next_free_number_is_taken(tmp_path):
    for name in ("1", "7", "007x", "v9", ".unpublished-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "9").write_text("a file of a number's name counts too")
    assert base_path_at(tmp_path).publish(finished(tmp_path / "new")) == str(tmp_path / "10")


@pytest.mark.parametrize("existing", ["3", "003"])
def test_a_version_is_never_overwritten(tmp_path, existing):
    finished(tmp_path / existing, "old")
    base = base_path_at(tmp_path)
    refused = "3 exists; a published version is never overwritten. Ask for another number, or for none"
    with pytest.raises(PublishError, match=refused):
        base.publish(finished(tmp_path / "new"), version=3)
    with pytest.raises(PublishError, match=refused):
        base.check(3)
    assert [(tmp_path / existing / name).read_text() for name in VERSION_FILES[:-1]] == ["old"] * 4
    assert versions(tmp_path) == [existing]


@pytest.mark.parametrize("version", [-1, 2**63])
def test_a_number_that_no_server_reads_is_refused(tmp_path, version):
    with pytest.raises(OptionError, match=f"version must be a number from 0 to {2**63 - 1}; got {version}"):
        publish_version(finished(tmp_path / "1"), tmp_path / "m", version=version)
    assert not (tmp_path / "m").exists()


def test_an_export_that_could_not_be_published_ends_before_it_begins(tmp_path):
    finished(tmp_path / "4")
    with pytest.raises(PublishError, match="4 exists; a published version is never overwritten"):
        export_classifier(tmp_path / "no-such.keras", tmp_path, version=4)


@pytest.mark.parametrize("copy", [True, False])
def test_many_publishers_at_once_never_share_a_number(tmp_path, copy):
    base = base_path_at(tmp_path / "m")
    sources = [finished(tmp_path / f"m/new-{index}", str(index)) for index in range(16)]
    published = at_once(base.publish_copy if copy else base.publish, sources)
    assert sorted(int(Path(place).name) for place in published) == list(range(1, 17))
    for index, place in enumerate(published):
        assert {Path(place, name).read_text() for name in VERSION_FILES[:-1]} == {str(index)}
        assert json.loads(Path(place, MANIFEST).read_text())["content"] == str(index)
    assert all(source.exists() == copy for source in sources)


def test_of_many_publishers_of_one_number_one_succeeds(tmp_path):
    sources = [finished(tmp_path / f"new-{index}", str(index)) for index in range(8)]
    results = at_once(lambda source: publish_version(source, tmp_path / "m", version=5), sources)
    (winner,) = [index for index, result in enumerate(results) if isinstance(result, str)]
    assert {str(result) for result in results if not isinstance(result, str)} == {
        f"{tmp_path}/m/5 exists; a published version is never overwritten. "
        "Ask for another number, or for none to get the next free one."
    }
    assert [child.name for child in (tmp_path / "m").iterdir()] == ["5"]
    assert (tmp_path / "m/5/variables/variables.index").read_text() == str(winner)


def test_a_failure_leaves_nothing_behind(tmp_path):
    base = tmp_path / "m"

    def fail() -> None:
        with base_path_at(base).unpublished() as directory:
            assert not directory.name.isdigit()
            (directory / "saved_model.pb").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(base.iterdir()) == []


def test_what_living_exports_are_writing_is_left_alone(tmp_path):
    base = base_path_at(tmp_path)
    with base.unpublished() as mine, base.unpublished() as other:
        assert mine.is_dir()
        assert other.is_dir()


def test_a_base_path_that_cannot_be_used_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(PublishError, match="file/m: cannot be written to: Not a directory")
    with refused, base_path_at(tmp_path / "file/m").unpublished():
        pytest.fail("the directory must not be given")
    with pytest.raises(PublishError, match="file: cannot be read: Not a directory"):
        base_path_at(tmp_path / "file").check(None)


def test_a_rename_that_fails_is_one_clear_line(tmp_path):
    with pytest.raises(PublishError, match="1: cannot be put in place"):
        base_path_at(tmp_path / "no-such-base").publish(finished(tmp_path / "elsewhere"), version=1)


def test_what_cannot_be_flushed_is_not_published(tmp_path):
    (finished(tmp_path / "new") / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PublishError, match="new: cannot be written to disk: No such file or directory"):
        base_path_at(tmp_path).publish(tmp_path / "new")
    assert versions(tmp_path) == []
