"""The place where a model's versions lie, whatever kind of place it is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gradcam_export.errors import OptionError, PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

SAVED_MODEL_FILE = "saved_model.pb"
UNPUBLISHED = ".unpublished"
"""How names begin that no server takes for a version."""

_HIGHEST_NUMBER = 2**63 - 1
"""Servers read a version number as an int64."""


class NumberTaken(PublishError):  # noqa: N818 - reads as the sentence it is
    """A version of that number exists, or is being published."""


class BasePath(ABC):
    """Where a model's versions lie, each in a folder named by its number.

    Servers look there all the time and load what has a number, so nothing gets one before all of it is there.
    """

    def __init__(self, location: str, name: str) -> None:
        self.location = location
        """The path or URL, as it was asked for."""
        self.name = name
        """Its last part: the model's name."""

    @abstractmethod
    def unpublished(self) -> AbstractContextManager[Path]:
        """Give an empty local directory to write a version in; what is left in it at the end is deleted.

        Raises:
            PublishError: no such directory can be made.
        """

    @abstractmethod
    def publish(self, directory: Path, version: int | None = None) -> str:
        """Put the finished `directory`, which `unpublished` gave, in place as a version.

        Args:
            directory: the version.
            version: its number; `None` takes the next one after the highest there is.

        Returns:
            The published version: its path or URL.

        Raises:
            PublishError: that version exists, or this place cannot be written to; nothing was published.
        """

    @abstractmethod
    def publish_copy(self, directory: Path, version: int | None = None) -> str:
        """Like `publish`, of a `directory` that lies anywhere and stays there."""

    def check(self, version: int | None) -> None:
        """Say now what would fail at the end of a long export.

        Raises:
            OptionError: `version` is no version number.
            PublishError: it exists, or this place cannot be read.
        """
        numbers = self._numbers()
        if version is None:
            return
        if not 0 <= version <= _HIGHEST_NUMBER:
            raise OptionError(f"version must be a number from 0 to {_HIGHEST_NUMBER}; got {version!r}.")
        if version in numbers:
            raise self._exists(version)

    def last_number(self) -> int | None:
        """Return the highest number of a finished version.

        Raises:
            PublishError: this place cannot be read.
        """
        finished = (number for number in sorted(self._numbers(), reverse=True) if self._is_finished(number))
        return next(finished, None)

    @abstractmethod
    def fetch(self, number: int, directory: Path) -> None:
        """Copy that version to the local `directory`, which does not exist yet.

        Raises:
            PublishError: it cannot be read, or not be written there.
        """

    @abstractmethod
    def _is_finished(self, number: int) -> bool:
        """Tell whether that version holds a `saved_model.pb`, which is put in place last."""

    @abstractmethod
    def _numbers(self) -> set[int]:
        """Return the numbers that are taken."""

    def _exists(self, number: int) -> NumberTaken:
        return NumberTaken(
            f"{self.location}/{number} exists; a published version is never overwritten. "
            "Ask for another number, or for none to get the next free one."
        )

    def _under_free_number(self, put: Callable[[int], str], version: int | None) -> str:
        """Return what `put` returns for `version`, or for the first free number: others may publish meanwhile."""
        number = max(self._numbers(), default=0) + 1 if version is None else version
        while True:
            try:
                return put(number)
            except NumberTaken:
                if version is not None:
                    raise
                number += 1


def numbers_among(names: Iterable[str]) -> set[int]:
    """Return the version numbers among the names of a base path's children; a server reads `007` as 7."""
    return {int(name) for name in names if name.isascii() and name.isdigit()}


def files_of(directory: Path) -> list[str]:
    """Return the files of a version by their names under it, in the order in which to put them in place.

    `saved_model.pb` is the last: without it no server loads the rest.
    """
    folders = os.walk(directory, followlinks=True)
    names = [Path(folder, file).relative_to(directory).as_posix() for folder, _, files in folders for file in files]
    return sorted(names, key=lambda name: (name == SAVED_MODEL_FILE, name))


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn whatever a file system or its driver raises into one line that begins with `what`."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:
        # Drivers raise what their own libraries do: botocore's errors, Google's, aiohttp's.
        raise PublishError(f"{what}: {reason(error)}.") from error


def reason(error: Exception) -> str:
    """Return what went wrong, in one line without its full stop."""
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror).rstrip(".")
    first_line = str(error).strip().partition("\n")[0].rstrip(".")
    return ": ".join(filter(None, (type(error).__name__, first_line)))
