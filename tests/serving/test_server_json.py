"""Tensors in JSON: what goes in comes out, and what does not fit is refused."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.server.json_forms import Form, parse_document, write_answer
from gradcam_export.server.json_tensors import json_from_tensor, tensor_from_json
from gradcam_export.server.status import StatusError
from gradcam_export.server.tensors import encode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import types_pb2

NUMBERS = (np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64, np.bool_)


def refused(match: str):
    return pytest.raises(StatusError, match=match, check=lambda error: error.code.name == "INVALID_ARGUMENT")


def read(value, dtype=tf.float32) -> np.ndarray:
    return tf.make_ndarray(tensor_from_json("x", value, tf.as_dtype(dtype).as_datatype_enum))


def exact(dtype) -> st.SearchStrategy:
    """Values of the type that JSON's whole numbers lose nothing of."""
    return st.floats(width=np.dtype(dtype).itemsize * 8) if np.issubdtype(dtype, np.floating) else None


@given(st.data())
def test_numbers_survive_the_way_out_and_in(data) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(NUMBERS)))
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(max_dims=4, max_side=3), elements=exact(dtype)))
    written = json.dumps(json_from_tensor("x", encode(array)))
    np.testing.assert_array_equal(read(json.loads(written), dtype), array)


@given(arrays.arrays(object, arrays.array_shapes(max_dims=3, max_side=3), elements=st.binary()))
def test_bytes_survive_by_a_name_that_says_so(array) -> None:
    written = json.dumps(json_from_tensor("x_bytes", encode(array)))
    assert read(json.loads(written), tf.string).tolist() == array.tolist()


@given(arrays.arrays(object, arrays.array_shapes(max_dims=3, max_side=3), elements=st.text()))
def test_text_is_text(array) -> None:
    encoded = np.frompyfunc(str.encode, 1, 1)(array)
    assert json_from_tensor("x", encode(encoded)) == array.tolist()
    assert read(array.tolist(), tf.string).tolist() == encoded.tolist()


def test_floats_are_written_in_as_few_digits_as_tell_them_apart() -> None:
    values = np.float32([0.1, 1 / 3, 1e-45, 3.4028235e38, 16777216, -0.0])
    assert (
        json.dumps(json_from_tensor("x", encode(values))) == "[0.1, 0.33333334, 1e-45, 3.4028235e+38, 16777216.0, -0.0]"
    )


def test_what_is_not_a_number_is_a_bare_word() -> None:
    values = np.float32([np.nan, np.inf, -np.inf])
    written = json.dumps(json_from_tensor("x", encode(values)))
    assert written == "[NaN, Infinity, -Infinity]"
    np.testing.assert_array_equal(read(parse_document(b'{"x": %b}' % written.encode())["x"]), values)


@pytest.mark.parametrize(
    ("value", "shape"), [(1, ()), ([], (0,)), ([[], []], (2, 0)), ([[1], [2], [3]], (3, 1)), ([[[[1]]]], (1, 1, 1, 1))]
)
def test_the_nesting_is_the_shape(value, shape) -> None:
    assert read(value, tf.int32).shape == shape


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ([[1, 2], [3]], r"x\[1\]: Encountered list at unexpected size: 1, expected: 2"),
        ([[[1], [1]], [[1], [1, 2]]], r"x\[1\]\[1\]: Encountered list at unexpected size: 2, expected: 1"),
        ([[1], 2], r"x\[1\]: JSON Value: 2 where a list of 1 is expected"),
        ([[[1]], [[[1]]]], r"x\[1\]\[0\]\[0\]: Encountered list at unexpected level: 3"),
        ([[1, [2]]], r"x\[0\]\[1\]: Encountered list at unexpected level: 2"),
        ([[], [1]], r"x\[1\]: Encountered list at unexpected size: 1, expected: 0"),
        ([1, {"a": 1}], r'x: JSON Value: \{"a": 1\} Type: Object is not of expected type: float'),
    ],
)
def test_ragged_lists_are_refused_where_they_differ(value, match) -> None:
    with refused(match):
        read(value)


@pytest.mark.parametrize(
    ("value", "dtype", "match"),
    [
        ("1", tf.float32, 'JSON Value: "1" Type: String is not of expected type: float'),
        (True, tf.float64, "JSON Value: true Type: Bool is not of expected type: double"),
        (None, tf.float32, "JSON Value: null Type: Null is not of expected type: float"),
        (1.0, tf.int32, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        (True, tf.uint8, "JSON Value: true Type: Bool is not of expected type: uint8"),
        (1, tf.bool, "JSON Value: 1 Type: Number is not of expected type: bool"),
        (1, tf.string, "JSON Value: 1 Type: Number is not of expected type: string"),
        ({"b64": "YQ=="}, tf.uint8, "Type: Object is not of expected type: uint8"),
        (256, tf.uint8, "JSON Value: 256 is not in the range of uint8"),
        (-1, tf.uint8, "JSON Value: -1 is not in the range of uint8"),
        (2**31, tf.int32, "JSON Value: 2147483648 is not in the range of int32"),
        (2**64, tf.uint64, "is not in the range of uint64"),
        (2**24, tf.float32, "Cannot convert JSON value: 16777216 to float without loss of precision"),
        (-(2**53), tf.float64, "Cannot convert JSON value: -9007199254740992 to double without loss of precision"),
        (10**400, tf.float64, "to double without loss of precision"),
        (1e39, tf.float32, r"Cannot convert JSON value: 1e\+39 to float without loss of precision"),
        ("\ud800", tf.string, "holds half a character"),
        ({"b64": "a"}, tf.string, 'Unable to base64 decode {"b64": "a"}'),
        ({"b64": "é"}, tf.string, "Unable to base64 decode"),
        ({"b64": "_-8="}, tf.string, "Unable to base64 decode"),
        ({"b64": 1}, tf.string, "not formatted correctly for base64 data"),
        ({"b64": "", "x": 1}, tf.string, "not formatted correctly for base64 data"),
        ("x" * 1000, tf.float32, "xxx… Type: String"),
    ],
)
def test_a_value_that_the_type_does_not_hold_is_refused(value, dtype, match) -> None:
    with refused(match):
        read([value], dtype)
    with refused(match):
        read([[value], [value]], dtype)


def test_the_largest_values_are_taken() -> None:
    assert read([2**24 - 1, -(2**24) + 1, 2.0**24, 3.4e38]).tolist() == [
        2**24 - 1,
        -(2**24) + 1,
        2**24,
        np.float32(3.4e38),
    ]
    assert read([2**64 - 1], tf.uint64)[0] == 2**64 - 1
    assert read([-128, 127], tf.int8).tolist() == [-128, 127]


@pytest.mark.parametrize("text", ["/+8=", "/+8", "/+\n8=\n"])
def test_base64_is_taken_with_line_ends_and_without_padding(text) -> None:
    assert read({"b64": text}, tf.string).item() == base64.b64decode("/+8=")


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.uint16, tf.complex64])
def test_a_type_without_a_form_in_json_is_unimplemented(dtype) -> None:
    name = types_pb2.DataType.Name(dtype.as_datatype_enum)[3:].lower()
    with pytest.raises(StatusError, match=f"Input x has the type {name}, which JSON cannot carry") as refusal:
        read([1], dtype)
    assert refusal.value.code.name == "UNIMPLEMENTED"


def test_output_without_a_form_in_json_is_refused() -> None:
    with refused("Failed to write JSON value for tensor type: half of output y"):
        json_from_tensor("y", encode(np.float16([1])))
    with refused(r"Output y holds bytes that are no text \(invalid start byte\); .* name ends in _bytes"):
        json_from_tensor("y", encode(np.array([b"\xff"], object)))


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"", "The document is empty"),
        (b"{", "JSON Parse error: Expecting property name"),
        (b"\xff{}", "JSON Parse error: 'utf-8' codec"),
        (b"[1]", "Is not object"),
        (b'{"a": ' + b"[" * 100_000, "JSON Parse error: lists or objects are nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "JSON Parse error: Exceeds the limit"),
        (b"{'a': 1}", "JSON Parse error"),
        (b'{"a": [' + b"[]," * 2**21 + b"[]]}", "JSON of over 2097152 lists and objects; send fewer rows"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body, match) -> None:
    with refused(match):
        parse_document(body)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_document(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_a_single_output_drops_its_name() -> None:
    rows = encode(np.int32([[1, 2], [3, 4]]))
    assert write_answer({"y": rows}, Form.ROWS) == {"predictions": [[1, 2], [3, 4]]}
    assert write_answer({"y": rows}, Form.COLUMNS) == {"outputs": [[1, 2], [3, 4]]}
    both = {"y": rows, "z": encode(np.array([b"a", b"b"], object))}
    assert write_answer(both, Form.ROWS) == {"predictions": [{"y": [1, 2], "z": "a"}, {"y": [3, 4], "z": "b"}]}
    assert write_answer(both, Form.COLUMNS) == {"outputs": {"y": [[1, 2], [3, 4]], "z": ["a", "b"]}}


def test_rows_need_outputs_with_as_many_rows() -> None:
    rows, scalar, fewer = encode(np.int32([1, 2])), encode(np.float32(3)), encode(np.int32([1]))
    with refused("Tensor name: y has no shape information"):
        write_answer({"x": rows, "y": scalar}, Form.ROWS)
    with refused("Tensor name: y has inconsistent batch size: 1 expecting: 2"):
        write_answer({"x": rows, "y": fewer}, Form.ROWS)
    answer = write_answer({"x": rows, "y": scalar, "z": fewer}, Form.COLUMNS)
    assert answer == {"outputs": {"x": [1, 2], "y": 3.0, "z": [1]}}
