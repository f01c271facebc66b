import contextlib
import tracemalloc

import numpy as np
import pytest
from gradcam_client import codec
from gradcam_client.errors import MalformedAnswer, OptionError
from gradcam_client.wire import gradcam_wire_pb2 as wire
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SENT = ["<f4", "<f8", "<i4", "u1", "<i2", "i1", "<i8", "?", "<u2", "<f2", "<u4", "<u8"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def tensor(dtype, shape, **values):
    dims = [wire.TensorShapeProto.Dim(size=size) for size in shape]
    return wire.TensorProto(dtype=dtype, tensor_shape=wire.TensorShapeProto(dim=dims), **values)


@given(st.sampled_from(SENT).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)))
def test_numbers_survive_the_wire(array):
    sent = wire.TensorProto.FromString(codec.encode(array).SerializeToString())
    if array.size:
        np.testing.assert_array_equal(codec.decode(sent), array, strict=True)
    else:
        assert codec.decode(sent).shape == array.shape


@given(hnp.arrays(object, SHAPES, elements=st.binary(max_size=8)))
def test_strings_survive_the_wire(array):
    decoded = codec.decode(codec.encode(array))
    assert decoded.tolist() == array.tolist()
    assert decoded.shape == array.shape


def test_memory_order_and_byte_order_are_the_senders_own_affair():
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    assert codec.encode(array).tensor_content == np.array([0, 3, 1, 4, 2, 5], "<f4").tobytes()


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (wire.DT_FLOAT, {"float_val": [0.5, -1]}, np.array([0.5, -1], np.float32)),
        (wire.DT_DOUBLE, {"double_val": [0.1, 2]}, np.array([0.1, 2], np.float64)),
        (wire.DT_INT32, {"int_val": [-5, 7]}, np.array([-5, 7], np.int32)),
        (wire.DT_UINT8, {"int_val": [0, 255]}, np.array([0, 255], np.uint8)),
        (wire.DT_INT16, {"int_val": [-32768, 1]}, np.array([-32768, 1], np.int16)),
        (wire.DT_INT8, {"int_val": [-128, 127]}, np.array([-128, 127], np.int8)),
        (wire.DT_UINT16, {"int_val": [65535, 0]}, np.array([65535, 0], np.uint16)),
        (wire.DT_INT64, {"int64_val": [-(2**63), 1]}, np.array([-(2**63), 1], np.int64)),
        (wire.DT_UINT32, {"uint32_val": [2**32 - 1, 0]}, np.array([2**32 - 1, 0], np.uint32)),
        (wire.DT_UINT64, {"uint64_val": [2**64 - 1, 0]}, np.array([2**64 - 1, 0], np.uint64)),
        (wire.DT_BOOL, {"bool_val": [True, False]}, np.array([True, False])),
        (wire.DT_HALF, {"half_val": [0x3C00, 0xC000]}, np.array([1, -2], np.float16)),
        (wire.DT_BFLOAT16, {"half_val": [0x3F80, 0xC000]}, np.array([1, -2], np.float32)),
        (wire.DT_BFLOAT16, {"tensor_content": b"\x80\x3f\x00\xc0"}, np.array([1, -2], np.float32)),
    ],
)
def test_every_field_that_holds_values_is_read(dtype, values, expected):
    np.testing.assert_array_equal(codec.decode(tensor(dtype, [2], **values)), expected, strict=True)


def test_the_last_value_stands_for_the_missing_ones():
    np.testing.assert_array_equal(codec.decode(tensor(wire.DT_FLOAT, [2, 2], float_val=[1, 2])), [[1, 2], [2, 2]])
    assert codec.decode(tensor(wire.DT_STRING, [3], string_val=[b"a", b"b"])).tolist() == [b"a", b"b", b"b"]


def test_a_scalar_has_no_axes():
    assert codec.decode(tensor(wire.DT_FLOAT, [], float_val=[3])).shape == ()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (tensor(wire.DT_FLOAT, [2]), "0 values where its shape needs 2"),
        (tensor(wire.DT_STRING, [2]), "0 values where its shape needs 2"),
        (tensor(wire.DT_FLOAT, [2], float_val=[1, 2, 3]), "3 values where its shape needs 2"),
        (tensor(wire.DT_FLOAT, [0], float_val=[1]), "1 values where its shape needs 0"),
        (tensor(wire.DT_FLOAT, [2], tensor_content=b"1234567"), "7 bytes, its shape needs 2 values of 4"),
        (tensor(wire.DT_FLOAT, [-1], float_val=[1]), r"shape \[-1\]: expected sizes from 0 up"),
        (tensor(wire.DT_FLOAT, [0, 2**40, 2**30]), "no array can be so large"),
        (tensor(wire.DT_FLOAT, [1] * 33, float_val=[1]), "at most 32 axes"),
        (wire.TensorProto(dtype=wire.DT_FLOAT, tensor_shape=wire.TensorShapeProto(unknown_rank=True)), "unknown rank"),
        (tensor(wire.DT_INT32, [1], float_val=[1]), "0 values where its shape needs 1"),
        (tensor(wire.DT_UINT8, [1], int_val=[256]), "a value outside uint8"),
        (tensor(wire.DT_UINT8, [1], int_val=[-1]), "a value outside uint8"),
        (tensor(wire.DT_HALF, [1], half_val=[-1]), "a value outside uint16"),
        (tensor(wire.DT_INVALID, [1]), "type 0, which this client cannot read"),
        (tensor(8, [1], tensor_content=b"12345678"), "type 8, which this client cannot read"),
        (tensor(wire.DT_FLOAT, [1, 20000, 20000, 3], float_val=[1]), "more than 64 MiB of repetition is refused"),
        (tensor(wire.DT_FLOAT, [2**62, 2**62], float_val=[1]), "no array can be so large"),
        (tensor(wire.DT_STRING, [2**40], string_val=[b"x"]), "more than 64 MiB of repetition is refused"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused_before_memory_is_taken(broken, message):
    tracemalloc.start()
    try:
        with pytest.raises(MalformedAnswer, match=message):
            codec.decode(broken)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)


@given(
    st.builds(
        tensor,
        st.integers(0, 25),
        st.lists(st.one_of(st.integers(0, 3), INT64), max_size=4),
        tensor_content=st.one_of(st.just(b""), st.binary(max_size=24)),
        float_val=st.lists(st.floats(width=32), max_size=4),
        int_val=st.lists(st.one_of(st.integers(0, 255), INT32), max_size=4),
        half_val=st.lists(st.one_of(st.integers(0, 65535), INT32), max_size=4),
        int64_val=st.lists(INT64, max_size=4),
        bool_val=st.lists(st.booleans(), max_size=4),
        string_val=st.lists(st.binary(max_size=4), max_size=4),
    )
)
def test_any_tensor_has_the_shape_it_claims_or_is_refused(received):
    with contextlib.suppress(MalformedAnswer):
        assert list(codec.decode(received).shape) == [dim.size for dim in received.tensor_shape.dim]


def test_values_without_a_type_on_the_wire_are_refused():
    with pytest.raises(OptionError, match="complex128 cannot be sent"):
        codec.encode(np.array([1j]))
    with pytest.raises(OptionError, match="each value must be bytes"):
        codec.encode(np.array(["text"], object))
