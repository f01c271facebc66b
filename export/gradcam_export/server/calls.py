"""The calls that gRPC and REST both take: what they look up, check, answer and count is here, once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from gradcam_export.server.predict import predict
from gradcam_export.server.status import invalid_argument, not_found

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensorflow_serving.apis import model_pb2

    from gradcam_export.server.catalogue import Catalogue
    from gradcam_export.server.metrics import Metrics
    from gradcam_export.server.repository import Served

SIGNATURE_DEF = "signature_def"


class Calls:
    """Predict, GetModelMetadata and GetModelStatus for the models of one server, from any thread."""

    def __init__(self, models: Catalogue, metrics: Metrics) -> None:
        self._models = models
        self.metrics = metrics

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Served]:
        """Hold the version that `spec` asks for by number, by label, or not at all: the highest.

        Raises:
            StatusError: INVALID_ARGUMENT: no name, or an unknown label. NOT_FOUND: no such model or version.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        number = self._requested_version(spec)
        repository = self._models.repository(spec.name)
        if repository is None:
            asked = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
            raise not_found(f"Servable not found for request: {asked}")
        with repository.lease(number) as served:
            yield served

    def predict(
        self, served: Served, request: predict_pb2.PredictRequest, timeout_ms: int | None
    ) -> predict_pb2.PredictResponse:
        """What the leased version answers to `request`, within `timeout_ms`.

        Raises:
            StatusError: the request does not fit the version, the graph refused its values, or time was up.
        """
        run = self.metrics.run(request.model_spec.name)
        response = predict(served.loaded, request, timeout_ms=timeout_ms, run=run)
        response.model_spec.version.value = served.number
        return response

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of one version.

        Raises:
            StatusError: as from `lease`, and INVALID_ARGUMENT for another field than `signature_def`.
        """
        _check_metadata_fields(request.metadata_field)
        check_model_spec(request)
        with self.lease(request.model_spec) as served:
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=served.loaded.signatures)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = served.number
            response.metadata[SIGNATURE_DEF].Pack(signatures)
            return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """State of one version, asked for by number or label, or of all.

        The stock server's documentation promises the one version to a label too; its code lists all of them.

        Raises:
            StatusError: NOT_FOUND: no such model or version. INVALID_ARGUMENT: an unknown label.
        """
        check_model_spec(request)
        spec = request.model_spec
        repository = self._models.repository(spec.name)
        states = dict(repository.states()) if repository else {}
        if not states:
            raise not_found(f"Could not find any versions of model {spec.name}")
        number = self._requested_version(spec)
        if number is not None:
            if number not in states:
                raise not_found(f"Could not find version {number} of model {spec.name}")
            states = {number: states[number]}
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in states.items():
            status = response.model_version_status.add(version=version, state=state.state)
            status.status.error_code = state.error.number if state.error else 0
            status.status.error_message = state.error.message if state.error else ""
        return response

    def _requested_version(self, spec: model_pb2.ModelSpec) -> int | None:
        match spec.WhichOneof("version_choice"):
            case "version":
                return int(spec.version.value)
            case "version_label":
                return self._models.labelled(spec.name, spec.version_label)
            case _:
                return None


def check_model_spec(
    request: predict_pb2.PredictRequest
    | get_model_metadata_pb2.GetModelMetadataRequest
    | get_model_status_pb2.GetModelStatusRequest,
) -> None:
    """Refuse a request that says nothing of the model it means.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")


def _check_metadata_fields(fields: list[str]) -> None:
    if not fields:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {field} is not supported")
