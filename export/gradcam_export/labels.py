"""Class names: read, checked against the classifier, or made up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gradcam_export.errors import LabelsError

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_labels(labels: Sequence[str] | str | Path | None) -> tuple[str, ...] | None:
    """Return the class names that are given, checked by themselves: before a model is loaded, which takes time.

    Args:
        labels: names in the order of the classifier's outputs, or a UTF-8 text file of one a line.

    Raises:
        LabelsError: unreadable file, empty or repeated names.
    """
    if labels is None:
        return None
    source = f"{labels}: " if isinstance(labels, str | Path) else "labels: "
    names = _read(Path(labels)) if isinstance(labels, str | Path) else tuple(labels)
    if not names:
        raise LabelsError(f"{source}there are none.")
    for line, name in enumerate(names, start=1):
        if not name.strip() or "\n" in name:
            raise LabelsError(f"{source}label {line} is {name!r}; each must be one line of text.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise LabelsError(
            f"{source}repeated: {', '.join(map(repr, repeated[:5]))}. Each class needs a name of its own."
        )
    return names


def labels_of(names: tuple[str, ...] | None, classes: int) -> tuple[str, ...]:
    """Return one label per class: the given `names`, or `class_0`, `class_1` and so on.

    Raises:
        LabelsError: there are not as many names as classes.
    """
    if names is None:
        return tuple(f"class_{index}" for index in range(classes))
    if len(names) != classes:
        raise LabelsError(
            f"labels: {len(names)} labels ({names[0]!r} … {names[-1]!r}) for a classifier of {classes} classes."
        )
    return names


def _read(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise LabelsError(f"{path}: cannot be read as a file of labels: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise LabelsError(f"{path}: not UTF-8 text (byte {error.start}).") from error
    return tuple(line.strip() for line in text.rstrip("\n").splitlines())
