"""Files in archives keep the names they have there, and none of these leads elsewhere."""

import io
import json
import os
import tarfile
from pathlib import Path, PurePosixPath

import pytest
from gradcam_client.archives import archive_of, names, read_member
from gradcam_client.errors import ImageError
from gradcam_client.paths import expand
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import EITHER, WRITE, write_zip


@EITHER
def test_names_that_lead_elsewhere_are_only_names(run, tmp_path, files, suffix):
    hostile = ["/etc/one.png", "../../two.png", "a/../../../three.png", "C:\\four.png", "a\\..\\..\\five.png", "..png"]
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    archive = WRITE[suffix](deep / f"photos{suffix}", list(zip(hostile, files, strict=False)))
    expected = [name.lstrip("/") for name in hostile if name != "..png"]
    assert expand([str(archive)], None) == [archive / name for name in expected]
    before = set(tmp_path.rglob("*"))
    code, lines, err = run("explain", archive, archive / "..png", "--out", deep / "out")
    assert (code, err, len(lines)) == (0, [], 6)
    assert {path.parent for path in set(tmp_path.rglob("*")) - before} == {deep, deep / "out"}
    assert not Path("/etc/one_overlay.png").exists()


PARTS = st.one_of(
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=8),
    st.sampled_from([".", "..", "", "__MACOSX", "photos.zip", "a.tar", "x.png", "-", "*", "[a]"]),
)


@EITHER
@settings(deadline=None, max_examples=60)
@given(found=st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=6, unique=True))
def test_every_name_that_is_listed_is_read(tmp_path_factory, suffix, found):
    archive = tmp_path_factory.mktemp("names") / f"photos{suffix}"
    members = [(f"{name}.png", name.encode()) for name in found]
    WRITE[suffix](archive, members)
    listed = names(archive)
    assert len(set(listed)) == len(listed)
    contents = {}
    for name in listed:
        path = archive / name
        assert path.is_relative_to(archive)
        assert archive_of(Path(str(path))) == archive
        try:
            contents[str(PurePosixPath(name))] = read_member(Path(str(path)))
        except ImageError as error:
            assert "several files of this name" in str(error)  # noqa: PT017 - each is right, the next line says of what
            contents[str(PurePosixPath(name))] = None
    for name, data in members:
        assert contents[str(PurePosixPath(name.lstrip("/")))] in (data, None)


def test_names_that_are_not_utf8_go_through_as_file_names_do(run, tmp_path, files, server):
    name = os.fsdecode(b"caf\xe9.png")
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as written:
        info = tarfile.TarInfo("café.png")
        info.size = len(files[0])
        written.addfile(info, io.BytesIO(files[0]))
    assert names(archive) == [name]
    code, _, err = run("explain", archive, "--json", "--out", tmp_path / "out")
    assert (code, err) == (0, [])
    assert json.loads((tmp_path / "out/results.jsonl").read_text())["image"] == f"{archive}/{name}"


@pytest.mark.parametrize(
    ("stored", "read"),
    [("äöü.png".encode("cp437"), "äöü.png"), ("写真é.png".encode(), "写真é.png"), (b"caf\xe9.png", "cafΘ.png")],
    ids=["as ZIP says", "as macOS writes", "neither"],
)
def test_names_of_a_zip_without_the_mark_of_utf8(tmp_path, files, stored, read):
    archive = write_zip(tmp_path / "photos.zip", [("x" * len(stored), files[0])])
    archive.write_bytes(archive.read_bytes().replace(b"x" * len(stored), stored))
    assert names(archive) == [read]
    assert read_member(archive / read) == files[0]


def test_a_name_that_claims_to_be_utf8_and_is_not(tmp_path, files):
    archive = write_zip(tmp_path / "photos.zip", [("é.png", files[0])])
    archive.write_bytes(archive.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(ImageError, match=r"photos\.zip: the archive is damaged: 'utf-8' codec can't decode"):
        names(archive)


@EITHER
def test_a_name_that_the_archive_has_twice_is_listed_once_and_not_guessed(tmp_path, files, suffix):
    members = [("a.png", files[0]), ("b.png", files[1]), ("./a.png", files[2])]
    archive = WRITE[suffix](tmp_path / f"photos{suffix}", members)
    assert names(archive) == ["a.png", "b.png"]
    assert read_member(archive / "b.png") == files[1]
    with pytest.raises(ImageError, match=r"/a\.png: the archive has several files of this name: pack it anew"):
        read_member(archive / "a.png")


def test_a_name_with_brackets_is_no_pattern_in_an_archive(tmp_path, files):
    archive = write_zip(tmp_path / "photos.zip", [("a[1].png", files[0])])
    assert expand([f"{archive}/a[1].png"], None) == [archive / "a[1].png"]


@EITHER
def test_a_file_without_a_name_is_left_out(tmp_path, files, suffix):
    archive = WRITE[suffix](tmp_path / f"photos{suffix}", [("/", files[0]), ("./.", files[1]), ("b.png", files[2])])
    if suffix == ".zip":
        # What is called nothing at all is a file too.
        data = archive.read_bytes().replace(b"./.", b"\0\0\0")
        archive.write_bytes(data)
    assert names(archive) == ["b.png"]
