"""`results.jsonl`: a line for each image that was explained, written as answers come, and read again to go on."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from gradcam_client.archives import archive_of
from gradcam_client.errors import OptionError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradcam_client.results import Explanation

FILE_NAME: Final = "results.jsonl"
TOP: Final = 5
"""How many classes of highest score a line names."""


def fingerprint(path: Path) -> dict[str, int]:
    """What tells a changed file from the one that was explained: its size in bytes, and when it was last written.

    Of a file in an archive it is the archive that is looked at.

    Raises:
        OSError: the file is not there.
    """
    found = (archive_of(path) or path).stat()
    return {"file_size": found.st_size, "file_mtime_ns": found.st_mtime_ns}


def record(
    path: Path, stem: str, ranked: Sequence[Explanation], overlays: Sequence[str | None], *, several: bool
) -> dict[str, Any]:
    """What a line says of one image.

    Args:
        path: the image's file, as it was named.
        stem: what the files of its results are called.
        ranked: its explanations, best class first.
        overlays: the file name of each one's overlay; a folder is not part of it, so that both may be moved together.
        several: the best classes were asked for: each is told under `classes`.
    """
    first = ranked[0]
    line: dict[str, Any] = {"image": str(path), "stem": stem, **_class(first)}
    line["top"] = [{"label": label, "score": score} for label, score in first.top(TOP)]
    line |= {"method": first.method, "model_version": first.model_version}
    if several:
        pairs = enumerate(zip(ranked, overlays, strict=True), 1)
        line["classes"] = [{"rank": rank, **_class(one), "overlay": overlay} for rank, (one, overlay) in pairs]
    return line | {"overlay": overlays[0]}


def _class(one: Explanation) -> dict[str, Any]:
    return {
        "label": one.label,
        "class_index": one.class_index,
        "score": one.score,
        "heatmap_peak": one.heatmap_peak,
    }


class Results:
    """The file `results.jsonl` of a folder, open for further lines; each is with the system before the next is asked.

    Args:
        folder: where the file is.
        asked: what decides the answers and how they are drawn, in types that `json` writes; each line repeats it.
        resume: the images of this run, to keep the lines of an earlier one, except those of such images that have
            changed since, or whose overlays are gone. Without it the file begins anew.

    Raises:
        OptionError: the earlier run asked something else, the file does not hold what this class writes, or another
            run writes it at this time.
        OSError: the file cannot be read or written.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], *, resume: Iterable[Path] | None = None) -> None:
        self._path = folder / FILE_NAME
        self._asked = dict(asked)
        self._kept: dict[str, str] = {}
        with contextlib.ExitStack() as opened:
            opened.enter_context(_alone_in(folder))
            if resume is not None and self._path.exists():
                self._keep({str(path) for path in resume})
            # Bytes, unbuffered: a line is written whole, or what is there of it is the file's end.
            self._file = opened.enter_context(self._path.open("wb" if resume is None else "ab", buffering=0))
            self._opened = opened.pop_all()

    @property
    def kept(self) -> Mapping[str, str]:
        """The stems of images that earlier runs have explained, by the images' paths."""
        return self._kept

    def append(self, line: Mapping[str, Any], *, seconds: float, file: Mapping[str, int]) -> None:
        """Write one line.

        Args:
            line: from `record`.
            seconds: of the call that answered.
            file: the image's `fingerprint` from before it was read.

        Raises:
            OSError: it cannot be written, for example because the disk is full.
        """
        answered = datetime.now(UTC).isoformat(timespec="milliseconds")
        whole = {**line, "seconds": round(seconds, 6), "answered": answered, **file, "asked": self._asked}
        data = json.dumps(whole, allow_nan=False).encode() + b"\n"
        try:
            # On a disk that is nearly full the system may take a part; writing the rest then says why.
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def _keep(self, paths: set[str]) -> None:
        """Write the file anew with those lines that still hold, in one step: a run that is killed here loses none."""
        new = self._path.with_name(f"{FILE_NAME}.new")
        with self._path.open("rb") as earlier, new.open("wb") as kept:
            for number, text in enumerate(earlier, 1):
                line = self._parse(text, number)
                if line is None:
                    continue
                if line["image"] in paths:
                    self._check_asked(line)
                    if not self._holds(line):
                        continue
                self._kept[line["image"]] = line["stem"]
                kept.write(text.rstrip(b"\r\n") + b"\n")
        new.replace(self._path)

    def _parse(self, text: bytes, number: int) -> dict[str, Any] | None:
        try:
            line = json.loads(text)
            # All that is read of a line later.
            _ = line["image"] + line["stem"], line["asked"], line["file_size"], line["file_mtime_ns"], line["overlay"]
        except (ValueError, KeyError, TypeError) as error:
            if not text.endswith(b"\n"):
                return None  # the run was killed while it wrote this line
            raise OptionError(
                f"{self._path} line {number}: is no line that gradcam explain wrote, so nothing can be resumed: "
                "mend it, or leave out --resume"
            ) from error
        return line  # type: ignore[no-any-return]

    def _check_asked(self, line: Mapping[str, Any]) -> None:
        if line["asked"] != self._asked:
            raise OptionError(
                f"{self._path}: {line['image']} was asked with {_shown(line['asked'])}, now with "
                f"{_shown(self._asked)}: give the same, another --out, or leave out --resume"
            )

    def _holds(self, line: Mapping[str, Any]) -> bool:
        pictures = [line["overlay"], *(one["overlay"] for one in line.get("classes", ()))]
        if not all(name is None or (self._path.parent / name).exists() for name in pictures):
            return False
        try:
            found = fingerprint(Path(line["image"]))
        except OSError:
            return False  # asked again, the reading says what is wrong with it
        return all(line[key] == value for key, value in found.items())


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs from writing results to a folder; by a lock that ends with the process, however it does."""
    if sys.platform == "win32":
        yield
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OptionError(
            f"{folder}: another run is writing its results here: wait for its end, or give another --out"
        ) from None
    except OSError:
        pass  # a file system of a network may have no locks
    try:
        yield
    finally:
        os.close(lock)


def _shown(asked: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in asked.items()) or "no options"
