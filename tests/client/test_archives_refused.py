"""Archives that are damaged, or packed in a way that is not read, are refused with the reason."""

import re
import struct
import tarfile
import zipfile

import pytest
from gradcam_client import images
from gradcam_client.archives import archive_of, names, read_member
from gradcam_client.errors import ImageError
from gradcam_client.paths import expand
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import CENTRAL, EITHER, LOCAL, WRITE, patched, write_tar, write_zip


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar", ".TAR.BZ2", ".tar.xz", ".zip"])
def test_an_archive_that_is_compressed_as_a_whole_is_refused(run, tmp_path, files, suffix, server):
    kind = {".TAR.BZ2": "bz2", ".tar.xz": "xz"}.get(suffix, "gz")
    archive = write_tar(tmp_path / f"photos{suffix}", [("a.png", files[0])], f"w:{kind}")
    message = (
        f"{archive}: is compressed as a whole, so that no image of it can be read alone: "
        "unpack it, or pack the images as ZIP or as TAR without compression"
    )
    with pytest.raises(ImageError, match=re.escape(message)):
        names(archive)
    with pytest.raises(ImageError, match=re.escape(message)):
        images.read(archive / "a.png")
    assert run("predict", archive) == (1, [], [f"gradcam: {message}"])
    assert server.requests == []


def test_a_tar_whose_first_name_begins_as_a_compressed_file_does_is_read(tmp_path, files):
    assert names(write_tar(tmp_path / "photos.tar", [("BZh/a.png", files[0])])) == ["BZh/a.png"]


@EITHER
def test_an_archive_without_images_is_one_line(run, server, tmp_path, suffix):
    archive = WRITE[suffix](tmp_path / f"photos{suffix}", [("notes.txt", b"text"), (".x.png", b"")])
    code, lines, err = run("explain", archive)
    assert (code, lines, len(err)) == (1, [], 1)
    assert err[0].startswith(f"gradcam: {archive}: the archive holds no image (.avif .bmp")
    empty = WRITE[suffix](tmp_path / f"empty{suffix}", [])
    with pytest.raises(ImageError, match=r"empty\.\w+: the archive holds no image"):
        expand([str(empty)], None)


def test_what_is_not_there(tmp_path, files):
    archive = write_zip(tmp_path / "photos.zip", [("a.png", files[0])])
    with pytest.raises(ImageError, match=r"photos\.zip/b\.png: no such file in the archive .*photos\.zip$"):
        images.read(archive / "b.png")
    with pytest.raises(ImageError, match=r"photos\.zip: is an archive, not an image file: .* as photos\.zip/NAME"):
        images.read(archive)
    with pytest.raises(ImageError, match=r"^[^:]*photos\.zip/b\.png: no such file in the archive .*photos\.zip$"):
        images.encoded(archive / "b.png")
    with pytest.raises(ImageError, match=r"gone\.zip/a\.png: no such file$"):
        images.read(tmp_path / "gone.zip/a.png")
    with pytest.raises(ImageError, match=r"gone\.zip/a\.png: no such file$"):
        read_member(tmp_path / "gone.zip/a.png")
    with pytest.raises(ImageError, match=r"gone\.zip: the archive cannot be read: No such file or directory"):
        names(tmp_path / "gone.zip")


def test_an_encrypted_file_is_refused(tmp_path, files):
    archive = write_zip(tmp_path / "photos.zip", [("a.png", files[0])])
    for signature, flags in ((LOCAL, 6), (CENTRAL, 8)):
        patched(archive, archive.read_bytes().index(signature) + flags, b"\x01\x00")
    with pytest.raises(ImageError, match=r"photos\.zip/a\.png: is encrypted: unpack the archive with its password"):
        read_member(archive / "a.png")


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_another_compression_is_refused(tmp_path, files, method, number):
    archive = write_zip(tmp_path / "photos.zip", [("a.png", files[0])], method)
    with pytest.raises(ImageError, match=rf"a\.png: is compressed by method {number} of ZIP: .* anew with 'deflate'"):
        read_member(archive / "a.png")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_in_a_tar_is_refused(tmp_path, files, kind):
    archive = write_tar(tmp_path / "photos.tar", [("a.png", files[0])])
    with tarfile.open(archive, "a") as more:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = kind, "/etc/passwd"
        more.addfile(link)
    assert expand([str(archive)], None) == [archive / "a.png", archive / "b.png"]
    with pytest.raises(ImageError, match=r"b\.png: is a link or no plain file in the archive: pack it anew"):
        read_member(archive / "b.png")


@pytest.mark.parametrize(
    ("signature", "at", "new", "message"),
    [
        (LOCAL, 0, b"PK\0\0", "no file begins where its list says so"),
        (CENTRAL, 42, struct.pack("<I", 2**31), "it ends before this file does"),
        (CENTRAL, 20, struct.pack("<I", 2**20), "it ends before this file does"),
        (CENTRAL, 16, b"\0\0\0\0", "the file's checksum is wrong"),
        (CENTRAL, 24, struct.pack("<I", 2**20), "the file has not the 1048576 bytes"),
        (LOCAL, 26, b"\xff\xff", "."),
    ],
)
def test_a_damaged_zip_is_one_error(tmp_path, files, signature, at, new, message):
    archive = write_zip(tmp_path / "photos.zip", [("a.png", files[0]), ("b.png", files[1])])
    patched(archive, archive.read_bytes().index(signature) + at, new)
    with pytest.raises(ImageError, match=rf"a\.png: the archive is damaged: {message}"):
        read_member(archive / "a.png")


def test_an_altered_file_in_a_zip_is_one_error(tmp_path, files):
    stored = write_zip(tmp_path / "stored.zip", [("a.png", files[0])], zipfile.ZIP_STORED)
    patched(stored, stored.read_bytes().index(files[0]) + 40, b"\xaa\xaa\xaa")
    with pytest.raises(ImageError, match="the archive is damaged: the file's checksum is wrong"):
        read_member(stored / "a.png")
    packed = write_zip(tmp_path / "packed.zip", [("a.png", b"abc" * 1000)])
    patched(packed, 35, b"\xff\xff\xff")
    with pytest.raises(ImageError, match="the archive is damaged: Error -3 while decompressing data"):
        read_member(packed / "a.png")


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\5\6" + bytes(10), bytes(100)])
@EITHER
def test_what_is_no_archive_is_one_error(run, tmp_path, server, suffix, data):
    archive = tmp_path / f"photos{suffix}"
    archive.write_bytes(data)
    code, lines, err = run("predict", archive)
    assert (code, lines, len(err)) == (1, [], 1)
    assert err[0].startswith(f"gradcam: {archive}: the archive is damaged: ")


def test_a_tar_that_breaks_off_loses_no_image_in_silence(tmp_path, files):
    whole = write_tar(tmp_path / "whole.tar", [(f"{i}.png", data) for i, data in enumerate(files[:3])])
    data = whole.read_bytes()
    ends = data.index(b"2.png")
    cut = tmp_path / "cut.tar"
    for size in (ends, ends + 100, ends + 600):
        cut.write_bytes(data[:size])
        with pytest.raises(ImageError, match=r"cut\.tar: the archive is damaged: (its list of files|unexpected end)"):
            names(cut)
    cut.write_bytes(data[: ends + 148] + b"\0" * 8 + data[ends + 156 :])
    with pytest.raises(ImageError, match=r"the archive is damaged: its list of files breaks off after \d+ bytes"):
        names(cut)


@EITHER
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_is_altered_the_error_is_ours(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.mktemp("altered")
    contents = {"a.png": b"abc" * 50, "b/ü.png": bytes(range(256))}
    archive = WRITE[suffix](folder / f"photos{suffix}", list(contents.items()))
    size = archive.stat().st_size
    spots = st.integers(0, min(size, 3000) - 1)
    for at in data.draw(st.lists(spots, min_size=1, max_size=4)):
        patched(archive, at, data.draw(st.binary(min_size=1, max_size=8)))
    if data.draw(st.booleans()):
        archive.write_bytes(archive.read_bytes()[: data.draw(st.integers(0, size))])
    try:
        for name in names(archive):
            read_member(archive / name)
    except ImageError as error:
        assert str(archive) in str(error)  # noqa: PT017 - what is altered may also be of no account
    assert archive_of(archive / "a.png") == archive
