"""What `pip install` gives a stranger: wheels of the three distributions, installed and run outside the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from colour_server import Server
from packaging.metadata import Metadata
from packaging.utils import canonicalize_name
from PIL import Image

CHECKOUT = Path(__file__).parents[2]
LICENSE = (CHECKOUT / "LICENSE").read_bytes()
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
PACKAGES = {"gradcam-client": "client/gradcam_client", "gradcam-export": "export/gradcam_export"}

SUFFIXES = {".py", ".pyi", ".typed", ".proto", ".npz", ".html", ".css", ".js", ".json"}
CLIENT_BRINGS = {"gradcam-client", "grpcio", "numpy", "pillow", "protobuf", "typing-extensions"}
CLIENT_MEGABYTES = 120
"""Bytes of all files that installing the client adds to an empty environment, byte code left out, in millions."""


def run(*command, **environment):
    """Run a command outside the checkout; return its output, or fail with what it said."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The wheel of each distribution, by the distribution's name."""
    built = tmp_path_factory.mktemp("wheels")
    run(*PIP, "wheel", "--no-deps", "--wheel-dir", built, CHECKOUT, CHECKOUT / "client", CHECKOUT / "export")
    return {canonicalize_name(wheel.name.split("-")[0]): wheel for wheel in built.iterdir()}


@pytest.fixture(scope="module")
def client_alone(wheels, tmp_path_factory):
    """An environment that holds the client's wheel and what it brings, not even pip."""
    environment = tmp_path_factory.mktemp("client") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    tested = ("--constraint", CHECKOUT / "constraints.txt")
    run(*PIP, "--python", environment / "bin/python", "install", "--no-compile", *tested, wheels["gradcam-client"])
    return environment


@pytest.fixture(scope="module")
def exporter_elsewhere(wheels, tmp_path_factory):
    """A folder that holds the exporter's wheel; TensorFlow stays where the tests have it."""
    folder = tmp_path_factory.mktemp("exporter")
    run(*PIP, "install", "--no-deps", "--target", folder, wheels["gradcam-export"])
    return folder


def contents(wheel):
    """Return the files of a wheel's packages, and those of its metadata by their bare path."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    about = {name.split("/", 1)[1]: data for name, data in files.items() if ".dist-info/" in name}
    return {name: data for name, data in files.items() if ".dist-info/" not in name}, about


def metadata(wheel):
    return Metadata.from_email(contents(wheel)[1]["METADATA"], validate=False)


def required(wheel):
    return {requirement.name: requirement for requirement in metadata(wheel).requires_dist if not requirement.marker}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_the_package_and_nothing_else(wheels, name):
    source = CHECKOUT / PACKAGES[name]
    files, about = contents(wheels[name])
    assert files == {
        f"{source.name}/{path.relative_to(source)}": path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{source.name}/py.typed" in files
    assert {Path(file).suffix for file in files} <= SUFFIXES
    assert set(about) == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert about["licenses/LICENSE"] == LICENSE


def test_the_client_wheel_carries_its_data_and_its_wire(wheels):
    files, _ = contents(wheels["gradcam-client"])
    data = {"colormaps.npz", "report.html", "wire/gradcam_wire.proto", "wire/gradcam_wire_pb2.py"}
    assert {f"gradcam_client/{name}" for name in data} <= set(files)


@pytest.mark.parametrize("name", [*PACKAGES, "gradcam-serving"])
def test_metadata_names_version_licence_and_python(wheels, name):
    found = metadata(wheels[name])
    assert (found.name, found.license_expression, found.license_files) == (name, "Apache-2.0", ["LICENSE"])
    assert str(found.requires_python) == ">=3.11"
    assert {str(metadata(wheel).version) for wheel in wheels.values()} == {str(found.version)}
    assert f"## {found.version}" in (CHECKOUT / "CHANGELOG.md").read_text()


def test_the_exporter_takes_the_tensorflow_releases_that_export_for_the_server(wheels):
    needs = required(wheels["gradcam-export"])
    for name in ("tensorflow", "tensorflow-serving-api"):
        allowed = [needs[name].specifier.contains(version) for version in ("2.17.1", "2.18.0", "2.21.3", "2.22.0")]
        assert allowed == [False, True, True, False]


def test_neither_package_needs_the_other(wheels):
    # pip looks on the registry for what a requirement names: a stranger's package could take the name.
    for name, other in zip(PACKAGES, reversed(PACKAGES), strict=True):
        assert other not in {requirement.name for requirement in metadata(wheels[name]).requires_dist}


def test_the_root_installs_the_client_and_on_demand_the_exporter(wheels):
    files, _ = contents(wheels["gradcam-serving"])
    assert not files
    found = metadata(wheels["gradcam-serving"])
    client, export = found.requires_dist
    assert (client.name, client.url, client.marker) == ("gradcam-client", (CHECKOUT / "client").as_uri(), None)
    assert (export.name, export.url) == ("gradcam-export", (CHECKOUT / "export").as_uri())
    assert export.marker.evaluate({"extra": "export"})
    assert not export.marker.evaluate({"extra": ""})
    assert found.provides_extra == ["export"]


def test_the_tested_versions_are_ones_that_the_metadata_allows(wheels):
    pinned = dict(line.split("==") for line in _lines(CHECKOUT / "constraints.txt"))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    for name in PACKAGES:
        for requirement in metadata(wheels[name]).requires_dist:
            if requirement.name != "apache-beam":  # in an environment of its own: tests/beam/constraints.txt
                assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])
    assert pinned["tensorflow"] == "2.20.0"


def _lines(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def test_the_client_brings_four_libraries_and_few_bytes(client_alone):
    listed = json.loads(run(*PIP, "--python", client_alone / "bin/python", "list", "--format", "json"))
    assert {canonicalize_name(package["name"]) for package in listed} == CLIENT_BRINGS
    (packages,) = client_alone.glob("lib/python3*/site-packages")
    installed = [path for path in packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in installed) / 1e6 < CLIENT_MEGABYTES


def test_importing_the_installed_client_loads_no_image_format(client_alone):
    code = (
        "import json, sys, gradcam_client\n"
        "files = {name: getattr(module, '__file__', None) or '' for name, module in sys.modules.items()}\n"
        "print(json.dumps([gradcam_client.__file__, *(name for name in files if 'site-packages' in files[name])]))"
    )
    file, *modules = json.loads(run(client_alone / "bin/python", "-c", code))
    assert file.startswith(str(client_alone))
    libraries = {"google", "grpc", "numpy", "PIL", "typing_extensions"}
    assert {module.split(".")[0] for module in modules} == {"gradcam_client", *libraries}
    assert not [module for module in modules if module.endswith("ImagePlugin")]


def test_the_installed_client_explains_a_picture(client_alone, tmp_path):
    Image.fromarray(np.full((16, 24, 3), (10, 200, 10), np.uint8)).save(tmp_path / "leaf.png")
    server = Server()
    out = ("--out", tmp_path / "out", "--report", tmp_path / "report.html", "--colormap", "viridis")
    try:
        asked = ("--server", server.target, "--model", "colours")
        told = run(client_alone / "bin/gradcam", "explain", tmp_path / "leaf.png", *asked, *out)
    finally:
        server.stop()
    assert told.split("\t")[:2] == [str(tmp_path / "leaf.png"), "green"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "leaf_heatmap.png",
        "leaf_overlay.png",
        "results.jsonl",
    ]
    assert "leaf.png" in (tmp_path / "report.html").read_text()


def test_the_installed_exporter_inspects_a_classifier(exporter_elsewhere, tmp_path):
    layers = keras.layers
    convolution, pool = layers.Conv2D(4, 3, name="last"), layers.GlobalAveragePooling2D()
    model = keras.Sequential([keras.Input((8, 8, 3)), convolution, pool, layers.Dense(3, activation="softmax")])
    model.save(tmp_path / "tiny.keras")
    command = exporter_elsewhere / "bin/gradcam-export"
    page = run(command, "inspect", tmp_path / "tiny.keras", PYTHONPATH=str(exporter_elsewhere))
    assert "3 classes, softmax" in page
    assert "chosen         last" in page


def test_the_installed_exporter_is_the_wheels_and_has_the_demo(exporter_elsewhere):
    code = "import gradcam_export, gradcam_export.demo; print(gradcam_export.__file__, gradcam_export.demo.__file__)"
    files = run(sys.executable, "-c", code, PYTHONPATH=str(exporter_elsewhere)).split()
    package = exporter_elsewhere / "gradcam_export"
    assert files == [str(package / "__init__.py"), str(package / "demo/__init__.py")]
