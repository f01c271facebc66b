"""ZIP and TAR archives stand for the images in them, and an image in one is named by a plain path."""

import io
import tarfile
import zipfile

import pytest
from gradcam_client import images
from gradcam_client.archives import is_archive, names, read_member
from gradcam_client.errors import ImageError
from gradcam_client.paths import expand
from packed import EITHER, WRITE, write_tar, write_zip


@EITHER
def test_an_archive_stands_for_its_images_in_its_own_order(tmp_path, files, suffix):
    members = [
        ("z.png", files[0]),
        ("notes.txt", b"no image"),
        ("a/b/c.JPG", files[1]),
        ("a/b.jpg/", b""),
        ("__MACOSX/a/._c.jpg", b"fork"),
        ("__MACOSX/z.png", b"fork"),
        ("a/._z.png", b"fork"),
        (".thumbnails/z.png", files[2]),
        (".hidden.png", files[2]),
        ("./b.png", files[3]),
        ("a/a.webp", files[4]),
    ]
    archive = tmp_path / f"photos{suffix}"
    if suffix == ".zip":
        write_zip(archive, members)
    else:
        with tarfile.open(archive, "w") as written:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                info.size = len(data)
                written.addfile(info, io.BytesIO(data))
    assert expand([str(archive)], None) == [archive / name for name in ("z.png", "a/b/c.JPG", "b.png", "a/a.webp")]
    # What is named itself is tried, whatever it is called.
    assert read_member(archive / ".hidden.png") == files[2]
    assert read_member(archive / "notes.txt") == b"no image"


@EITHER
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_in_an_archive_is_read_as_it_was_packed(tmp_path, files, pictures, suffix, method):
    members = [(f"folder {i}/ä ß {i}.png", data) for i, data in enumerate(files)]
    archive = tmp_path / f"photos{suffix.upper()}"
    if suffix == ".zip":
        write_zip(archive, members, method)
    else:
        write_tar(archive, members)
    assert [(name, read_member(archive / name)) for name in names(archive)] == members
    for (name, data), picture in zip(members, pictures, strict=True):
        assert images.read(archive / name) == images.read(str(archive / name)) == images.read(picture)
        assert images.encoded(archive / name) == data


def test_what_stands_before_a_zip_moves_its_files(tmp_path, files):
    """As in an archive that unpacks itself."""
    archive = write_zip(tmp_path / "photos.zip", [("a.png", files[0]), ("b.png", files[1])])
    archive.write_bytes(b"#!/bin/sh\n" * 100 + archive.read_bytes())
    assert [read_member(archive / name) for name in names(archive)] == files[:2]


@EITHER
def test_the_client_reads_a_file_in_an_archive(tmp_path, client, pictures, files, suffix):
    archive = WRITE[suffix](tmp_path / f"photos{suffix}", [(f"a/{i}.png", data) for i, data in enumerate(files)])
    one, direct = client.explain(str(archive / "a/3.png")), client.explain(pictures[3])
    assert (one.label, one.score, one.heatmap_peak) == (direct.label, direct.score, direct.heatmap_peak)
    paths = [archive / name for name in names(archive)]
    many = [outcome.result.score for outcome in client.explain_many(paths, concurrency=4)]
    assert many == [one.score for one in client.explain(pictures)]
    assert client.overlay(archive / "a/3.png") == client.overlay(files[3])


def test_a_folder_may_be_called_like_an_archive(tmp_path, pictures):
    folder = tmp_path / "photos.zip"
    folder.mkdir()
    pictures[0].save(folder / "a.png")
    assert not is_archive(folder)
    assert expand([str(folder)], None) == [folder / "a.png"]
    assert images.read(folder / "a.png") == images.read(pictures[0])


def test_a_pattern_passes_over_what_holds_no_image(tmp_path, files):
    photos = write_zip(tmp_path / "a.zip", [("1.png", files[0]), ("2.png", files[1])])
    write_zip(tmp_path / "b.zip", [("source.py", b"")])
    write_tar(tmp_path / "c.tar.gz", [("3.png", files[2])], "w:gz")
    (tmp_path / "d.png").write_bytes(files[3])
    found = [photos / "1.png", photos / "2.png", tmp_path / "d.png"]
    assert expand([str(tmp_path / "*")], None) == found
    with pytest.raises(ImageError, match=r"\[bc\]\*: no image matches this pattern"):
        expand([str(tmp_path / "[bc]*")], None)
