"""Which image files a command line names, and what to call their results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gradcam_client.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUFFIXES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What counts as an image in a folder; a file that is named itself is always tried."""

MAX_LABEL: Final = 40
"""The most characters of a label in a file's name, which may have 255 bytes."""


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
    words = re.sub(r"[\W_]+", "-", label).strip("-")[:MAX_LABEL]
    return f"{stem}_{rank}_{words or 'class'}"


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """A name for each file's results: its stem, numbered where an earlier file has the same.

    Names that differ in case alone count as the same, since some file systems hold them so.
    """
    taken: set[str] = set()
    stems: list[str] = []
    for path in paths:
        stem, number = path.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{path.stem}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems
