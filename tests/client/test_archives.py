"""ZIP and TAR archives stand for the images in them, and an image in one is named by a plain path."""

import io
import json
import os
import re
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest
from gradcam_client import Client, archives, images
from gradcam_client.archives import archive_of, is_archive, names, read_member
from gradcam_client.cli import main
from gradcam_client.errors import ImageError
from gradcam_client.paths import expand
from gradcam_client.records import fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st

LOCAL, CENTRAL = b"PK\3\4", b"PK\1\2"


def file_of(picture, kind="PNG"):
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


WRITE = {".zip": write_zip, ".tar": write_tar}
EITHER = pytest.mark.parametrize("suffix", WRITE)


@pytest.fixture
def files(pictures):
    """The pictures as PNG files."""
    return [file_of(picture) for picture in pictures]


@pytest.fixture
def run(server, capsys):
    def run(verb, *arguments):
        where = ["--server", server.target, "--model", "colours", "--timeout", "120"]
        code = main([verb, *map(str, arguments), *where])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def patched(path, at, new):
    """Write `new` over the bytes of a file from `at` on."""
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


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


@EITHER
@pytest.mark.parametrize("how", ["named", "listed", "pattern"])
@pytest.mark.parametrize("verb", ["explain", "predict", "overlay"])
def test_the_command_takes_an_archive_as_it_takes_a_folder(run, tmp_path, files, suffix, how, verb, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, data in enumerate(files):
        (folder / f"{i}.png").write_bytes(data)
    archive = WRITE[suffix](tmp_path / f"photos{suffix}", [(f"{i}.png", data) for i, data in enumerate(files)])
    if how == "listed":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(archive) + b"\n")))
    named = {"named": archive, "listed": "-", "pattern": tmp_path / f"ph*{suffix}"}[how]
    outs = [[], []] if verb == "predict" else [["--out", tmp_path / "out"], ["--out", tmp_path / "direct"]]
    code, lines, err = run(verb, named, *outs[0])
    assert (code, err) == (0, [])
    code, direct, err = run(verb, folder, *outs[1])
    assert (code, err) == (0, [])
    told = [line.replace(str(archive), str(folder)).replace(f"{tmp_path}/out", f"{tmp_path}/direct") for line in lines]
    assert told == direct
    for picture in (tmp_path / "direct").glob("*_*"):
        assert (tmp_path / "out" / picture.name).read_bytes() == picture.read_bytes()


def test_results_name_the_file_and_resume_looks_at_the_archive(run, server, tmp_path, files):
    archive, out = tmp_path / "photos.zip", tmp_path / "out"
    write_zip(archive, [("a/x.png", files[0]), ("b/x.png", b"no image"), ("c/y.png", files[1])])
    code, lines, err = run("explain", archive, "--out", out)
    assert (code, len(lines), err) == (1, 2, [f"gradcam: {archive}/b/x.png: is not an image that Pillow can read"])
    kept = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(one["image"], one["stem"]) for one in kept] == [(f"{archive}/a/x.png", "x"), (f"{archive}/c/y.png", "y")]
    found = archive.stat()
    assert (kept[0]["file_size"], kept[0]["file_mtime_ns"]) == (found.st_size, found.st_mtime_ns)
    assert fingerprint(archive / "a/x.png") == {"file_size": found.st_size, "file_mtime_ns": found.st_mtime_ns}

    asked = len(server.requests)
    code, lines, err = run("explain", archive, "--out", out, "--resume")
    assert (code, lines) == (1, [])
    assert err == [
        "gradcam: 2 images have their results already, 1 are left",
        f"gradcam: {archive}/b/x.png: is not an image that Pillow can read",
    ]
    assert all("images" not in request.inputs for request in server.requests[asked:])

    write_zip(archive, [("a/x.png", files[0]), ("b/x.png", files[2]), ("c/y.png", files[1])])
    code, lines, err = run("explain", archive, "--out", out, "--resume")
    assert (code, err) == (0, [])
    assert [line.split("\t")[0] for line in lines] == [f"{archive}/{name}.png" for name in ("a/x", "b/x", "c/y")]


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


@EITHER
def test_a_name_that_the_archive_has_twice_is_listed_once_and_not_guessed(tmp_path, files, suffix):
    members = [("a.png", files[0]), ("b.png", files[1]), ("./a.png", files[2])]
    archive = WRITE[suffix](tmp_path / f"photos{suffix}", members)
    assert names(archive) == ["a.png", "b.png"]
    assert read_member(archive / "b.png") == files[1]
    with pytest.raises(ImageError, match=r"/a\.png: the archive has several files of this name: pack it anew"):
        read_member(archive / "a.png")


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


def test_a_folder_may_be_called_like_an_archive(tmp_path, pictures):
    folder = tmp_path / "photos.zip"
    folder.mkdir()
    pictures[0].save(folder / "a.png")
    assert not is_archive(folder)
    assert expand([str(folder)], None) == [folder / "a.png"]
    assert images.read(folder / "a.png") == images.read(pictures[0])


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


def test_a_pattern_passes_over_what_holds_no_image(tmp_path, files):
    photos = write_zip(tmp_path / "a.zip", [("1.png", files[0]), ("2.png", files[1])])
    write_zip(tmp_path / "b.zip", [("source.py", b"")])
    write_tar(tmp_path / "c.tar.gz", [("3.png", files[2])], "w:gz")
    (tmp_path / "d.png").write_bytes(files[3])
    found = [photos / "1.png", photos / "2.png", tmp_path / "d.png"]
    assert expand([str(tmp_path / "*")], None) == found
    with pytest.raises(ImageError, match=r"\[bc\]\*: no image matches this pattern"):
        expand([str(tmp_path / "[bc]*")], None)


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


def peak(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_file_that_unpacks_to_more_than_it_says_costs_no_more_than_it_says(tmp_path):
    archive = write_zip(tmp_path / "bomb.zip", [("a.png", bytes(2**26))])
    for signature, size in ((LOCAL, 22), (CENTRAL, 24)):
        patched(archive, archive.read_bytes().index(signature) + size, struct.pack("<I", 1000))

    def refuse():
        with pytest.raises(ImageError, match=r"a\.png: the archive is damaged: the file has not the 1000 bytes that"):
            read_member(archive / "a.png")

    assert peak(refuse) < 2**20


@pytest.mark.parametrize("size", [2**30 + 1, 2**32 - 2])
def test_a_file_that_is_too_large_is_refused_unread(tmp_path, files, size):
    archive = write_zip(tmp_path / "large.zip", [("a.png", files[0])])
    patched(archive, archive.read_bytes().index(CENTRAL) + 24, struct.pack("<I", size))
    sparse = tmp_path / "large.tar"
    with sparse.open("wb") as file:
        info = tarfile.TarInfo("a.png")
        info.size = size
        file.write(info.tobuf())
        file.truncate(512 + size + 512 - size % 512 + 10240)

    def refuse():
        for one in (archive, sparse):
            with pytest.raises(ImageError, match=rf"a\.png: has {size} bytes in the archive; at most 1073741824 are"):
                read_member(one / "a.png")

    assert peak(refuse) < 2**20


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


def test_the_index_is_read_once_and_again_when_the_archive_changes(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "photos.zip", [(f"{i}.png", b"%d" % i) for i in range(2000)])
    opened = []
    original = zipfile.ZipFile
    monkeypatch.setattr("zipfile.ZipFile", lambda file: opened.append(file) or original(file))
    with ThreadPoolExecutor(8) as threads:
        data = list(threads.map(read_member, [archive / f"{i}.png" for i in range(2000)]))
    assert data == [b"%d" % i for i in range(2000)]
    assert len(opened) == 1
    monkeypatch.undo()
    write_zip(archive, [("0.png", b"another")])
    os.utime(archive, ns=(0, 1))
    assert names(archive) == ["0.png"]
    assert read_member(archive / "0.png") == b"another"


def test_indexes_of_many_archives_are_not_all_kept(tmp_path):
    for number in range(3 * archives._KEPT):
        assert names(write_zip(tmp_path / f"{number}.zip", [(f"{number}.png", b"x")])) == [f"{number}.png"]
    assert len(archives._indexes) == archives._KEPT


@EITHER
def test_no_file_stays_open(tmp_path, files, suffix):
    archive = WRITE[suffix](tmp_path / f"photos{suffix}", [("a.png", files[0])])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        images.read(archive / "a.png")
        with pytest.raises(ImageError):
            images.read(archive / "b.png")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_memory_does_not_grow_with_the_archive(tmp_path, server):
    """Forty files of 2 MB are never held together."""
    noise = os.urandom(2**21)
    header = b"P5 1448 1448 255\n"
    archive = write_zip(
        tmp_path / "photos.zip",
        [(f"{i}.pgm", header + noise[: 1448 * 1448]) for i in range(40)],
        zipfile.ZIP_STORED,
    )
    with Client(server.target, model="colours") as client:
        client.describe()

        def explain():
            for outcome in client.explain_many(expand([str(archive)], None), concurrency=2):
                assert outcome.error is None

        assert peak(explain) < 60 * 2**20
