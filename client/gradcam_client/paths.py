"""Which image files a command line names, and what to call their results."""

from __future__ import annotations

import glob
import itertools
import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final

from gradcam_client import archives
from gradcam_client.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SUFFIXES: Final = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What counts as an image in a folder or an archive; a file that is named itself is always tried."""

MAX_STEM: Final = 150
MAX_LABEL: Final = 60
"""The most bytes of a picture's name and of a label in a file's name, which may have 255."""

# Every control character of Unicode, and the two separators that end a line.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


STANDARD_INPUT: Final = "-"
"""Named in place of a file: a list of files, one a line, comes from standard input."""


def expand(names: Iterable[str], listed: BinaryIO | None) -> list[Path]:
    """The files in the order they were named.

    A folder stands for its image files, sorted; an archive (ZIP or TAR) for those of all its folders, in its own order;
    a pattern, such as `photos/**/*.jpg`, for the images and archives that match it, sorted; `-` for the files, folders
    and archives that `listed` names, one a line.

    Args:
        names: as they stand on the command line.
        listed: standard input, read to its end where `-` is named; `None` where it is closed.

    Raises:
        ImageError: a folder, an archive or the list names no image, a pattern matches none, an archive cannot be read,
            or a name is empty.
    """
    paths: list[Path] = []
    for name in names:
        if name == STANDARD_INPUT:
            paths += _listed(listed)
        elif not name:
            # To Path it would be the folder that the command runs in.
            raise ImageError("an empty name was given: name an image, a folder or an archive")
        elif glob.has_magic(name) and not os.path.lexists(name) and not archives.archive_of(Path(name)):
            paths += _matching(name)
        else:
            paths += _files(Path(name))
    return paths


def _listed(lines: BinaryIO | None) -> list[Path]:
    names = [os.fsdecode(line) for line in map(_without_line_end, lines or ()) if line]
    if not names:
        raise ImageError("standard input names no image: give one path a line")
    return [path for name in names for path in _files(Path(name))]


def _without_line_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _matching(pattern: str) -> list[Path]:
    matching = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207
    found = []
    for path in matching:
        if path.suffix.lower() in archives.SUFFIXES and archives.is_archive(path):
            found += _members(path)
        elif _is_image(path):
            found.append(path)
    if not found:
        raise ImageError(f"{pattern}: no image matches this pattern")
    return found


def _files(path: Path) -> Iterable[Path]:
    # A name that no file can have is told apart where it is read.
    if archives.is_archive(path):
        if members := _members(path):
            return members
        raise ImageError(f"{path}: the archive holds no image ({' '.join(sorted(SUFFIXES))})")
    if not os.path.isdir(path):  # noqa: PTH112
        return [path]
    found = sorted(file for file in path.iterdir() if _is_image(file))
    if not found:
        raise ImageError(f"{path}: the folder holds no image ({' '.join(sorted(SUFFIXES))})")
    return found


def _members(archive: Path) -> list[Path]:
    return [archive / name for name in archives.names(archive) if _is_shown(PurePosixPath(name))]


def _is_shown(name: PurePosixPath) -> bool:
    """Whether a file of an archive is an image, and no hidden one: macOS packs what it knows of each as such."""
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def class_stem(stem: str, rank: str, label: str) -> str:
    """A name for the results of one class of one picture, `<stem>_<rank>_<label>`, whatever the label holds.

    Neither rank nor label keeps an underscore: the last two of a name always part it, so that names are as
    different as stems and ranks are.
    """
    words = _shortened(re.sub(r"[\W_]+", "-", label).strip("-"), MAX_LABEL)
    return f"{stem}_{rank}_{words or 'class'}"


def unique_stems(paths: Sequence[Path], kept: Mapping[str, str] | None = None) -> list[str]:
    """A name for each file's results: its stem, shortened, and numbered where another file has the same.

    A stem has no folder in it, so that a result stays in the folder it is written to. Names that differ in case, or in
    how an accent is spelled, count as the same, since some file systems hold them so.

    Args:
        paths: the files.
        kept: names that files have from an earlier run, by their paths: those files keep them, no other gets them.
    """
    kept = kept or {}
    taken = {_folded(stem) for stem in kept.values()}
    numbers: dict[str, Iterator[int]] = {}
    stems: list[str] = []
    for path in paths:
        if (earlier := kept.get(str(path))) is not None:
            stems.append(earlier)
            continue
        own = _shortened(path.stem, MAX_STEM)
        stem = own
        while _folded(stem) in taken:
            # Counted on, not from 2 again: a hundred thousand folders may each hold an `image.png`.
            stem = f"{own}-{next(numbers.setdefault(_folded(own), itertools.count(2)))}"
        taken.add(_folded(stem))
        stems.append(stem)
    return stems


def one_line(text: str) -> str:
    """`text` with its control characters spelled out: it neither ends a line nor commands a terminal."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", stem).casefold())


def _shortened(name: str, size: int) -> str:
    """`name`, or as many characters of it as a file system stores in `size` bytes."""
    short = name[:size]
    while len(os.fsencode(short)) > size:
        short = short[:-1]
    return short


def check_writable(path: Path) -> None:
    """Try whether a file can be written, so that a long run need not end in finding out.

    Raises:
        OSError: it cannot.
    """
    there = path.exists()
    path.open("ab").close()
    if not there:
        path.unlink()
