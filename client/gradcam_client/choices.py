"""Which class of each image to explain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from gradcam_client import contract
from gradcam_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcam_client.manifest import Manifest

Choice: TypeAlias = int | str | None
"""A class by its index or its label; `None` is the class that the model predicts."""


class Asked(NamedTuple):
    """A picture, or the bytes of its file, and the class to explain."""

    image: Any
    choice: Choice


def class_choices(
    count: int, class_index: int | Sequence[int] | None, label: str | Sequence[str] | None
) -> list[Choice]:
    """One class for each of `count` images, from one for all or one for each.

    Raises:
        OptionError: index and label are both given, not as many as images, or neither a number nor a text.
    """
    if class_index is not None and label is not None:
        raise OptionError(f"class index {class_index} and label {label!r} were both given: give one of them")
    chosen: Any = label if class_index is None else class_index
    for_all = isinstance(chosen, str) or not isinstance(chosen, Iterable)
    choices: list[Any] = [chosen] * count if for_all else list(chosen)
    for one in choices:
        if not isinstance(one, str | int | np.integer | None):
            raise OptionError(f"class {one!r} was asked for: give a class index, an integer, or a label")
    if len(choices) != count:
        raise OptionError(f"{len(choices)} classes for {count} images: give one for all, or one for each")
    return choices


def class_indices(part: Sequence[Asked], manifest: Manifest) -> dict[str, np.ndarray[Any, np.dtype[np.int32]]]:
    """`class_index` `[B]` int32, as a request holds it.

    Raises:
        UnknownClass: the model has no such class.
    """
    return {contract.CLASS_INDEX: np.array([class_index(one.choice, manifest) for one in part], np.int32)}


def class_index(choice: Choice, manifest: Manifest) -> int:
    """The number that asks for `choice`.

    Raises:
        UnknownClass: the model has no such class.
    """
    if choice is None:
        return contract.PREDICTED_CLASS
    if isinstance(choice, str):
        return manifest.class_index(choice)
    manifest.check_class_index(choice)
    return choice
