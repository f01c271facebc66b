"""numpy arrays to and from the wire's tensors.

An answer comes from outside: everything about it is checked before memory is taken for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from gradcam_client.errors import MalformedAnswer, OptionError
from gradcam_client.wire import gradcam_wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]

MAX_RANK: Final = 32
"""The most axes that numpy 1 takes; TensorFlow stops at 254."""

MAX_ELEMENTS: Final = 2**60 - 1
"""What numpy can address, of eight bytes each; it counts an axis without elements as one."""

MAX_REPEATED_BYTES: Final = 64 << 20
"""How far a repeated last value may fill a shape: tens of bytes could ask for terabytes."""


class _Form(NamedTuple):
    dtype: np.dtype[Any]
    """How `tensor_content` holds one value."""
    values: str
    """The field that holds the values when `tensor_content` does not."""


# Every server runs on little-endian machines and writes its memory as it is.
_FORMS: Final = {
    wire.DT_FLOAT: _Form(np.dtype("<f4"), "float_val"),
    wire.DT_DOUBLE: _Form(np.dtype("<f8"), "double_val"),
    wire.DT_INT32: _Form(np.dtype("<i4"), "int_val"),
    wire.DT_UINT8: _Form(np.dtype("u1"), "int_val"),
    wire.DT_INT16: _Form(np.dtype("<i2"), "int_val"),
    wire.DT_INT8: _Form(np.dtype("i1"), "int_val"),
    wire.DT_INT64: _Form(np.dtype("<i8"), "int64_val"),
    wire.DT_BOOL: _Form(np.dtype("?"), "bool_val"),
    wire.DT_UINT16: _Form(np.dtype("<u2"), "int_val"),
    wire.DT_HALF: _Form(np.dtype("<f2"), "half_val"),
    wire.DT_BFLOAT16: _Form(np.dtype("<u2"), "half_val"),
    wire.DT_UINT32: _Form(np.dtype("<u4"), "uint32_val"),
    wire.DT_UINT64: _Form(np.dtype("<u8"), "uint64_val"),
}
# These fields hold 32-bit integers, whatever the type.
_NARROW: Final = frozenset({"int_val", "half_val"})
# numpy has no bfloat16: its bit patterns are decoded, to float32, and never sent.
_SENT: Final = {form.dtype: dtype for dtype, form in _FORMS.items() if dtype != wire.DT_BFLOAT16}


def encode(array: Array) -> wire.TensorProto:
    """Write numbers as little-endian `tensor_content`, and arrays of `bytes` as `string_val`.

    Args:
        array: any shape; numeric, boolean, or of dtype object holding `bytes`.

    Raises:
        OptionError: TensorFlow has no type for the array's values.
    """
    shape = wire.TensorShapeProto(dim=[wire.TensorShapeProto.Dim(size=size) for size in array.shape])
    if array.dtype == object:
        values = array.reshape(-1).tolist()
        if not all(isinstance(value, bytes) for value in values):
            raise OptionError("an array of dtype object is sent as strings: each value must be bytes")
        return wire.TensorProto(dtype=wire.DT_STRING, tensor_shape=shape, string_val=values)
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if little_endian.dtype not in _SENT:
        raise OptionError(f"values of type {array.dtype} cannot be sent: send numbers, booleans or bytes")
    return wire.TensorProto(
        dtype=_SENT[little_endian.dtype], tensor_shape=shape, tensor_content=little_endian.tobytes()
    )


def decode(tensor: wire.TensorProto) -> Array:
    """Read a tensor in any form that a server writes.

    Where fewer values came than the shape has elements, the last one stands for the rest, as in TensorFlow.
    No value at all is an error here, though TensorFlow reads zeros: a heatmap that was lost must not look
    like an empty one.

    Returns:
        Array of the tensor's shape; strings as dtype object holding `bytes`, bfloat16 as float32.

    Raises:
        MalformedAnswer: the tensor contradicts itself, or has a type without a numpy counterpart.
    """
    shape = _shape(tensor)
    count = math.prod(shape)
    if tensor.dtype == wire.DT_STRING:
        strings = np.empty(len(tensor.string_val), dtype=object)
        strings[:] = list(tensor.string_val)
        return _repeat_last(strings, count).reshape(shape)
    if tensor.dtype not in _FORMS:
        raise MalformedAnswer(f"a tensor came with type {tensor.dtype}, which this client cannot read")
    form = _FORMS[tensor.dtype]
    if tensor.tensor_content:
        values = _content(tensor.tensor_content, form.dtype, count)
    else:
        values = _repeat_last(_values(tensor, form), count)
    return _from_bits(values, tensor.dtype).reshape(shape)


def _shape(tensor: wire.TensorProto) -> tuple[int, ...]:
    """Sizes as Python integers, whose product cannot overflow."""
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or len(shape) > MAX_RANK or any(size < 0 for size in shape):
        rank = "unknown rank" if tensor.tensor_shape.unknown_rank else f"shape {list(shape[: MAX_RANK + 1])}"
        raise MalformedAnswer(f"a tensor came with {rank}: expected sizes from 0 up on at most {MAX_RANK} axes")
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise MalformedAnswer(f"a tensor came with shape {list(shape)}: no array can be so large")
    return shape


def _content(content: bytes, dtype: np.dtype[Any], count: int) -> Array:
    if len(content) != count * dtype.itemsize:
        raise MalformedAnswer(
            f"a tensor came with {len(content)} bytes, its shape needs {count} values of {dtype.itemsize}"
        )
    return np.frombuffer(content, dtype=dtype)


def _values(tensor: wire.TensorProto, form: _Form) -> Array:
    values: Sequence[float] = getattr(tensor, form.values)
    if form.values not in _NARROW:
        return np.fromiter(values, dtype=form.dtype, count=len(values))
    numbers = np.fromiter(values, dtype=np.int32, count=len(values))
    # Both half precisions travel as the integers that their bits spell.
    stored = np.dtype("<u2") if form.values == "half_val" else form.dtype
    # numpy 1.26 wraps what does not fit and only warns.
    narrow = numbers.astype(stored)
    if not np.array_equal(narrow, numbers):
        raise MalformedAnswer(f"a tensor came with a value outside {stored.name}")
    return narrow.view(form.dtype)


def _repeat_last(values: Array, count: int) -> Array:
    missing = count - len(values)
    if missing == 0:
        return values
    if missing < 0 or not len(values):
        raise MalformedAnswer(f"a tensor came with {len(values)} values where its shape needs {count}")
    if missing * values.itemsize > MAX_REPEATED_BYTES:
        raise MalformedAnswer(
            f"a tensor came with {len(values)} values for {count} elements: "
            f"more than {MAX_REPEATED_BYTES >> 20} MiB of repetition is refused"
        )
    return np.concatenate([values, np.repeat(values[-1:], missing)])


def _from_bits(values: Array, dtype: int) -> Array:
    if dtype == wire.DT_BFLOAT16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values
