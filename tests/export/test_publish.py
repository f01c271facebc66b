"""Versions appear whole or not at all, whatever happens in between."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gradcam_export import PublishError
from gradcam_export.savedmodel import publish

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
export_classifier(model, sys.argv[1], on_step=on_step)
"""

STEPS = ("load", "trace", "choose", "explain", "fold", "assemble", "write", "warm up", "verify", "publish")


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


def finished(directory: Path, content: str = "graph") -> Path:
    directory.mkdir()
    (directory / "saved_model.pb").write_text(content)
    return directory


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
def test_killed_at_any_step_nothing_numeric_is_left_and_the_next_export_cleans_up(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda step: killed_in(tmp_path / step, step), STEPS))
    for step in STEPS[:-1]:
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
    assert publish.publish(finished(tmp_path / "new"), tmp_path) == tmp_path / "10"


def test_a_version_is_never_overwritten(tmp_path):
    finished(tmp_path / "3", "old")
    with pytest.raises(PublishError, match="3 exists; a published version is never overwritten"):
        publish.publish(finished(tmp_path / "new"), tmp_path, version=3)
    assert (tmp_path / "3" / "saved_model.pb").read_text() == "old"


def test_many_publishers_at_once_never_share_a_number(tmp_path):
    sources = [finished(tmp_path / f"new-{index}", str(index)) for index in range(16)]
    barrier = threading.Barrier(len(sources))

    def run(source: Path) -> None:
        barrier.wait()
        publish.publish(source, tmp_path)

    threads = [threading.Thread(target=run, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, versions(tmp_path))) == list(range(1, 17))
    contents = {(tmp_path / name / "saved_model.pb").read_text() for name in versions(tmp_path)}
    assert contents == {str(index) for index in range(16)}


def test_a_failure_leaves_nothing_behind(tmp_path):
    base = tmp_path / "m"

    def fail() -> None:
        with publish.unpublished_version(base) as directory:
            assert not directory.name.isdigit()
            (directory / "saved_model.pb").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(base.iterdir()) == []


def test_what_living_exports_are_writing_is_left_alone(tmp_path):
    with publish.unpublished_version(tmp_path) as mine, publish.unpublished_version(tmp_path) as other:
        assert mine.is_dir()
        assert other.is_dir()


def test_a_base_path_that_cannot_be_written_to_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(PublishError, match="file/m: cannot be written to: Not a directory")
    with refused, publish.unpublished_version(tmp_path / "file" / "m"):
        pytest.fail("the directory must not be given")


def test_a_rename_that_fails_is_one_clear_line(tmp_path):
    with pytest.raises(PublishError, match="1: cannot be put in place"):
        publish.publish(finished(tmp_path / "elsewhere"), tmp_path / "no-such-base", version=1)
