"""Copies on a disk: whole or not there, whatever the disk does."""

import errno
import os
import resource
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from finished_versions import MANIFEST, VERSION_FILES, finished
from fsspec.implementations.local import LocalFileSystem
from gradcam_export import PublishError, publish_version


class FaultyDisk(LocalFileSystem):
    """The local file system, whose `fail_at`-th file meets `error`; it notes what lies in the base path before each."""

    protocol = ("faulty-disk",)
    cachable = False
    error: OSError
    fail_at = 0
    seen: ClassVar[list[set[str]]] = []

    def put_file(self, path1, path2, **keywords):
        self.seen.append({child.name for child in Path(path2.partition("/.")[0]).iterdir()})
        if len(self.seen) == self.fail_at:
            Path(path2).write_text("half")
            raise self.error
        super().put_file(path1, path2, **keywords)

    def makedirs(self, path, exist_ok=False):
        if self.fail_at < 0:
            raise self.error
        super().makedirs(path, exist_ok=exist_ok)


@pytest.fixture
def disk(monkeypatch):
    """A class of disk to set faults in."""
    monkeypatch.setattr(FaultyDisk, "seen", [])
    monkeypatch.setattr(FaultyDisk, "fail_at", 0)
    monkeypatch.setattr(FaultyDisk, "error", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), raising=False)
    fsspec.register_implementation("faulty-disk", FaultyDisk, clobber=True)
    return FaultyDisk


def test_a_copy_has_no_number_until_it_is_whole(tmp_path, disk):
    source = finished(tmp_path / "built/3")
    (source / "variables/shard").symlink_to(source / "variables/variables.index")
    finished(tmp_path / "m/1")
    assert publish_version(source, f"faulty-disk://{tmp_path}/m") == f"{tmp_path}/m/2"
    assert len(disk.seen) == len(VERSION_FILES) + 1
    for names in disk.seen:
        (hidden,) = names - {"1"}
        assert hidden.startswith(".unpublished")
    assert sorted(child.name for child in (tmp_path / "m").iterdir()) == ["1", "2"]
    assert [(tmp_path / "m/2" / name).read_bytes() for name in VERSION_FILES] == [
        (source / name).read_bytes() for name in VERSION_FILES
    ]
    assert (tmp_path / "m/2/variables/shard").read_text() == "graph"
    assert (tmp_path / "m/2").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("fail_at", [-1, *range(1, len(VERSION_FILES) + 1)])
def test_a_disk_that_fails_leaves_nothing(tmp_path, disk, fail_at):
    source = finished(tmp_path / "3")
    disk.fail_at = fail_at
    with pytest.raises(PublishError) as raised:
        publish_version(source, f"faulty-disk://{tmp_path}/m")
    assert str(raised.value) == f"{tmp_path}/m: {source} cannot be copied there: No space left on device."
    assert list((tmp_path / "m").iterdir()) == []
    disk.fail_at = 0
    assert publish_version(source, tmp_path / "m") == f"{tmp_path}/m/1"


def test_a_limit_of_the_system_leaves_nothing(tmp_path):
    source = finished(tmp_path / "3", "x" * 10_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(PublishError, match="3 cannot be copied there: File too large"):
            publish_version(source, tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "m").iterdir()) == []


def test_a_disk_that_denies_is_one_clear_line(tmp_path, disk):
    disk.fail_at, disk.error = 2, PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(PublishError, match="3 cannot be copied there: Permission denied"):
        publish_version(finished(tmp_path / "3"), f"faulty-disk://{tmp_path}/m")
    assert list((tmp_path / "m").iterdir()) == []


def test_a_file_url_is_a_path(tmp_path):
    assert publish_version(finished(tmp_path / "3"), f"file://{tmp_path}/m", version=8) == f"{tmp_path}/m/8"
    assert (tmp_path / "m/8/saved_model.pb").read_text() == "graph"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda version: (version / "saved_model.pb").unlink(), "published: it has no saved_model.pb"),
        (lambda version: (version / MANIFEST).unlink(), "published: it has no assets.extra/manifest.json"),
        (lambda version: (version / MANIFEST).write_text("{"), "manifest.json cannot be read: JSONDecodeError: Expect"),
        (lambda version: (version / MANIFEST).write_text('{"verified": {}}'), "3 was never verified: build it again"),
        (lambda version: (version / MANIFEST).write_text("[]"), "3 was never verified: build it again"),
    ],
)
def test_only_finished_versions_are_published(tmp_path, spoil, message):
    spoil(finished(tmp_path / "3"))
    with pytest.raises(PublishError, match=message):
        publish_version(tmp_path / "3", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_target_that_ends_in_a_version_number_is_refused(tmp_path):
    with pytest.raises(PublishError, match="m/3 ends in a number: give the base path of the versions, and the number"):
        publish_version(finished(tmp_path / "3"), tmp_path / "m/3")
    assert not (tmp_path / "m").exists()
