"""What a classifier takes, and what its signatures take for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGE_CHANNELS = (1, 3)
"""Grey and RGB: what image files hold."""
DEFAULT_CHANNELS = 3

_RESERVED = (contract.CLASS_INDEX, contract.IMAGES, contract.INPUTS)


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """One input of the signatures, and how the model wants it."""

    name: str
    """Its name in the signatures."""
    shape: tuple[int, ...]
    """Without the batch; of an image `(H, W, C)`, however the model orders them."""
    dtype: str
    """`uint8` for images, `int32` for what the model takes as integers, else `float32`."""
    model_dtype: str
    """What the model's own input is, such as `float32` or `int64`."""
    channels_first: bool = False
    """Whether the model takes `[B,C,...]`; images are `[B,H,W,C]` in the signatures all the same."""

    @property
    def is_image(self) -> bool:
        """Whether it is `[B,H,W,C]` of pixels 0..255."""
        return self.dtype == "uint8"

    @property
    def spatial_rank(self) -> int:
        """Number of axes that positions lie on: 1 of a wave or of tokens, 2 of an image, 3 of a volume."""
        return len(self.shape) - (0 if self.dtype == "int32" else 1)

    @property
    def size(self) -> tuple[int, ...]:
        """Its sizes along those axes."""
        first = self.channels_first and not self.is_image
        return self.shape[1:] if first else self.shape[: self.spatial_rank]


@dataclass(frozen=True, kw_only=True)
class ClassifierInputs:
    """All inputs of a classifier, and the structure it wants them in."""

    inputs: tuple[ModelInput, ...]
    structure: Any
    """Whatever nest of lists and dictionaries the model is called with."""

    @property
    def main(self) -> ModelInput:
        """The input whose positions are explained: the first of those with most axes."""
        return max(self.inputs, key=lambda one: one.spatial_rank)

    @property
    def takes_pictures(self) -> bool:
        """Whether a picture is all it takes."""
        return len(self.inputs) == 1 and self.main.is_image

    def __iter__(self) -> Iterator[ModelInput]:
        return iter(self.inputs)

    def pack(self, tensors: Sequence[Any]) -> Any:
        """Return `tensors`, one an input, in the model's structure."""
        return keras.tree.pack_sequence_as(self.structure, list(tensors))

    def zeros(self) -> Any:
        """Return one row of zeros, as the model is called with."""
        return self.pack([np.zeros((1, *own_shape(one)), one.model_dtype) for one in self.inputs])


def own_shape(one: ModelInput) -> tuple[int, ...]:
    """Return the shape in which the model itself takes `one`, without the batch."""
    return (one.shape[-1], *one.shape[:-1]) if one.is_image and one.channels_first else one.shape


def find_inputs(model: Any, image_size: tuple[int, ...] | None) -> ClassifierInputs:
    """Read off `model` what it takes.

    Args:
        model: a Keras model, built or not.
        image_size: sizes along the spatial axes (and the channels) of the main input, where the model leaves them open.

    Raises:
        LoadError: a size is missing, contradicts `image_size`, or an input is neither numbers nor integers.
    """
    structure, leaves = _leaves(model, image_size)
    first = any(getattr(layer, "data_format", None) == "channels_first" for layer in model._flatten_layers())
    largest = max(range(len(leaves)), key=lambda index: len(leaves[index][1]))
    inputs = []
    for index, (name, known, dtype) in enumerate(leaves):
        asked = image_size if index == largest else None
        shape = _sizes(model.name, known, asked, channels_first=first)
        inputs.append(_model_input(name, shape, dtype, channels_first=first))
    return ClassifierInputs(inputs=tuple(_named(inputs)), structure=structure)


def is_built(model: Any) -> bool:
    """Whether `model` knows what it takes."""
    return _spec(model) is not None


def _spec(model: Any) -> Any:
    """Return the nest of tensors or shapes that `model` was built for, or `None`."""
    try:
        spec = model.input
    except AttributeError:
        spec = None
    if spec is not None and keras.tree.flatten(spec):
        return spec
    return (model.get_build_config() or {}).get("input_shape") if model.built else None


def _leaves(
    model: Any, image_size: tuple[int, ...] | None
) -> tuple[Any, list[tuple[str, tuple[int | None, ...], str]]]:
    """Return the structure that the model is called with, and name, shape without batch and dtype of each part."""
    spec = _spec(model)
    if spec is None:
        # Never called: the size that is asked for says how many axes there are.
        rank = max(len(image_size or ()), 3)
        return 0, [("input", (None,) * rank, "float32")]
    tensors = keras.tree.flatten(spec)
    if all(hasattr(leaf, "dtype") for leaf in tensors):
        keys = dict(_keys(spec))
        return keras.tree.map_structure(lambda _: 0, spec), [
            (keys.get(id(tensor), tensor.name), tuple(tensor.shape)[1:], tf.as_dtype(tensor.dtype).name)
            for tensor in tensors
        ]
    if _is_shape(spec):
        return 0, [("input", tuple(spec)[1:], "float32")]
    named = dict(sorted(spec.items())) if isinstance(spec, dict) else {str(n): shape for n, shape in enumerate(spec)}
    structure: Any = dict.fromkeys(spec, 0) if isinstance(spec, dict) else [0] * len(spec)
    return structure, [(f"input_{key}", tuple(shape)[1:], "float32") for key, shape in named.items()]


def _keys(spec: Any) -> Iterator[tuple[int, str]]:
    """Yield identity and key of each tensor of a dictionary, at any depth (Keras 3.5 has no `flatten_with_path`)."""
    items = spec.items() if isinstance(spec, dict) else enumerate(spec) if isinstance(spec, list | tuple) else ()
    for key, part in items:
        if isinstance(key, str) and hasattr(part, "dtype"):
            yield id(part), key
        yield from _keys(part)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(size, int | None) for size in value)


def _contradicts(known: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return any(own and other and own != other for own, other in zip(known, wanted, strict=True))


def _sizes(
    model: str, known: tuple[int | None, ...], asked: tuple[int, ...] | None, *, channels_first: bool
) -> tuple[int, ...]:
    """Return `known` with its open sizes filled from `asked`, which may leave the channels out."""
    if asked is not None and len(asked) not in (len(known), len(known) - 1):
        raise LoadError(
            f"{model!r} takes inputs of {len(known)} axes beside the batch, {_size(known)}; image_size {_size(asked)} "
            "does not fit them."
        )
    wanted: list[int | None] = [None] * len(known)
    for index, size in enumerate(asked or ()):
        channel_left_out = len(asked or ()) < len(known)
        wanted[index + (channels_first and channel_left_out)] = size
    if channels_first and _contradicts(known, wanted):
        # A picture as the server takes it, and as its manifest has it.
        wanted = [wanted[-1], *wanted[:-1]]
    if _contradicts(known, wanted):
        raise LoadError(f"{model!r} takes inputs of {_size(known)}, not {_size(asked or ())}.")
    sizes = [own or other for own, other in zip(known, wanted, strict=True)]
    channel = 0 if channels_first else -1
    if len(sizes) == 3 and sizes[channel] is None:
        sizes[channel] = DEFAULT_CHANNELS
    if None in sizes:
        raise LoadError(
            f"{model!r} leaves its input size open ({_size(known)}): say it with --image-size HxW (image_size=(H, W))."
        )
    return tuple(size for size in sizes if size is not None)


def _size(shape: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)


def _model_input(name: str, shape: tuple[int, ...], dtype: str, *, channels_first: bool) -> ModelInput:
    kind = tf.as_dtype(dtype)
    if not (kind.is_floating or kind.is_integer):
        raise LoadError(f"input {name!r} takes {dtype}; a classifier of numbers is needed.")
    channels = shape[0] if channels_first and len(shape) == 3 else shape[-1] if shape else 0
    if len(shape) == 3 and channels in IMAGE_CHANNELS:
        size = (*shape[1:], channels) if channels_first else shape
        return ModelInput(name=name, shape=size, dtype="uint8", model_dtype=dtype, channels_first=channels_first)
    served = "int32" if kind.is_integer else "float32"
    first = channels_first and kind.is_floating and len(shape) > 1
    return ModelInput(name=name, shape=shape, dtype=served, model_dtype=dtype, channels_first=first)


def _named(inputs: list[ModelInput]) -> Iterator[ModelInput]:
    """Give a single image the contract's name, a single other input likewise, and every input a name of its own."""
    images = [one for one in inputs if one.is_image]
    taken: set[str] = set()
    for one in inputs:
        if len(images) == 1 and one is images[0]:
            name = contract.IMAGES
        elif len(inputs) == 1:
            name = contract.INPUTS
        else:
            name = one.name
            while name in taken or name in _RESERVED:
                name += "_input"
        taken.add(name)
        yield ModelInput(**{**vars(one), "name": name})
