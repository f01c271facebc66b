"""Which image files a command line names, and what to call their results."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gradcam_client.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUFFIXES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What counts as an image in a folder; a file that is named itself is always tried."""

MAX_STEM: Final = 150
MAX_LABEL: Final = 60
"""The most bytes of a picture's name and of a label in a file's name, which may have 255."""

# Every control character of Unicode, and the two separators that end a line.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def expand(names: Iterable[str]) -> list[Path]:
    """The files in the order they were named; a folder stands for its image files, sorted.

    Raises:
        ImageError: a folder holds no image.
    """
    paths: list[Path] = []
    for path in map(Path, names):
        if not path.is_dir():
            paths.append(path)
            continue
        found = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES)
        if not found:
            raise ImageError(f"{path}: the folder holds no image ({' '.join(sorted(SUFFIXES))})")
        paths += found
    return paths


def class_stem(stem: str, rank: str, label: str) -> str:
    """A name for the results of one class of one picture, `<stem>_<rank>_<label>`, whatever the label holds.

    Neither rank nor label keeps an underscore: the last two of a name always part it, so that names are as
    different as stems and ranks are.
    """
    words = _shortened(re.sub(r"[\W_]+", "-", label).strip("-"), MAX_LABEL)
    return f"{stem}_{rank}_{words or 'class'}"


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """A name for each file's results: its stem, shortened, and numbered where an earlier file has the same.

    A stem has no folder in it, so that a result stays in the folder it is written to. Names that differ in case, or in
    how an accent is spelled, count as the same, since some file systems hold them so.
    """
    taken: set[str] = set()
    stems: list[str] = []
    for path in paths:
        own = _shortened(path.stem, MAX_STEM)
        stem, number = own, 1
        while _folded(stem) in taken:
            number += 1
            stem = f"{own}-{number}"
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
