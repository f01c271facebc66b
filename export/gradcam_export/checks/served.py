"""A version behind a server's gRPC port, to be asked like one in a Session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from gradcam_export.errors import VersionError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gradcam_export.checks.comparison import Array

SECONDS = 300.0
"""What a call may take: a server may compile or load for the first of them."""
_SIGNATURES = "signature_def"
_ERRORS = {
    grpc.StatusCode.INVALID_ARGUMENT: tf.errors.InvalidArgumentError,
    grpc.StatusCode.FAILED_PRECONDITION: tf.errors.FailedPreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: tf.errors.ResourceExhaustedError,
    grpc.StatusCode.UNIMPLEMENTED: tf.errors.UnimplementedError,
    grpc.StatusCode.INTERNAL: tf.errors.InternalError,
    grpc.StatusCode.DEADLINE_EXCEEDED: tf.errors.DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: tf.errors.NotFoundError,
}
_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Version(Protocol):
    """A version that answers: in a Session of this process, or behind a server."""

    @property
    def signatures(self) -> Mapping[str, Any]:
        """Signature name → `SignatureDef` proto."""

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Collection[str] = ()) -> dict[str, Array]:
        """Run one signature, as `LoadedVersion.run` does."""


class ServedVersion:
    """One version of a model that a TensorFlow Serving, or the embedded server, has loaded.

    Args:
        address: `HOST:PORT` of its gRPC port.
        model: what requests call the model.
        number: the version; `None` asks for the newest.

    Raises:
        VersionError: no server answers there, or it has no such model or version available.
    """

    def __init__(self, address: str, model: str, number: int | None = None) -> None:
        self._address, self._model, self._number = address, model, number
        self._channel = grpc.insecure_channel(address, options=_UNLIMITED)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._check_available()
        self.signatures = self._read_signatures()

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Collection[str] = ()) -> dict[str, Array]:
        """Run one signature.

        Raises:
            VersionError: the server is gone.
            tf.errors.OpError: it refused the values.
        """
        request = predict_pb2.PredictRequest(output_filter=list(outputs))
        self._name(request.model_spec)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            response = self._stub.Predict(request, timeout=SECONDS)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_available(self) -> None:
        request = get_model_status_pb2.GetModelStatusRequest()
        self._name(request.model_spec)
        stub = model_service_pb2_grpc.ModelServiceStub(self._channel)
        try:
            statuses = stub.GetModelStatus(request, timeout=SECONDS).model_version_status
        except grpc.RpcError as error:
            self.close()
            raise VersionError(f"{self._address} serves no {self._said()}: {_reason(error)}.") from error
        states = {one.version: one.state for one in statuses}
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        if available not in states.values():
            self.close()
            raise VersionError(f"{self._address} has no {self._said()} available: it is not loaded yet, or failed to.")

    def _read_signatures(self) -> dict[str, Any]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[_SIGNATURES])
        self._name(request.model_spec)
        try:
            answer = self._stub.GetModelMetadata(request, timeout=SECONDS)
        except grpc.RpcError as error:
            self.close()
            raise VersionError(f"{self._address} does not say what {self._said()} takes: {_reason(error)}.") from error
        declared = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata[_SIGNATURES].Unpack(declared)
        return {name: one for name, one in declared.signature_def.items() if not name.startswith("__saved_model")}

    def _translated(self, error: grpc.RpcError) -> Exception:
        kind = _ERRORS.get(error.code())
        if kind is None:
            return VersionError(f"{self._address} does not answer any more: {_reason(error)}.")
        return kind(None, None, error.details() or error.code().name)

    def _name(self, spec: Any) -> None:
        spec.name = self._model
        if self._number is not None:
            spec.version.value = self._number

    def _said(self) -> str:
        return f"model {self._model!r}" + ("" if self._number is None else f" version {self._number}")


def _reason(error: grpc.RpcError) -> str:
    text = (error.details() or "").strip().partition("\n")[0].rstrip(".")
    return f"{error.code().name}: {text}" if text else error.code().name
