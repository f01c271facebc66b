"""JSON over REST: every form of inputs and outputs, and what does not fit, on the embedded server and on a real one."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.server import EmbeddedServer, ServedModel


class Forms(tf.Module):
    """A signature for every form that inputs and outputs take in JSON."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, 2], tf.int32, "number"), tf.TensorSpec([None], tf.string, "text")]
    )
    def two(self, number, text):
        joined = tf.strings.join([text, tf.as_string(tf.reduce_sum(number, 1))])
        return {"number": number, "text": text, "joined_bytes": joined}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def logarithm(self, x):
        return {"y": tf.math.log(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def total(self, x):
        return {"x": x, "total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "x")])
    def raw(self, x):
        return {"y": x}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
    def scalar(self, x):
        return {"y": x * 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, "x")])
    def half(self, x):
        return {"y": x}

    @tf.function(input_signature=[])
    def nothing(self):
        return {"y": tf.constant([1.0])}


@pytest.fixture(scope="module")
def forms_version(tmp_path_factory):
    forms = Forms()
    path = tmp_path_factory.mktemp("forms") / "forms"
    names = ("two", "logarithm", "total", "raw", "scalar", "half", "nothing")
    tf.saved_model.save(forms, str(path / "1"), {name: getattr(forms, name) for name in names})
    return path


@pytest.fixture
def forms(serve_both, connect_rest, forms_version):
    rest = connect_rest(serve_both(forms_version, "forms").rest)

    def predict(signature: str, **values):
        return rest.predict({"signature_name": signature, **values}, "forms")

    return predict


def test_every_input_is_named_where_there_are_several(forms) -> None:
    rows = [
        {"number": [1, 2], "text": "a"},
        {"number": [3, 4], "text": {"b64": base64.b64encode(b"b\xc3\xa9").decode()}},
    ]
    joined = [{"b64": base64.b64encode(value).decode()} for value in (b"a3", b"b\xc3\xa97")]
    columns = {"number": [[1, 2], [3, 4]], "text": ["a", "bé"], "joined_bytes": joined}
    assert forms("two", inputs={"number": columns["number"], "text": ["a", "bé"]}) == (200, {"outputs": columns})
    predictions = [{name: values[row] for name, values in columns.items()} for row in range(2)]
    assert forms("two", instances=rows) == (200, {"predictions": predictions})


def test_a_single_input_and_output_need_no_names(forms) -> None:
    assert forms("raw", instances=["a", {"b64": "Yg=="}]) == (200, {"predictions": ["a", "b"]})
    assert forms("raw", inputs=["a", {"b64": "Yg=="}]) == (200, {"outputs": ["a", "b"]})
    assert forms("scalar", inputs=3) == (200, {"outputs": 6.0})
    assert forms("total", inputs=[1, 2.5]) == (200, {"outputs": {"x": [1.0, 2.5], "total": 3.5}})


def test_what_is_not_a_number_goes_in_and_comes_out(forms) -> None:
    status, answer = forms("logarithm", instances=[-1.0, 0.0, float("inf"), float("nan"), 1])
    assert status == 200
    np.testing.assert_array_equal(answer["predictions"], [np.nan, -np.inf, np.inf, np.nan, 0])


def test_keys_that_mean_nothing_are_passed_over(forms) -> None:
    assert forms("raw", instances=["a"], output_filter=["z"])[1] == {"predictions": ["a"]}


@pytest.mark.parametrize(
    ("signature", "values", "error"),
    [
        ("none", {"instances": [1]}, 'Serving signature name: "none" not found in signature def'),
        ("", {"instances": [1]}, 'Serving signature name: "serving_default" not found in signature def'),
        (7, {"instances": [1]}, "'signature_name' key must be a string value"),
        ("nothing", {"inputs": []}, "Failed to get input map for signature: nothing"),
        ("raw", {}, "Missing 'inputs' or 'instances' key"),
        ("raw", {"inputs": ["a"], "instances": ["a"]}, "Not formatted correctly expecting only one of"),
        ("raw", {"instances": "a"}, "'instances' to be a"),
        ("raw", {"instances": []}, "No values in 'instances' array"),
        ("raw", {"instances": ["a", {"x": "b"}]}, "Expecting value/list but got object at item 1 of input list"),
        ("raw", {"instances": [{"x": "a"}, "b"]}, "Expecting object but got list at item 1 of input list"),
        ("raw", {"instances": [{"x": "a"}, {"x": "b", "z": 1}]}, "Failed to process element: 1"),
        ("two", {"instances": [{"number": [1, 2]}]}, "keys must be equal to: number,text"),
        ("two", {"instances": [[1, 2]]}, "instances is a plain list, but expecting list of objects"),
        ("two", {"inputs": [[1, 2]]}, "inputs is a plain value/list, but expecting an object"),
        ("two", {"inputs": {"number": [[1, 2]]}}, "Missing named input: text in 'inputs' object."),
        ("logarithm", {"instances": [1, "a"]}, 'JSON Value: "a" Type: String is not of expected type: float'),
        ("two", {"inputs": {"number": [[1, 2], [3]], "text": ["a", "b"]}}, "Encountered list at unexpected size: 1"),
        ("two", {"inputs": {"number": [[1.5, 2]], "text": ["a"]}}, "is not of expected type: int32"),
        ("total", {"instances": [1]}, "Tensor name: total has no shape information"),
        ("raw", {"instances": [{"b64": "%"}]}, "Unable to base64 decode"),
    ],
)
def test_what_does_not_fit_is_a_bad_request(forms, signature, values, error) -> None:
    status, answer = forms(signature, **values)
    assert (status, list(answer)) == (400, ["error"])
    assert error in answer["error"]


def test_a_type_that_json_cannot_carry_is_not_implemented(forms_version, connect_rest) -> None:
    with EmbeddedServer([ServedModel(name="forms", base_path=forms_version)], rest_port=0) as server:
        rest = connect_rest(server.rest_port)
        status, answer = rest.predict({"signature_name": "half", "instances": [1]}, "forms")
        assert (status, answer["error"]) == (501, "Input x has the type half, which JSON cannot carry")
        status, answer = rest.predict({"signature_name": "raw", "instances": [{"b64": "/w=="}]}, "forms")
        assert status == 400
        assert "Output y holds bytes that are no text" in answer["error"]
