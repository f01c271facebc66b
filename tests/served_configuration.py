"""A models.config that is edited while it is served, and what the server says of its versions and labels."""

from __future__ import annotations

import grpc
import numpy as np
from gradcam_export.server import EmbeddedServer, read_model_config
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus

STATE = ModelVersionStatus.State


class Configuration:
    """A models.config that is edited in one step, as an editor, `sed -i` or a ConfigMap does."""

    def __init__(self, folder) -> None:
        self.path = folder / "models.config"

    def edit(self, *models: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(f"model_config_list {{ {' '.join(models)} }}")
        new.rename(self.path)

    def serve(self, **options) -> EmbeddedServer:
        models = read_model_config(self.path)
        options = {"poll_seconds": 0.02, "config_poll_seconds": 0.02, "model_config_file": self.path} | options
        return EmbeddedServer(models, **options)


def listed(base_path, *versions: int, name: str = "toy", **labels: int) -> str:
    """One model of the list: these versions and no others, under these labels."""
    policy = " ".join(f"versions: {version}" for version in versions)
    given = " ".join(f'version_labels {{ key: "{label}" value: {number} }}' for label, number in labels.items())
    return (
        f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" '
        f"model_version_policy {{ specific {{ {policy} }} }} {given} }}"
    )


def answering(stub, label: str) -> int:
    """The version that answers to `label`; 0: none does."""
    request = stub.request(images=np.ones([1, 4, 4, 3], np.uint8))
    request.model_spec.version_label = label
    try:
        return stub.prediction.Predict(request).model_spec.version.value
    except grpc.RpcError:
        return 0


def states(stub, name: str = "toy") -> dict[int, str]:
    request = GetModelStatusRequest()
    request.model_spec.name = name
    return {each.version: STATE.Name(each.state) for each in stub.model.GetModelStatus(request).model_version_status}


def server_has(stub, name: str) -> bool:
    try:
        return states(stub, name) == {1: "AVAILABLE"}
    except grpc.RpcError:
        return False
