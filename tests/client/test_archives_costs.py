"""Reading from an archive takes no more memory, open files or readings of its index than it must."""

import os
import struct
import tarfile
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gradcam_client import Client, archives, images
from gradcam_client.archives import names, read_member
from gradcam_client.errors import ImageError
from gradcam_client.paths import expand
from packed import CENTRAL, EITHER, LOCAL, WRITE, patched, write_zip


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
