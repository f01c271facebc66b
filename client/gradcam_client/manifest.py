"""What a served model says of itself."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gradcam_client.contract import PREDICTED_CLASS, SCHEMA
from gradcam_client.errors import IncompatibleModel, MalformedAnswer, UnknownClass

if TYPE_CHECKING:
    from collections.abc import Mapping

RESIZE_POLICIES: Final = ("bilinear",)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One version of a served model, as its exporter described it.

    Attributes:
        version: the version that is served.
        name: the model's name when it was exported.
        input_shape: `(H, W, C)` that images are brought to.
        labels: the classes' names, `N` of them.
        method: the explanation's method, such as `"gradcam"`.
        layer: the layer that the heatmap explains, nested as `outer/inner`.
        grid: `(h, w)` of the heatmap.
        colormap: default colour map of overlays.
        alpha: default opacity of overlays, 0..1.
        max_batch_size: the most images the server takes in one call; `None` sets no limit.
        raw: the whole manifest.
    """

    version: int
    name: str
    input_shape: tuple[int, int, int]
    labels: tuple[str, ...]
    method: str
    layer: str
    grid: tuple[int, int]
    colormap: str
    alpha: float
    max_batch_size: int | None
    raw: Mapping[str, Any]

    @classmethod
    def parse(cls, text: bytes, *, version: int) -> Manifest:
        """Read the JSON that `describe` answers.

        Raises:
            IncompatibleModel: the manifest follows a contract that this client does not know.
            MalformedAnswer: it is not a manifest.
        """
        try:
            raw = json.loads(text)
            _check_schema(raw["schema"])
            _check_resize(raw["input"]["resize"])
            explanation, limit = raw["explanation"], raw["batching"]["max_batch_size"]
            return cls(
                version=version,
                name=str(raw["model"]["name"]),
                input_shape=_positive(raw["input"]["shape"], 3),  # type: ignore[arg-type]
                labels=tuple(str(label) for label in raw["labels"]),
                method=str(explanation["method"]),
                layer=str(explanation["layer"]),
                grid=_positive(explanation["grid"], 2),  # type: ignore[arg-type]
                colormap=str(raw["overlay"]["colormap"]),
                alpha=float(raw["overlay"]["alpha"]),
                max_batch_size=None if limit is None else _positive([limit], 1)[0],
                raw=raw,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedAnswer(f"the server's manifest cannot be read: {error!r}") from error

    def class_index(self, label: str) -> int:
        """The index of class `label`.

        Raises:
            UnknownClass: no class, or more than one, has that label; the message names those that come close.
        """
        if self.labels.count(label) == 1:
            return self.labels.index(label)
        if label in self.labels:
            raise UnknownClass(f"{self._who()} has several classes {label!r}: give the index of one")
        raise UnknownClass(f"{self._who()} has no class {label!r}{self._nearest(label)}")

    def check_class_index(self, index: int) -> None:
        """Refuse an index that the model has no class for.

        Raises:
            UnknownClass: `index` is neither that of a class nor -1, which asks for the predicted one.
        """
        if not PREDICTED_CLASS <= index < len(self.labels):
            raise UnknownClass(
                f"{self._who()} has no class {index}: give 0..{len(self.labels) - 1}, or -1 for the predicted"
            )

    def _who(self) -> str:
        return f"model {self.name!r} version {self.version}"

    def _nearest(self, label: str) -> str:
        folded = {name.casefold(): name for name in self.labels}
        near = difflib.get_close_matches(label.casefold(), folded, n=3, cutoff=0.5)
        if near:
            return f": did you mean {' or '.join(repr(folded[name]) for name in near)}?"
        shown = ", ".join(repr(name) for name in self.labels[:10])
        return f": its {len(self.labels)} classes are {shown}{', …' if len(self.labels) > 10 else ''}"


def _check_schema(schema: object) -> None:
    if not isinstance(schema, int) or schema < 1:
        raise ValueError(f"schema is {schema!r}, not a number from 1 up")
    if schema > SCHEMA:
        raise IncompatibleModel(
            f"the model follows contract {schema}, this client knows up to {SCHEMA}: upgrade gradcam-client"
        )


def _check_resize(policy: object) -> None:
    if policy not in RESIZE_POLICIES:
        raise IncompatibleModel(
            f"the model wants images resized by {policy!r}, this client knows {', '.join(RESIZE_POLICIES)}: "
            "upgrade gradcam-client"
        )


def _positive(sizes: list[Any], count: int) -> tuple[int, ...]:
    if len(sizes) != count or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"{sizes!r} is not {count} positive integers")
    return tuple(sizes)
