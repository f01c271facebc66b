"""The client's own messages are TensorFlow's, byte for byte, and both fit into one process."""

import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from gradcam_client import codec
from gradcam_client.errors import MalformedAnswer
from gradcam_client.wire import gradcam_wire_pb2 as wire
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_pb2, predict_pb2, status_pb2

OURS_AND_THEIRS = [
    (wire.TensorShapeProto, tensor_shape_pb2.TensorShapeProto),
    (wire.TensorShapeProto.Dim, tensor_shape_pb2.TensorShapeProto.Dim),
    (wire.TensorProto, tensor_pb2.TensorProto),
    (wire.ModelSpec, model_pb2.ModelSpec),
    (wire.PredictRequest, predict_pb2.PredictRequest),
    (wire.PredictResponse, predict_pb2.PredictResponse),
    (wire.StatusProto, status_pb2.StatusProto),
    (wire.ModelVersionStatus, get_model_status_pb2.ModelVersionStatus),
    (wire.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
    (wire.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
]

NUMERIC = ["f4", "f8", "i4", "u1", "i2", "i1", "i8", "?", "u2", "f2", "u4", "u8"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)
NUMBERS = st.sampled_from(NUMERIC).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
STRINGS = hnp.arrays(object, SHAPES, elements=st.binary(max_size=6))


@pytest.mark.parametrize(("ours", "theirs"), OURS_AND_THEIRS, ids=lambda message: message.DESCRIPTOR.full_name)
def test_every_field_of_ours_is_theirs(ours, theirs):
    assert ours.DESCRIPTOR.full_name.startswith("gradcam.wire.")
    for field in ours.DESCRIPTOR.fields:
        other = theirs.DESCRIPTOR.fields_by_name[field.name]
        # An enumeration travels as a number: TensorFlow Serving types the code of a status, we do not.
        kinds = {field.type, other.type}
        assert field.number == other.number
        assert len(kinds) == 1 or kinds == {field.TYPE_INT32, field.TYPE_ENUM}
        assert field.is_repeated == other.is_repeated


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (wire.DataType, types_pb2.DataType),
        (wire.ModelVersionStatus.State, get_model_status_pb2.ModelVersionStatus.State),
    ],
)
def test_every_number_of_our_enumerations_is_theirs(ours, theirs):
    assert set(ours.items()) <= set(theirs.items())


def deterministic(message):
    return message.SerializeToString(deterministic=True)


def theirs(array):
    """What a TensorFlow client that fills `tensor_content` sends."""
    if array.dtype == object:
        return tf.make_tensor_proto(array, shape=array.shape, dtype=tf.string)
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{"size": size} for size in array.shape])
    kind = tf.as_dtype(array.dtype).as_datatype_enum
    return tensor_pb2.TensorProto(dtype=kind, tensor_shape=shape, tensor_content=array.tobytes())


@given(st.one_of(NUMBERS, STRINGS))
def test_what_we_encode_are_the_bytes_that_theirs_are(array):
    assert deterministic(codec.encode(array)) == deterministic(theirs(array))


@given(st.one_of(NUMBERS, STRINGS))
def test_tensorflow_reads_what_we_encode(array):
    received = tensor_pb2.TensorProto.FromString(codec.encode(array).SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(received), array)


@given(st.one_of(NUMBERS, STRINGS))
def test_we_read_what_make_tensor_proto_writes(array):
    sent = tf.make_tensor_proto(array, shape=array.shape, dtype=tf.as_dtype(array.dtype))
    np.testing.assert_array_equal(codec.decode(wire.TensorProto.FromString(sent.SerializeToString())), array)


FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
}


@given(
    st.sampled_from(list(FIELDS)).flatmap(
        lambda kind: st.tuples(st.just(kind), hnp.arrays(kind.as_numpy_dtype, st.integers(1, 6)))
    ),
    st.integers(0, 5),
)
def test_we_read_a_repeated_last_value_as_tensorflow_does(kind_and_values, missing):
    kind, values = kind_and_values
    sent = tensor_pb2.TensorProto(
        dtype=kind.as_datatype_enum,
        tensor_shape={"dim": [{"size": len(values) + missing}]},
        **{FIELDS[kind]: values.tolist()},
    )
    received = wire.TensorProto.FromString(sent.SerializeToString())
    np.testing.assert_array_equal(codec.decode(received), tf.make_ndarray(sent), strict=True)


@given(hnp.arrays(np.uint16, st.integers(1, 6)), st.sampled_from([tf.float16, tf.bfloat16]), st.integers(0, 3))
def test_we_read_both_half_precisions_as_tensorflow_does(bits, kind, missing):
    sent = tensor_pb2.TensorProto(
        dtype=kind.as_datatype_enum,
        tensor_shape={"dim": [{"size": len(bits) + missing}]},
        half_val=bits.tolist(),
    )
    decoded = codec.decode(wire.TensorProto.FromString(sent.SerializeToString()))
    np.testing.assert_array_equal(decoded.astype(np.float32), tf.make_ndarray(sent).astype(np.float32))
    as_content = tensor_pb2.TensorProto(
        dtype=sent.dtype, tensor_shape={"dim": [{"size": len(bits)}]}, tensor_content=bits.astype("<u2").tobytes()
    )
    np.testing.assert_array_equal(
        codec.decode(wire.TensorProto.FromString(as_content.SerializeToString())), decoded[: len(bits)]
    )


def test_bfloat16_widens_exactly():
    values = np.array([1.0, -2.5, 3.140625], ml_dtypes.bfloat16)
    sent = tf.make_tensor_proto(values)
    decoded = codec.decode(wire.TensorProto.FromString(sent.SerializeToString()))
    np.testing.assert_array_equal(decoded, values.astype(np.float32), strict=True)


def test_lost_values_are_zeros_for_tensorflow_and_an_error_for_us():
    sent = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"dim": [{"size": 3}]})
    np.testing.assert_array_equal(tf.io.parse_tensor(sent.SerializeToString(), tf.float32), np.zeros(3))
    with pytest.raises(MalformedAnswer, match="0 values where its shape needs 3"):
        codec.decode(wire.TensorProto.FromString(sent.SerializeToString()))


@given(st.dictionaries(st.text(max_size=8), NUMBERS, max_size=3), st.integers(0, 2**63 - 1), st.text(max_size=8))
def test_requests_and_answers_are_the_same_bytes(arrays, version, name):
    our_spec = wire.ModelSpec(name=name, version={"value": version}, signature_name="explain")
    their_spec = model_pb2.ModelSpec(name=name, version={"value": version}, signature_name="explain")
    our_tensors = {key: codec.encode(array) for key, array in arrays.items()}
    their_tensors = {key: theirs(array) for key, array in arrays.items()}
    pairs = [
        (
            wire.PredictRequest(model_spec=our_spec, inputs=our_tensors, output_filter=["heatmap"]),
            predict_pb2.PredictRequest(model_spec=their_spec, inputs=their_tensors, output_filter=["heatmap"]),
        ),
        (
            wire.PredictResponse(model_spec=our_spec, outputs=our_tensors),
            predict_pb2.PredictResponse(model_spec=their_spec, outputs=their_tensors),
        ),
        (
            wire.GetModelStatusRequest(model_spec=our_spec),
            get_model_status_pb2.GetModelStatusRequest(model_spec=their_spec),
        ),
    ]
    for ours_, theirs_ in pairs:
        assert deterministic(ours_) == deterministic(theirs_)
        assert deterministic(type(ours_).FromString(deterministic(theirs_))) == deterministic(theirs_)


def test_a_status_is_the_same_bytes():
    sent = get_model_status_pb2.GetModelStatusResponse(
        model_version_status=[
            {"version": 3, "state": 30},
            {"version": 2, "state": 50, "status": {"error_code": 5, "error_message": "no pb file"}},
        ]
    )
    received = wire.GetModelStatusResponse.FromString(sent.SerializeToString())
    assert deterministic(received) == deterministic(sent)
    assert received.model_version_status[1].status.error_message == "no pb file"


@pytest.mark.parametrize(
    "order",
    [
        "import gradcam_client; from tensorflow_serving.apis import predict_pb2",
        "from tensorflow_serving.apis import predict_pb2; import gradcam_client",
    ],
)
def test_the_client_and_tensorflow_live_in_one_process(order):
    code = order + "; from gradcam_client.wire import gradcam_wire_pb2 as w; print(w.TensorProto().dtype)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0\n", done.stderr


def camel(name: str) -> str:
    """What protoc's Go code calls a field."""
    return "".join(part.capitalize() for part in name.split("_"))


def test_the_go_example_uses_names_that_the_wire_has():
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    (go,) = re.findall(r"^```go\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    messages, fields = {}, set()
    waiting = [(message.name, message) for message in wire.DESCRIPTOR.message_types_by_name.values()]
    while waiting:
        name, message = waiting.pop()
        messages[name] = message
        fields |= {camel(field.name) for field in message.fields}
        waiting += [(f"{name}_{inner.name}", inner) for inner in message.nested_types]
    values = {f"{enum.name}_{v.name}" for enum in wire.DESCRIPTOR.enum_types_by_name.values() for v in enum.values}
    assert set(re.findall(r"wire\.(\w+)", go)) <= messages.keys() | values
    assert set(re.findall(r"\b([A-Z]\w*):", go)) <= fields
    assert set(re.findall(r"(?:tensor|answer|\]|TensorShape)\.([A-Z]\w*)", go)) <= fields
    assert "/tensorflow.serving.PredictionService/Predict" in go
