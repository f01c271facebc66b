"""What a predict request and its answer are in JSON: by rows (`instances`) or by columns (`inputs`)."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Any

from gradcam_export import contract
from gradcam_export.server.json_tensors import is_base64, json_from_tensor, tensor_from_json
from gradcam_export.server.status import invalid_argument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

MAX_BRACKETS = 2**21
"""Lists and objects in a request: over thirty images of 224×224 pixels as numbers. Python's parser takes about a
microsecond for each, in which no other request gets anywhere."""

INSTANCES, INPUTS, SIGNATURE_NAME = "instances", "inputs", "signature_name"


class Form(enum.Enum):
    """How a request says its values; the value is what the answer calls its own."""

    ROWS = "predictions"
    COLUMNS = "outputs"


def parse_document(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, UTF-8; `NaN` and the infinities may stand for numbers.

    Raises:
        StatusError: INVALID_ARGUMENT: it is none, or one that takes too long to read.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    if body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
        raise invalid_argument(f"JSON of over {MAX_BRACKETS} lists and objects; send fewer rows, or encoded images")
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise invalid_argument(f"JSON Parse error: {error}") from error
    except RecursionError as error:
        raise invalid_argument("JSON Parse error: lists or objects are nested too deeply") from error
    if not isinstance(document, dict):
        raise invalid_argument("JSON Value: Is not object: a request is {…}, with 'instances' or 'inputs'")
    return document


def fill_request(document: Mapping[str, Any], request: PredictRequest, signatures: Mapping[str, SignatureDef]) -> Form:
    """Put the signature's name and the inputs that `document` gives into `request`.

    Keys that mean nothing are passed over, as in the stock server: there is no output filter here.

    Raises:
        StatusError: INVALID_ARGUMENT: there is no such signature, or the values do not fit its inputs.
    """
    name = document.get(SIGNATURE_NAME, "")
    if not isinstance(name, str):
        raise invalid_argument("JSON Value: not formatted correctly. 'signature_name' key must be a string value.")
    signature = signatures.get(name or contract.SERVING_DEFAULT)
    if signature is None:
        raise invalid_argument(
            f'Serving signature name: "{name or contract.SERVING_DEFAULT}" not found in signature def'
        )
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if INSTANCES in document and INPUTS in document:
        raise invalid_argument("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if INSTANCES in document:
        form, columns = Form.ROWS, _from_rows(document[INSTANCES], signature.inputs)
    elif INPUTS in document:
        form, columns = Form.COLUMNS, _from_columns(document[INPUTS], signature.inputs)
    else:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    request.model_spec.signature_name = name
    for key, value in columns.items():
        request.inputs[key].CopyFrom(tensor_from_json(key, value, signature.inputs[key].dtype))
    return form


def _from_rows(rows: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, list[Any]]:
    if not isinstance(rows, list):
        raise invalid_argument("JSON Value: Expecting 'instances' to be a list/array")
    if not rows:
        raise invalid_argument("JSON Value: No values in 'instances' array")
    if not _is_named(rows[0]):
        if len(inputs) > 1:
            raise invalid_argument(
                "instances is a plain list, but expecting list of objects as multiple input tensors are required: "
                f"{_listed(inputs)}"
            )
        for position, row in enumerate(rows):
            if _is_named(row):
                raise invalid_argument(f"Expecting value/list but got object at item {position} of input list")
        return {next(iter(inputs)): rows}
    for position, row in enumerate(rows):
        if not _is_named(row):
            raise invalid_argument(f"Expecting object but got list at item {position} of input list")
        if row.keys() != set(inputs):
            raise invalid_argument(
                f"Failed to process element: {position} of 'instances' list. JSON object: has the keys "
                f"{_listed(row)}, keys must be equal to: {_listed(inputs)}"
            )
    return {name: [row[name] for row in rows] for name in inputs}


def _from_columns(columns: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Any]:
    if not _is_named(columns):
        if len(inputs) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors are required: "
                f"{_listed(inputs)}"
            )
        return {next(iter(inputs)): columns}
    for name in inputs:
        if name not in columns:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
    return {name: columns[name] for name in inputs}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _listed(names: Any) -> str:
    return ",".join(sorted(names))


def write_answer(outputs: Mapping[str, TensorProto], form: Form) -> dict[str, Any]:
    """The answer's JSON object; a single output drops its name.

    Raises:
        StatusError: INVALID_ARGUMENT: an output has no form in JSON, or, by rows, not as many rows as another.
    """
    if form is Form.ROWS:
        _check_rows(outputs)
    columns = {name: json_from_tensor(name, proto) for name, proto in outputs.items()}
    if len(columns) == 1:
        return {form.value: next(iter(columns.values()))}
    if form is Form.COLUMNS:
        return {form.value: columns}
    return {form.value: [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _check_rows(outputs: Mapping[str, TensorProto]) -> None:
    first = None
    for name, proto in outputs.items():
        if not proto.tensor_shape.dim:
            raise invalid_argument(f"Tensor name: {name} has no shape information: ask with 'inputs' instead")
        size = proto.tensor_shape.dim[0].size
        first = size if first is None else first
        if size != first:
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {size} expecting: {first}: ask with 'inputs' instead"
            )
