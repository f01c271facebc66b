"""A real server that somebody else started, like a service container: it is told over gRPC what to serve.

MODEL_SERVER names it: `host:port` of gRPC, a comma, `host:port` of REST. It must see the tests' folders under the same
paths as the tests do (`pytest --basetemp` on a volume that it mounts).
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 120
_SERVED: dict[tuple[str, str], dict[str, str]] = {}
"""What each server was told to serve: a new list replaces all that was."""


def addresses_told() -> tuple[str, str] | None:
    """The addresses of gRPC and REST in MODEL_SERVER, where there is one."""
    told = os.environ.get("MODEL_SERVER")
    if not told:
        return None
    match told.split(","):
        case [address, rest] if all(":" in one for one in (address, rest)):
            return address, rest
    raise ValueError(f"MODEL_SERVER must be HOST:PORT,HOST:PORT, of gRPC and of REST; got {told!r}.")


@contextlib.contextmanager
def reloaded(addresses: tuple[str, str], base_path: Path, name: str) -> Iterator[None]:
    """Have the server serve the versions under `base_path` as the model `name`, until it has unloaded them again."""
    served = _SERVED.setdefault(addresses, {})
    assert name not in served, f"the server has a model {name!r} already: {served[name]}"
    with grpc.insecure_channel(addresses[0]) as channel:
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        served[name] = str(base_path.resolve())
        try:
            _tell(models, served)
            yield
        finally:
            del served[name]
            _tell(models, served)
            _wait_until_unloaded(models, name)


def _tell(models: model_service_pb2_grpc.ModelServiceStub, served: dict[str, str]) -> None:
    """Replace the server's list of models; it answers when those that are new are loaded."""
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name, base_path in served.items():
        request.config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    status = models.HandleReloadConfigRequest(request, timeout=START_SECONDS, wait_for_ready=True).status
    assert status.error_code == 0, status.error_message


def _wait_until_unloaded(models: model_service_pb2_grpc.ModelServiceStub, name: str) -> None:
    """The next model of that name may lie elsewhere under the same numbers."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            versions = models.GetModelStatus(request, timeout=START_SECONDS).model_version_status
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return
            raise
        if all(version.state == get_model_status_pb2.ModelVersionStatus.END for version in versions):
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} is still served after {START_SECONDS} s")
