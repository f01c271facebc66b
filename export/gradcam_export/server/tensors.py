"""`TensorProto` to array and back, by the rules of TensorFlow Serving, with hostile claims refused first.

A `TensorProto` may name any shape and hold one value, which the runtime then repeats: tens of bytes make the
stock parser allocate gigabytes. So every claim is checked in Python's unbounded integers before anything is
allocated for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from gradcam_export.server.status import StatusError, from_op_error, invalid_argument

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

MAX_REPEATED_BYTES = 64 * 2**20
"""How much a tensor may grow beyond the values that were sent for it."""

MAX_REPEATED_STRINGS = 1024
"""How many strings may be repeated: for each the graph may answer, or decode, thousands of times its length."""

MAX_RANK = 32  # of an array of NumPy 1; TensorFlow itself takes 254

_STRING_BYTES = 64
"""What a string costs besides its characters: a tstring, a bytes object and the pointer to it."""

_VALUE_FIELD = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint16: "int_val",
    tf.uint8: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
}


def decode(name: str, proto: tensor_pb2.TensorProto, info: TensorInfo) -> np.ndarray[Any, Any]:
    """The value of input `name`.

    Args:
        name: the input's name in the signature.
        proto: what the request carries for it.
        info: what the signature says of it.

    Raises:
        StatusError: INVALID_ARGUMENT: another type or shape than the signature's, or no well-formed tensor.
    """
    shape = _checked_shape(name, proto, info)
    dtype = tf.dtypes.as_dtype(info.dtype)
    _check_claim(name, proto, shape, dtype)
    if _is_raw(proto, shape):
        return np.frombuffer(proto.tensor_content, dtype.as_numpy_dtype).reshape(shape)
    try:
        # The runtime's own parser: missing values repeat the last, surplus ones are dropped, none are zeros.
        value = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except tf.errors.OpError as error:
        raise _malformed(name, from_op_error(error).message) from error
    return np.asarray(value, dtype.as_numpy_dtype)  # TensorFlow gives bytes for a string without a rank


def _checked_shape(name: str, proto: tensor_pb2.TensorProto, info: TensorInfo) -> tuple[int, ...]:
    if proto.dtype != info.dtype:
        expected = tf.dtypes.as_dtype(info.dtype).name
        raise invalid_argument(f"Expects {name} to be {expected} but {_type_name(proto.dtype)} is provided")
    if proto.tensor_shape.unknown_rank:
        raise _malformed(name, "its shape has no rank")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise _malformed(name, f"no tensor has the shape {list(shape[:8])}")
    if not tf.TensorShape(info.tensor_shape).is_compatible_with(shape):
        expected = [dim.size for dim in info.tensor_shape.dim]
        raise invalid_argument(f"Expects {name} to have the shape {expected} but {list(shape)} is provided")
    return shape


def _is_raw(proto: tensor_pb2.TensorProto, shape: tuple[int, ...]) -> bool:
    """Whether the values are the bytes in memory; for strings and empty tensors the runtime looks elsewhere."""
    return bool(proto.tensor_content) and proto.dtype != types_pb2.DT_STRING and 0 not in shape


def _check_claim(name: str, proto: tensor_pb2.TensorProto, shape: tuple[int, ...], dtype: tf.DType) -> None:
    count = math.prod(shape)
    if _is_raw(proto, shape):
        if len(proto.tensor_content) != count * dtype.size:
            size = count * dtype.size
            raise _malformed(name, f"{list(shape)} is {size} bytes, not {len(proto.tensor_content)}")
        return
    sent = getattr(proto, _value_field(dtype))
    last = dtype.size
    if dtype == tf.string:
        last = _STRING_BYTES + (len(sent[-1]) if sent else 0)
        if count - len(sent) > MAX_REPEATED_STRINGS:
            raise _malformed(name, f"{len(sent)} values for {list(shape)}: over {MAX_REPEATED_STRINGS} to fill in")
    if (count - len(sent)) * last > MAX_REPEATED_BYTES:
        raise _malformed(name, f"{len(sent)} values for {list(shape)}: over {MAX_REPEATED_BYTES} bytes to fill in")


def encode(value: np.ndarray[Any, Any] | bytes) -> tensor_pb2.TensorProto:
    """`value` in the typed value fields, which the stock server answers in by default.

    Raises:
        StatusError: UNIMPLEMENTED: an array of complex numbers or another type without such a field.
    """
    array = np.asarray(value, object if isinstance(value, bytes) else None)
    dtype = tf.dtypes.as_dtype(array.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    values = array.view(np.uint16) if dtype in (tf.float16, tf.bfloat16) else array
    getattr(proto, _value_field(dtype)).extend(values.ravel().tolist())
    return proto


def _value_field(dtype: tf.DType) -> str:
    if dtype not in _VALUE_FIELD:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"tensors of type {dtype.name} are not served here")
    return _VALUE_FIELD[dtype]


def _type_name(number: int) -> str:
    try:
        return str(tf.dtypes.as_dtype(number).name)
    except TypeError:
        return f"type {number}"


def _malformed(name: str, reason: str) -> StatusError:
    return invalid_argument(f"tensor parsing error: {name}: {reason}")
