"""Tensors as nested JSON lists and back, by the rules of TensorFlow Serving's json_tensor.cc.

Stricter in two places, where the stock server passes on what was not meant: a number that its integer type
cannot hold is refused (there, 300 becomes 44 as uint8), and so is output that is no UTF-8 and not named
`…_bytes` (there, the answer is not JSON).
"""

from __future__ import annotations

import base64
import json
from itertools import chain
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from gradcam_export.server.status import StatusError, invalid_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE64_KEY = "b64"
BYTES_SUFFIX = "_bytes"

_FLOATS: dict[int, type[np.floating[Any]]] = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_DOUBLE: np.float64}
_INTEGERS: dict[int, type[np.integer[Any]]] = {
    types_pb2.DT_INT8: np.int8,
    types_pb2.DT_INT16: np.int16,
    types_pb2.DT_INT32: np.int32,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_UINT8: np.uint8,
    types_pb2.DT_UINT32: np.uint32,
    types_pb2.DT_UINT64: np.uint64,
}
_TYPES = {*_FLOATS, *_INTEGERS, types_pb2.DT_BOOL, types_pb2.DT_STRING}
_JSON_TYPES = {dict: "Object", list: "Array", str: "String", bool: "Bool", type(None): "Null"}
_SHOWN_CHARACTERS = 100


def tensor_from_json(name: str, value: Any, dtype: int) -> tensor_pb2.TensorProto:
    """The tensor that nested lists say; a bare value has no axis.

    Args:
        name: what to call it in an error.
        value: as the JSON parser gave it.
        dtype: the `DataType` to make of its leaves.

    Raises:
        StatusError: INVALID_ARGUMENT: ragged lists, or a value that the type does not hold. UNIMPLEMENTED: a type
            that JSON has no form for (half, bfloat16, uint16, …).
    """
    if dtype not in _TYPES:
        message = f"Input {name} has the type {_type_name(dtype)}, which JSON cannot carry"
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, message)
    shape, leaves = _flatten(name, value)
    proto = tensor_pb2.TensorProto(dtype=dtype)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == types_pb2.DT_STRING:
        proto.string_val.extend([_string(name, leaf) for leaf in leaves])
    elif dtype == types_pb2.DT_BOOL:
        _check_types(name, leaves, {bool}, dtype)
        proto.tensor_content = np.array(leaves, np.bool_).tobytes()
    elif dtype in _FLOATS:
        proto.tensor_content = _floats(name, leaves, dtype).tobytes()
    else:
        proto.tensor_content = _integers(name, leaves, dtype).tobytes()
    return proto


def is_base64(value: Any) -> bool:
    """Whether `value` stands for bytes rather than for named values."""
    return isinstance(value, dict) and value.keys() == {BASE64_KEY} and isinstance(value[BASE64_KEY], str)


def _flatten(name: str, value: Any) -> tuple[list[int], list[Any]]:
    """Sizes of the nested lists, and the leaves in them; the first list of each level sets its size."""
    shape: list[int] = []
    leaves = [value]
    while leaves and isinstance(leaves[0], list):
        size = len(leaves[0])
        for position, item in enumerate(leaves):
            if not isinstance(item, list):
                where = _where(name, position, shape)
                raise invalid_argument(f"{where}: JSON Value: {_shown(item)} where a list of {size} is expected")
            if len(item) != size:
                where = _where(name, position, shape)
                message = f"{where}: Encountered list at unexpected size: {len(item)}, expected: {size}"
                raise invalid_argument(message)
        shape.append(size)
        leaves = list(chain.from_iterable(leaves))
    if list in set(map(type, leaves)):
        where = _where(name, next(i for i, leaf in enumerate(leaves) if isinstance(leaf, list)), shape)
        raise invalid_argument(f"{where}: Encountered list at unexpected level: {len(shape)}")
    return shape, leaves


def _where(name: str, position: int, shape: Sequence[int]) -> str:
    indices = np.unravel_index(position, shape) if shape else ()
    return name + "".join(f"[{index}]" for index in indices)


def _check_types(name: str, leaves: list[Any], allowed: set[type], dtype: int) -> None:
    if wrong := set(map(type, leaves)) - allowed:
        leaf = next(leaf for leaf in leaves if type(leaf) in wrong)
        kind = _JSON_TYPES.get(type(leaf), "Number")
        raise invalid_argument(
            f"{name}: JSON Value: {_shown(leaf)} Type: {kind} is not of expected type: {_type_name(dtype)}"
        )


def _integers(name: str, leaves: list[int], dtype: int) -> np.ndarray[Any, Any]:
    _check_types(name, leaves, {int}, dtype)
    limits = np.iinfo(_INTEGERS[dtype])
    for extreme in (min(leaves, default=0), max(leaves, default=0)):
        if not limits.min <= extreme <= limits.max:
            raise invalid_argument(f"{name}: JSON Value: {_shown(extreme)} is not in the range of {_type_name(dtype)}")
    return np.array(leaves, _INTEGERS[dtype])


def _floats(name: str, leaves: list[float], dtype: int) -> np.ndarray[Any, Any]:
    """The leaves as floats; a whole number that has none, and a fraction out of range, are refused."""
    _check_types(name, leaves, {int, float}, dtype)
    exact = 2 ** (np.finfo(_FLOATS[dtype]).nmant + 1) - 1
    try:
        wide = np.array(leaves, np.float64)
    except OverflowError:
        wide = np.array([np.inf if abs(leaf) > exact else leaf for leaf in leaves])
    with np.errstate(over="ignore"):
        values = wide.astype(_FLOATS[dtype])
    overflown = np.isinf(values) & np.isfinite(wide)
    for position in np.flatnonzero(overflown | (np.abs(wide) > exact)):
        if overflown[position] or isinstance(leaves[position], int):
            raise invalid_argument(
                f"{name}: Cannot convert JSON value: {_shown(leaves[position])} to {_type_name(dtype)} "
                "without loss of precision."
            )
    return values


def _string(name: str, leaf: Any) -> bytes:
    if is_base64(leaf):
        # Without the padding, and with line ends, it is still base64 to the stock server.
        text = "".join(leaf[BASE64_KEY].split()).rstrip("=")
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError as error:
            raise invalid_argument(f"{name}: Unable to base64 decode {_shown(leaf)}: {error}") from error
    if isinstance(leaf, dict):
        raise invalid_argument(f"{name}: JSON Value: {_shown(leaf)} not formatted correctly for base64 data")
    _check_types(name, [leaf], {str}, types_pb2.DT_STRING)
    try:
        return str(leaf).encode()
    except UnicodeEncodeError as error:
        raise invalid_argument(f"{name}: JSON Value: {_shown(leaf)} holds half a character: {error.reason}") from error


def json_from_tensor(name: str, proto: tensor_pb2.TensorProto) -> Any:
    """An output as nested lists; strings whose name ends in `_bytes` as base64.

    Raises:
        StatusError: INVALID_ARGUMENT: a type that JSON has no form for, or bytes under another name.
    """
    if proto.dtype not in _TYPES:
        raise invalid_argument(
            f"Failed to write JSON value for tensor type: {_type_name(proto.dtype)} of output {name}"
        )
    array = tf.make_ndarray(proto)
    if proto.dtype == types_pb2.DT_STRING:
        texts = np.empty(array.size, object)
        texts[:] = [_text(name, value) for value in array.ravel()]
        return texts.reshape(array.shape).tolist()
    if proto.dtype == types_pb2.DT_FLOAT:
        # By way of its shortest text: 0.1, not the seventeen digits of the double that is nearest to the float.
        return array.astype(np.str_).astype(np.float64).tolist()
    return array.tolist()


def _text(name: str, value: bytes) -> str | dict[str, str]:
    if name.endswith(BYTES_SUFFIX):
        return {BASE64_KEY: base64.b64encode(value).decode("ascii")}
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise invalid_argument(
            f"Output {name} holds bytes that are no text ({error.reason}); JSON carries such bytes for outputs whose "
            f"name ends in {BYTES_SUFFIX}, gRPC for all"
        ) from error


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _type_name(dtype: int) -> str:
    return str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower()
