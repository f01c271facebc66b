"""The bill of materials, held against its standard's schema and what is installed."""

import json
from importlib import metadata

import keras
import pytest
from gradcam_export import OptionError, export_classifier
from gradcam_export.savedmodel.bill_of_materials import bill_of_materials, write_bill_of_materials
from keras import layers
from lean import LEAN


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = [layers.Conv2D(2, 3), layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *network])
    return export_classifier(model, tmp_path_factory.mktemp("models") / "tiny", **LEAN)


@pytest.fixture(scope="module")
def bill(version, tmp_path_factory):
    path = tmp_path_factory.mktemp("bill") / "sbom.json"
    write_bill_of_materials(version.manifest, path)
    return json.loads(path.read_text())


def test_the_standards_own_schema_accepts_it(bill):
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    assert validator.validate_str(json.dumps(bill | {"specVersion": 1})) is not None


def test_the_model_and_its_files_bear_the_manifest_s_digests(bill, version):
    model = bill["metadata"]["component"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "tiny")
    assert f"sha256:{model['hashes'][0]['content']}" == version.manifest.digest
    files = {one["name"]: one["hashes"] for one in bill["components"] if one["type"] == "file"}
    assert {name: f"sha256:{content[0]['content']}" for name, content in files.items()} == version.manifest.files
    assert "saved_model.pb" in files


def test_what_the_exporter_needs_is_listed_as_installed_with_its_licence(bill):
    libraries = {one["name"]: one for one in bill["components"] if one["type"] == "library"}
    assert {"gradcam-export", "tensorflow", "keras", "numpy", "pillow", "grpcio"} <= set(libraries)
    assert not {"pytest", "gradcam-client", "scikit-learn"} & set(libraries)
    for name, library in libraries.items():
        assert library["version"] == metadata.version(name)
        assert library["purl"] == f"pkg:pypi/{name}@{library['version']}"
    assert libraries["gradcam-export"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert libraries["tensorflow"]["licenses"]


def test_everything_that_depends_or_is_depended_on_is_listed(bill):
    known = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    depends = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert known >= {*depends, *(one for needed in depends.values() for one in needed)}
    (exporter,) = depends["model"]
    assert exporter.startswith("pkg:pypi/gradcam-export@")
    assert any(one.startswith("pkg:pypi/tensorflow@") for one in depends[exporter])
    references = [one["bom-ref"] for one in bill["components"]]
    assert len(references) == len(set(references))


def test_equal_versions_have_equal_bills(bill, version):
    assert bill_of_materials(version.manifest) == bill


def test_a_place_that_cannot_be_written_to_is_named(version, tmp_path):
    with pytest.raises(OptionError, match=r"nowhere/sbom.json: cannot be written to: No such file or directory\."):
        write_bill_of_materials(version.manifest, tmp_path / "nowhere" / "sbom.json")
