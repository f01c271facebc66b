"""What a served model says of itself."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gradcam_client import contract
from gradcam_client.errors import IncompatibleModel, MalformedAnswer, OptionError, UnknownClass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESIZE_POLICIES: Final = ("bilinear",)


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """One tensor that a model takes.

    Attributes:
        name: the tensor's name in the signature; `"images"` where the model takes pictures.
        dtype: `"uint8"`, `"float32"` or `"int32"`.
        shape: sizes after the batch axis.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> ModelInput:
        """Read one input of a manifest; manifests that give no name and type are of models that take pictures.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it is not one.
        """
        name, dtype = str(raw.get("name", contract.IMAGES)), str(raw.get("dtype", "uint8"))
        return cls(name=name, dtype=dtype, shape=_positive(raw["shape"]))

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} [{', '.join(map(str, ('B', *self.shape)))}]"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One version of a served model, as its exporter described it.

    Attributes:
        version: the version that is served.
        name: the model's name when it was exported.
        inputs: what the model takes, the input that is explained first.
        labels: the classes' names, `N` of them.
        method: the CAM method of explanations that ask for no other, such as `"gradcam"`.
        methods: all methods that can be asked for.
        top_k: T, the number of classes that `top_k` explains; 0 where the model has no such signature.
        layer: the layer that the heatmap explains, nested as `outer/inner`.
        grid: `(h, w)` of the heatmap; `(w,)` of a wave's, `(d, h, w)` of a volume's.
        colormap: default colour map of overlays.
        alpha: default opacity of overlays, 0..1.
        max_batch_size: the most images the server takes in one call; `None` sets no limit.
        raw: the whole manifest.
    """

    version: int
    name: str
    inputs: tuple[ModelInput, ...]
    labels: tuple[str, ...]
    method: str
    methods: tuple[str, ...]
    top_k: int
    layer: str
    grid: tuple[int, ...]
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
            first = ModelInput.parse(raw["input"])
            if first.name == contract.IMAGES:
                _check_resize(raw["input"]["resize"])
            explanation, limit = raw["explanation"], raw["batching"]["max_batch_size"]
            return cls(
                version=version,
                name=str(raw["model"]["name"]),
                inputs=(first, *map(ModelInput.parse, raw.get("more_inputs", ()))),
                labels=tuple(str(label) for label in raw["labels"]),
                method=str(explanation["method"]),
                methods=tuple(map(str, explanation.get("methods", [explanation["method"]]))),
                top_k=_positive([explanation["top_k"]])[0] if "top_k" in explanation else 0,
                layer=str(explanation["layer"]),
                grid=_positive(explanation["grid"]),
                colormap=str(raw["overlay"]["colormap"]),
                alpha=float(raw["overlay"]["alpha"]),
                max_batch_size=None if limit is None else _positive([limit])[0],
                raw=raw,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MalformedAnswer(f"the server's manifest cannot be read: {error!r}") from error

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What the explained input is brought to, `(H, W, C)` for pictures."""
        return self.inputs[0].shape

    def picture_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` that pictures are brought to.

        Raises:
            IncompatibleModel: the model takes something else than one picture, or explains it on no `[h, w]` grid.
        """
        first, *others = self.inputs
        takes_pictures = (first.name, first.dtype, others) == (contract.IMAGES, "uint8", [])
        if not takes_pictures or len(first.shape) != 3 or len(self.grid) != 2:
            raise IncompatibleModel(
                f"{self._who()} takes {' and '.join(map(str, self.inputs))} and explains it on a grid "
                f"{list(self.grid)}: this client sends pictures, 'images' uint8 [B, H, W, C], and reads maps [h, w]; "
                "call the model with tensorflow-serving-api"
            )
        height, width, channels = first.shape
        return height, width, channels

    def explain_signature(self, method: str | None) -> str:
        """The signature that explains a given class by `method`; `None` is the model's own.

        Raises:
            OptionError: the model does not explain by that method.
        """
        if method is None or method == self.method:
            return contract.EXPLAIN
        if method not in self.methods:
            raise OptionError(f"{self._who()} has no method {method!r}: it explains by {', '.join(self.methods)}")
        return contract.explain_signature(method)

    def check_top_k(self) -> None:
        """Refuse to explain several classes in one call where the model cannot.

        Raises:
            IncompatibleModel: the model has no signature for it.
        """
        if not self.top_k:
            raise IncompatibleModel(
                f"{self._who()} does not explain its best classes in one call: build it anew with gradcam-export, "
                "or explain one class at a time"
            )

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
        if not contract.PREDICTED_CLASS <= index < len(self.labels):
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
    if schema > contract.SCHEMA:
        raise IncompatibleModel(
            f"the model follows contract {schema}, this client knows up to {contract.SCHEMA}: upgrade gradcam-client"
        )


def _check_resize(policy: object) -> None:
    if policy not in RESIZE_POLICIES:
        raise IncompatibleModel(
            f"the model wants images resized by {policy!r}, this client knows {', '.join(RESIZE_POLICIES)}: "
            "upgrade gradcam-client"
        )


def _positive(sizes: Sequence[Any]) -> tuple[int, ...]:
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"{sizes!r} are not all positive integers")
    return tuple(sizes)
