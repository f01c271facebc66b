"""Put a finished version in place: all of it or nothing, and never over another."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gradcam_export.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = ".unpublished"


@contextmanager
def unpublished_version(base_path: Path) -> Iterator[Path]:
    """Give an empty directory beside the versions of `base_path`, under a name that no server takes for one.

    What is left in it at the end is deleted; `publish` moves it away before that.

    Raises:
        PublishError: `base_path` cannot be written to.
    """
    try:
        base_path.mkdir(parents=True, exist_ok=True)
        _sweep(base_path)
        directory = Path(tempfile.mkdtemp(prefix=f"{_owner(os.getpid())}-", dir=base_path))
        directory.chmod(0o755)  # mkdtemp's 0700 would lock the server out
    except OSError as error:
        raise PublishError(f"{base_path}: cannot be written to: {error.strerror}.") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish(directory: Path, base_path: Path, version: int | None = None) -> Path:
    """Move the finished `directory` to `base_path/<version>` in one step that survives a crash.

    Args:
        directory: a version that lies in `base_path` under another name.
        base_path: where the model's versions lie.
        version: its number; `None` takes the next one after the highest there is.

    Raises:
        PublishError: that version exists already.
    """
    _flush(directory)
    number = _next_version(base_path) if version is None else version
    while True:
        published = base_path / str(number)
        try:
            if published.exists():
                raise FileExistsError(published)
            # Another export may take the number now: renaming onto its files fails, and the next one is tried.
            directory.rename(published)
        except OSError as error:
            if not published.exists():
                raise PublishError(f"{published}: cannot be put in place: {error.strerror}.") from error
            if version is not None:
                raise PublishError(f"{published} exists; a published version is never overwritten.") from error
            number += 1
        else:
            _flush_directory(base_path)
            return published


def _next_version(base_path: Path) -> int:
    numbers = [int(child.name) for child in base_path.iterdir() if child.name.isascii() and child.name.isdigit()]
    return max(numbers, default=0) + 1


def _owner(process: int) -> str:
    return f"{_PREFIX}-{socket.gethostname()}-{process}"


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
            _flush_directory(Path(folder) / file)
        _flush_directory(Path(folder))


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
