"""Tensors off the wire and back: TensorFlow's own parser is the oracle, hostile claims cost nothing."""

from __future__ import annotations

import tracemalloc

import grpc
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.server.status import StatusError
from gradcam_export.server.tensors import MAX_REPEATED_BYTES, decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

NUMERIC = [
    "float32",
    "float64",
    "int32",
    "int16",
    "int8",
    "uint16",
    "uint8",
    "int64",
    "uint32",
    "uint64",
    "bool",
    "float16",
]
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
numbers = st.sampled_from(NUMERIC).flatmap(lambda name: arrays.arrays(np.dtype(name), shapes))


def info_of(dtype: tf.DType, shape: list[int | None] | None = None) -> meta_graph_pb2.TensorInfo:
    return meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto())


def proto_of(dtype: tf.DType, shape: list[int], **values: object) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@given(numbers)
def test_every_number_comes_back(array: np.ndarray) -> None:
    decoded = decode("x", encode(array), info_of(tf.dtypes.as_dtype(array.dtype)))
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)
    if array.dtype.kind == "f":  # -0.0 equals 0.0
        np.testing.assert_array_equal(np.signbit(decoded), np.signbit(array))


@given(numbers)
def test_content_is_read_as_what_it_is(array: np.ndarray) -> None:
    dtype = tf.dtypes.as_dtype(array.dtype)
    proto = proto_of(dtype, list(array.shape), tensor_content=array.tobytes())
    decoded = decode("x", proto, info_of(dtype))
    assert decoded.tobytes() == array.tobytes()
    assert decoded.shape == array.shape


def test_bfloat16_comes_back() -> None:
    array = tf.constant([1.5, -2.0, 3.25], tf.bfloat16).numpy()
    np.testing.assert_array_equal(decode("x", encode(array), info_of(tf.bfloat16)), array)


@given(arrays.arrays(object, shapes, elements=st.binary(max_size=6)))
def test_strings_come_back(array: np.ndarray) -> None:
    decoded = decode("x", encode(array), info_of(tf.string))
    assert decoded.shape == array.shape
    assert decoded.ravel().tolist() == array.ravel().tolist()


VALUES = {
    tf.float32: ("float_val", st.floats(width=32)),
    tf.uint8: ("int_val", st.integers(-(2**31), 2**31 - 1)),
    tf.int64: ("int64_val", st.integers(-(2**63), 2**63 - 1)),
    tf.string: ("string_val", st.binary(max_size=4)),
}


@st.composite
def tensor_protos(draw: st.DrawFn) -> tensor_pb2.TensorProto:
    """Tensors that are mostly wrong: any shape with any number of values, or with any bytes."""
    dtype = draw(st.sampled_from(list(VALUES)))
    field, values = VALUES[dtype]
    proto = proto_of(dtype, draw(st.lists(st.integers(-2, 5), max_size=4)))
    if draw(st.booleans()):
        getattr(proto, field).extend(draw(st.lists(values, max_size=8)))
    else:
        proto.tensor_content = draw(st.binary(max_size=40))
    return proto


@pytest.mark.parametrize("shape", [[1] * 32, [0, 2**62]])
@pytest.mark.parametrize("values", [{"int_val": [7]}, {"tensor_content": b"\7"}])
def test_odd_shapes_are_read(shape, values) -> None:
    assert decode("x", proto_of(tf.uint8, shape, **values), info_of(tf.uint8)).shape == tuple(shape)


@pytest.mark.parametrize("shape", [[1] * 33, [2**40, 0, 2**40]])
@pytest.mark.parametrize("values", [{"int_val": [7]}, {"tensor_content": b"\7"}])
def test_shapes_that_no_array_has_are_parsing_errors(shape, values) -> None:
    with pytest.raises(StatusError, match="tensor parsing error: x: "):
        decode("x", proto_of(tf.uint8, shape, **values), info_of(tf.uint8))


@settings(max_examples=400)
@given(tensor_protos())
def test_a_tensor_is_accepted_and_read_exactly_as_tensorflow_does(proto: tensor_pb2.TensorProto) -> None:
    dtype = tf.dtypes.as_dtype(proto.dtype)
    try:
        expected = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except tf.errors.OpError:
        with pytest.raises(StatusError, match="tensor parsing error: x") as refusal:
            decode("x", proto, info_of(dtype))
        assert refusal.value.code is grpc.StatusCode.INVALID_ARGUMENT
        return
    decoded = decode("x", proto, info_of(dtype))
    assert decoded.shape == tuple(dim.size for dim in proto.tensor_shape.dim)
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
    ("proto", "match"),
    [
        (proto_of(tf.uint8, [1, 20000, 20000, 3], int_val=[1]), "tensor parsing error: x: 1 values for"),
        (proto_of(tf.uint8, [2**62, 2**62, 2**62, 3]), "tensor parsing error: x: 0 values for"),
        (
            proto_of(tf.uint8, [2**40], tensor_content=b"abc"),
            r"\[1099511627776\] is 1099511627776 bytes, not 3",
        ),
        (proto_of(tf.uint8, [2, -1], int_val=[1]), r"no tensor has the shape \[2, -1\]"),
        (proto_of(tf.uint8, [2**62] * 255), "no tensor has the shape"),
        (proto_of(tf.string, [2**21], string_val=[b"x"]), "tensor parsing error: x: 1 values for"),
        (proto_of(tf.string, [2**10], string_val=[b"x" * 2**17]), "tensor parsing error: x: 1 values for"),
    ],
)
def test_a_hostile_claim_is_refused_before_anything_is_allocated(proto: tensor_pb2.TensorProto, match: str) -> None:
    info = info_of(tf.dtypes.as_dtype(proto.dtype))
    tracemalloc.start()
    with pytest.raises(StatusError, match=match):
        decode("x", proto, info)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_shape_without_a_rank_is_refused() -> None:
    # TensorFlow's parser takes it for a scalar, whatever the caller meant.
    proto = proto_of(tf.uint8, [], int_val=[1])
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(StatusError, match="tensor parsing error: x: its shape has no rank"):
        decode("x", proto, info_of(tf.uint8))


def test_repetition_is_served_up_to_the_limit() -> None:
    decoded = decode("x", proto_of(tf.uint8, [MAX_REPEATED_BYTES], int_val=[7]), info_of(tf.uint8))
    assert decoded.shape == (MAX_REPEATED_BYTES,)
    assert (decoded == 7).all()


def test_another_type_than_the_signature_s_is_named() -> None:
    with pytest.raises(StatusError, match="Expects x to be uint8 but float32 is provided"):
        decode("x", proto_of(tf.float32, [1], float_val=[1]), info_of(tf.uint8))
    with pytest.raises(StatusError, match="Expects x to be uint8 but type 99 is provided"):
        decode("x", tensor_pb2.TensorProto.FromString(b"\x08\x63"), info_of(tf.uint8))


def test_another_shape_than_the_signature_s_is_named() -> None:
    proto = proto_of(tf.uint8, [5, 4], int_val=[1])
    with pytest.raises(StatusError, match=r"Expects x to have the shape \[-1, 3\] but \[5, 4\] is provided"):
        decode("x", proto, info_of(tf.uint8, [None, 3]))


def test_a_lone_string_is_encoded_as_one() -> None:
    # Session.run gives bytes, no array, for a string without a rank.
    assert encode(b"a\0") == proto_of(tf.string, [], string_val=[b"a\0"])


def test_complex_numbers_are_not_served() -> None:
    with pytest.raises(StatusError, match="tensors of type complex64 are not served here"):
        encode(np.ones(2, np.complex64))
