"""One Predict request on one version: the checks, their order and their words are TensorFlow Serving's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from gradcam_export import contract
from gradcam_export.server.status import StatusError, from_op_error, invalid_argument
from gradcam_export.server.tensors import decode, encode

if TYPE_CHECKING:
    import numpy as np
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    from gradcam_export.savedmodel.session import LoadedVersion


def predict(
    version: LoadedVersion,
    request: predict_pb2.PredictRequest,
    *,
    timeout_ms: int | None = None,
    run: contextlib.AbstractContextManager[None] | None = None,
) -> predict_pb2.PredictResponse:
    """Answer `request`; the version in the answer's `model_spec` is left to the caller, who knows it.

    Args:
        version: the version that answers.
        request: what is asked.
        timeout_ms: how long the graph may run; None: as long as it takes.
        run: entered around the run of the graph alone, to time it.

    Raises:
        StatusError: the request does not fit the version, or the graph refused its values.
    """
    name = request.model_spec.signature_name or contract.SERVING_DEFAULT
    signature = version.signatures.get(name)
    if signature is None:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    inputs = _inputs(signature, request)
    outputs = _outputs(signature, request)
    try:
        with run or contextlib.nullcontext():
            values = version.run(name, inputs, outputs, timeout_ms=timeout_ms)
    except tf.errors.OpError as error:
        raise from_op_error(error) from error
    except UnicodeDecodeError as error:
        # Session.run cannot raise an op's message that holds other bytes than UTF-8 (TensorFlow 2.20).
        raise invalid_argument(error.object.decode(errors="replace")) from error
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = name
    for output, value in values.items():
        response.outputs[output].CopyFrom(encode(value))
    return response


def _inputs(signature: SignatureDef, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray[Any, Any]]:
    sent, known = set(request.inputs), set(signature.inputs)
    missing, extra = known - sent - set(signature.defaults), sent - known
    if missing or extra:
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(known)} "
            f"len({_braced(sent)}) != len({_braced(known)}). "
            f"Sent extra: {_braced(extra)}. Missing but required: {_braced(missing)}."
        )
    protos = {**signature.defaults, **request.inputs}
    return {name: decode(name, protos[name], info) for name, info in signature.inputs.items()}


def _outputs(signature: SignatureDef, request: predict_pb2.PredictRequest) -> list[str]:
    """Names of the outputs to compute; empty means all."""
    outputs = list(request.output_filter)
    for position, name in enumerate(outputs):
        if name not in signature.outputs:
            expected = _braced(set(signature.outputs))
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set {expected}."
            )
        if name in outputs[:position]:
            raise invalid_argument(f"duplicate output tensor alias: {name}")
    return outputs


def _braced(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
