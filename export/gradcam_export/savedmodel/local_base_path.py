"""A base path on this machine's file systems: versions appear by being renamed."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcam_export.savedmodel.base_path import (
    SAVED_MODEL_FILE,
    UNPUBLISHED,
    BasePath,
    files_of,
    numbers_among,
    reported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class LocalBasePath(BasePath):
    """Versions in a directory: each written beside the others under a hidden name, then renamed in one step."""

    def __init__(self, path: Path, files: Any) -> None:
        """Take the directory, which need not exist yet, and the `fsspec` file system that copies files to it."""
        super().__init__(str(path), path.resolve().name)
        self._path, self._files = path, files

    @contextmanager
    def unpublished(self) -> Iterator[Path]:
        """Give an empty directory beside the versions, under a name that no server takes for one."""
        with reported(f"{self._path}: cannot be written to"):
            self._path.mkdir(parents=True, exist_ok=True)
            _sweep(self._path)
            directory = Path(tempfile.mkdtemp(prefix=f"{_owner(os.getpid())}-", dir=self._path))
            directory.chmod(0o755)  # mkdtemp's 0700 would lock the server out
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def publish(self, directory: Path, version: int | None = None) -> str:
        """Move the finished `directory` to its number in one step that survives a crash."""
        with reported(f"{directory}: cannot be written to disk"):
            _flush(directory)
        return self._under_free_number(partial(self._rename, directory), version)

    def publish_copy(self, directory: Path, version: int | None = None) -> str:
        """Copy the finished `directory` here under a hidden name, then rename that."""
        with self.unpublished() as copy:
            with reported(f"{self._path}: {directory} cannot be copied there"):
                for name in files_of(directory):
                    self._files.makedirs(str((copy / name).parent), exist_ok=True)
                    self._files.put_file(str(directory / name), str(copy / name))
            return self.publish(copy, version)

    def fetch(self, number: int, directory: Path) -> None:
        """Copy the version's folder."""
        with reported(f"{self._path}/{number}: cannot be copied to {directory}"):
            shutil.copytree(self._path / str(number), directory)

    def _is_finished(self, number: int) -> bool:
        return (self._path / str(number) / SAVED_MODEL_FILE).is_file()

    def _rename(self, directory: Path, number: int) -> str:
        published = self._path / str(number)
        with reported(f"{published}: cannot be put in place"):
            if number in self._numbers():
                raise self._exists(number)
            try:
                directory.rename(published)
            except OSError as error:
                # Another export may have taken the number just now: renaming onto its files fails.
                if published.exists():
                    raise self._exists(number) from error
                raise
            _flush_file(self._path)
        return str(published)

    def _numbers(self) -> set[int]:
        if not self._path.exists():
            return set()
        with reported(f"{self._path}: cannot be read"):
            return numbers_among(child.name for child in self._path.iterdir())


def _owner(process: int) -> str:
    return f"{UNPUBLISHED}-{socket.gethostname()}-{process}"


def _sweep(base_path: Path) -> None:
    """Delete what exports of this machine left behind that were killed."""
    for leftover in base_path.glob(f"{_owner(0)[:-1]}*"):
        process = leftover.name.removeprefix(_owner(0)[:-1]).partition("-")[0]
        if process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(directory: Path) -> None:
    for folder, _, files in os.walk(directory):
        for file in files:
            _flush_file(Path(folder) / file)
        _flush_file(Path(folder))


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
