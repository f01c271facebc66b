"""Publishing by URL: which driver, what the command says, and a real export that goes into a store."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import fsspec
import keras
import numpy as np
import pytest
from finished_versions import finished
from fsspec.implementations.memory import MemoryFileSystem
from gradcam_export import PublishError, export_classifier, publish_version
from gradcam_export.cli import main
from gradcam_export.savedmodel.session import LoadedVersion
from lean import LEAN

BASE = "memory://a-bucket/models/insects"


@pytest.fixture
def memory():
    """The store behind memory://, which all of a process share."""
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/a-bucket", recursive=True)


@pytest.fixture
def source(tmp_path):
    """A version on this machine."""
    return finished(tmp_path / "built/3")


class Unreachable(MemoryFileSystem):
    """A driver that does not get as far as a connection."""

    protocol = "unreachable"
    cachable = False

    def __init__(self):
        raise RuntimeError("no metadata server")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "nodriver://bucket/m",
            "nodriver://bucket/m: the driver for nodriver:// is not installed: pip install nowhere_to_be_found",
        ),
        ("brings://bucket/m", "brings://bucket/m: the driver for brings:// is not installed: needs a spell"),
        ("unreachable://bucket/m", "unreachable://bucket/m: cannot be reached: RuntimeError: no metadata server."),
        ("quux://bucket/m", "quux://bucket/m: cannot be reached: ValueError: Protocol not known: quux."),
        ("memory://", "memory:// names no base path: those look like gs://bucket/models/flowers."),
        ("gs:/bucket/m", "gs:/bucket/m is no URL of a base path: those look like gs://bucket/models/flowers, as text."),
        (Path("gs://bucket/m"), "gs:/bucket/m is no URL of a base path"),
        ("GS://bucket/m", "GS://bucket/m is no URL of a base path"),
        ("://bucket/m", "://bucket/m is no URL of a base path"),
        ("simplecache::memory://bucket/m", "simplecache::memory://bucket/m is no URL of a base path"),
        ("memory://zip::bucket/m", "memory://zip::bucket/m is no URL of a base path"),
    ],
)
def test_a_bad_url_is_one_clear_line_before_anything_is_done(place, message, source, capsys):
    fsspec.register_implementation("nodriver", "nowhere_to_be_found.Store", clobber=True)
    fsspec.register_implementation("brings", "fsspec.no_such_module.Store", errtxt="needs a spell", clobber=True)
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    with pytest.raises(PublishError) as raised:
        publish_version(source, place)
    assert str(raised.value).startswith(message)
    assert main(["build", "no-such.keras", str(place)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")


@pytest.mark.parametrize(("protocol", "library"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_the_driver_to_install_is_named(source, protocol, library):
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed here")
    with pytest.raises(PublishError, match=f"driver for {protocol}:// is not installed: pip install {library}$"):
        publish_version(source, f"{protocol}://bucket/models/flowers")


def test_publish_prints_where_the_version_is(memory, source, capsys):
    assert main(["publish", str(source), BASE, "--version", "12"]) == 0
    assert capsys.readouterr() == (f"{BASE}/12\n", "")
    assert main(["publish", str(source), str(source.parents[1] / "m")]) == 0
    assert capsys.readouterr().out == f"{source.parents[1]}/m/1\n"
    assert main(["publish", str(source), BASE, "--version", "12"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {BASE}/12 exists; a published version is never overwritten.")
    assert main(["publish", str(source.parent), BASE]) == 1
    assert capsys.readouterr().err.endswith("is no version that gradcam-export published: it has no saved_model.pb.\n")


def test_publish_does_not_wait_for_tensorflow(source, tmp_path):
    code = (
        "import sys; from gradcam_export.cli import main; "
        f"assert main(['publish', {str(source)!r}, {str(tmp_path / 'm')!r}]) == 0; "
        "print('tensorflow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == f"{tmp_path}/m/1\nFalse\n"


def test_an_export_to_a_url_is_verified_here_and_served_from_there(memory, tmp_path):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(4, 3, activation="relu")])
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(3, activation="softmax"))
    published = export_classifier(model, BASE, labels=["ant", "bee", "cat"], **LEAN)
    assert (published.location, published.number) == (f"{BASE}/1", 1)
    assert published.manifest.model["name"] == "insects"
    with pytest.raises(PublishError, match="insects/1 is no directory of this machine: take its location"):
        _ = published.path
    assert [child.rpartition("/")[2] for child in memory.ls("/a-bucket/models/insects", detail=False)] == ["1"]
    memory.get("/a-bucket/models/insects/1", str(tmp_path / "fetched"), recursive=True)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    with LoadedVersion.load(tmp_path / "fetched") as loaded:
        answer = loaded.run("serving_default", {"images": images})
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-5)
    assert answer["heatmap"].max(axis=(1, 2)) == pytest.approx(1)
    # What build writes is what publish takes for finished.
    copy = Path(publish_version(tmp_path / "fetched", tmp_path / "m"))
    assert json.loads((copy / "assets.extra/manifest.json").read_text())["verified"] == published.manifest.verified
