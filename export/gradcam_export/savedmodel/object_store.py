"""A base path in an object store, which has no rename: a version's `saved_model.pb` appears last."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import uuid
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcam_export.savedmodel.base_path import (
    SAVED_MODEL_FILE,
    UNPUBLISHED,
    BasePath,
    NumberTaken,
    files_of,
    numbers_among,
    reason,
    reported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("gradcam_export.publish")


class ObjectStoreBasePath(BasePath):
    """Versions in an object store that `fsspec` has a driver for.

    A version is uploaded under a hidden name first, however long that takes. Then the store copies it to its number,
    within itself, `saved_model.pb` last. A server that looks in between finds no model under that number yet, keeps
    what it serves, and tries again; TensorFlow Serving gives up after five minutes, so the upload must not count.

    Who publishes a number holds it meanwhile by an object that is created only where there is none. S3, Google
    Storage and Azure do that in one step, so two publishers never share a number. Drivers without such a request look
    first and write then: there, two that ask for one number in the same moment can both believe that they have it.

    A publisher that is killed leaves hidden objects behind, and perhaps a number without `saved_model.pb`, which is
    not taken again: unlike on a local disk, nobody else can tell that it is dead.
    """

    def __init__(self, url: str, path: str, files: Any) -> None:
        """Take the URL, what the driver calls it, and the driver, an `fsspec` file system."""
        super().__init__(url, path.rpartition("/")[2])
        self._path, self._files = path, files

    @contextmanager
    def unpublished(self) -> Iterator[Path]:
        """Give an empty temporary directory on this machine."""
        with tempfile.TemporaryDirectory(prefix=UNPUBLISHED) as directory:
            yield Path(directory)

    def publish(self, directory: Path, version: int | None = None) -> str:
        """Upload the finished `directory` under a hidden name, then copy that to its number."""
        names = files_of(directory)
        staged = f"{self._path}/{UNPUBLISHED}-{_owner()}-{uuid.uuid4().hex}"
        try:
            with reported(f"{self.location}: {directory} cannot be copied there"):
                for name in names:
                    self._files.put_file(str(directory / name), f"{staged}/{name}")
            return self._under_free_number(partial(self._copy, staged, names), version)
        finally:
            self._delete(staged)

    def publish_copy(self, directory: Path, version: int | None = None) -> str:
        """Do the same: an upload leaves the directory where it is."""
        return self.publish(directory, version)

    def fetch(self, number: int, directory: Path) -> None:
        """Download the version's objects."""
        with reported(f"{self.location}/{number}: cannot be copied to {directory}"):
            self._files.get(f"{self._path}/{number}/", f"{directory}/", recursive=True)

    def _is_finished(self, number: int) -> bool:
        with reported(f"{self.location}: cannot be read"):
            return bool(self._files.isfile(f"{self._path}/{number}/{SAVED_MODEL_FILE}"))

    def _copy(self, staged: str, names: list[str], number: int) -> str:
        with self._held(number), ExitStack() as undo, reported(f"{self.location}/{number}: cannot be put in place"):
            if number in self._numbers():
                raise self._exists(number)
            undo.callback(self._delete, f"{self._path}/{number}")
            for name in names:
                self._files.cp_file(f"{staged}/{name}", f"{self._path}/{number}/{name}")
            undo.pop_all()
        return f"{self.location}/{number}"

    @contextmanager
    def _held(self, number: int) -> Iterator[None]:
        hold = f"{UNPUBLISHED}-{number}"
        with reported(f"{self.location}/{number}: cannot be put in place"):
            try:
                self._files.pipe_file(f"{self._path}/{hold}", _owner().encode(), mode="create")
            except FileExistsError as error:
                raise NumberTaken(
                    f"{self.location}/{number} is being published. If whoever did that was killed, delete what there "
                    f"is of it, and then {self.location}/{hold}."
                ) from error
        try:
            yield
        finally:
            self._delete(f"{self._path}/{hold}")

    def _numbers(self) -> set[int]:
        with reported(f"{self.location}: cannot be read"):
            self._files.invalidate_cache()
            try:
                children = self._files.ls(self._path, detail=False)
            except FileNotFoundError:
                return set()
        return numbers_among(child.rstrip("/").rpartition("/")[2] for child in children)

    def _delete(self, path: str) -> None:
        """Delete what there is of `path`, its `saved_model.pb` first: no server is to find that without the rest."""
        try:
            self._files.invalidate_cache()
            for part in (f"{path}/{SAVED_MODEL_FILE}", path):
                if self._files.exists(part):
                    self._files.rm(part, recursive=True)
        except Exception as error:  # noqa: BLE001 - a second failure must not hide the first, or undo a success
            logger.warning("%s: could not be deleted (%s); delete %s", self.location, reason(error), path)


def _owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"
