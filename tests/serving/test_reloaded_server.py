"""What the tests tell a real server that somebody else started, and what they wait for."""

from __future__ import annotations

from concurrent import futures

import grpc
import pytest
from reloaded_server import addresses_told, reloaded
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Keeps the list of models as the stock server does, and unloads in its own time."""

    def __init__(self) -> None:
        self.lists: list[dict[str, str]] = []
        self.asked_while_unloading = 0
        self.refusal = ""

    def HandleReloadConfigRequest(self, request, _context):  # noqa: N802 - gRPC's name
        assert request.config.WhichOneof("config") == "model_config_list"  # or the stock server changes nothing
        models = request.config.model_config_list.config
        assert {model.model_platform for model in models} <= {"tensorflow"}
        self.lists.append({model.name: model.base_path for model in models})
        answer = model_management_pb2.ReloadConfigResponse()
        if self.refusal:
            answer.status.error_code, answer.status.error_message = 3, self.refusal
        return answer

    def GetModelStatus(self, _request, context):  # noqa: N802
        self.asked_while_unloading += 1
        if self.asked_while_unloading % 3 == 0:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=1, state=get_model_status_pb2.ModelVersionStatus.UNLOADING)
        return answer


@pytest.fixture
def server():
    service, running = ModelService(), grpc.server(futures.ThreadPoolExecutor(2))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, running)
    service.addresses = (f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}", "127.0.0.1:1")
    running.start()
    yield service
    running.stop(None).wait()


def test_models_come_and_go_while_others_stay(server, tmp_path):
    first, second = {"toy": str(tmp_path / "toy")}, {"tiny": str(tmp_path / "tiny")}
    with reloaded(server.addresses, tmp_path / "toy", "toy"):
        with reloaded(server.addresses, tmp_path / "tiny", "tiny"):
            assert server.lists == [first, first | second]
        assert server.lists[-1] == first
        assert server.asked_while_unloading == 3
    assert server.lists[-1] == {}


def test_what_the_server_refuses_is_told_and_taken_back(server, tmp_path):
    server.refusal = "no versions found"
    with pytest.raises(AssertionError, match="no versions found"), reloaded(server.addresses, tmp_path, "toy"):
        pytest.fail("it was served")
    server.refusal = ""
    with reloaded(server.addresses, tmp_path, "toy"):
        assert list(server.lists[-1]) == ["toy"]


def test_one_name_is_served_once(server, tmp_path):
    with reloaded(server.addresses, tmp_path, "toy"), pytest.raises(AssertionError, match="'toy' already"):
        reloaded(server.addresses, tmp_path, "toy").__enter__()


def test_where_the_server_is_told(monkeypatch):
    monkeypatch.delenv("MODEL_SERVER", raising=False)
    assert addresses_told() is None
    monkeypatch.setenv("MODEL_SERVER", "localhost:8500,localhost:8501")
    assert addresses_told() == ("localhost:8500", "localhost:8501")
    for told in ("localhost:8500", "localhost,localhost", "a:1,b:2,c:3"):
        monkeypatch.setenv("MODEL_SERVER", told)
        with pytest.raises(ValueError, match="MODEL_SERVER must be HOST:PORT,HOST:PORT, of gRPC and of REST"):
            addresses_told()
