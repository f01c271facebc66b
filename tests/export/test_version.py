"""What is a published version, and what is none."""

import json

import pytest
from gradcam_export.checks.version import read_image_classifier, read_manifest
from gradcam_export.errors import OptionError, VersionError

PICTURES = {"name": "images", "shape": [8, 10, 3], "dtype": "uint8"}
FACTS = {"schema": 1, "input": PICTURES, "more_inputs": [], "labels": ["ant", "bee"], "explanation": {"grid": [4, 5]}}


@pytest.fixture
def version(tmp_path):
    directory = tmp_path / "insects" / "7"
    (directory / "assets.extra").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph")
    write(directory, FACTS)
    return directory


def write(directory, facts):
    (directory / "assets.extra/manifest.json").write_text(json.dumps(facts))


def test_the_manifest_is_what_lies_in_the_version(version):
    assert read_manifest(version) == FACTS
    assert read_image_classifier(str(version)) == FACTS


def test_a_directory_that_is_not_there_is_refused(version):
    with pytest.raises(VersionError, match=r"insects/8: there is no such directory; a version is one like"):
        read_manifest(version.parent / "8")


@pytest.mark.parametrize("name", ["saved_model.pb", "assets.extra/manifest.json"])
def test_what_is_missing_is_named(name, version):
    (version / name).unlink()
    with pytest.raises(VersionError, match=rf"insects/7: is no published version, it has no {name}\.$"):
        read_manifest(version)


def test_whoever_names_the_base_path_is_told_of_its_versions(version):
    with pytest.raises(VersionError, match=r"it has no saved_model\.pb\. Name one of the versions in it, like .*/7\."):
        read_manifest(version.parent)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""], ids=["cut off", "no text", "empty"])
def test_a_manifest_that_is_no_json_is_refused(content, version):
    (version / "assets.extra/manifest.json").write_bytes(content)
    with pytest.raises(VersionError, match=r"manifest\.json cannot be read: "):
        read_manifest(version)


@pytest.mark.parametrize(("facts", "found"), [([], "None"), ({}, "None"), (FACTS | {"schema": 2}, "2")])
def test_another_schema_is_refused(facts, found, version):
    write(version, facts)
    with pytest.raises(VersionError, match=rf"is of schema {found}; this gradcam-export reads 1"):
        read_manifest(version)


def test_what_a_manifest_leaves_out_is_named(version):
    write(version, {"schema": 1, "input": PICTURES, "more_inputs": []})
    with pytest.raises(VersionError, match=r"says nothing of labels, explanation"):
        read_manifest(version)


def test_a_classifier_of_something_else_than_pictures_is_refused(version):
    write(version, FACTS | {"input": PICTURES | {"dtype": "float32"}})
    with pytest.raises(OptionError, match=r"insects/7: this classifier takes float32 \[8, 10, 3\], which no image"):
        read_image_classifier(version)
    write(version, FACTS | {"more_inputs": [{"name": "age", "shape": [1], "dtype": "float32"}]})
    with pytest.raises(OptionError, match=r"insects/7: this classifier takes age beside the image, which no image"):
        read_image_classifier(version)
