"""Waiting for a server that is still starting."""

import threading

import grpc
import pytest
from colour_server import ColourModel, Server, free_ports
from gradcam_client.errors import (
    DeadlineExceeded,
    IncompatibleModel,
    OptionError,
    ServerError,
)
from gradcam_client.wire import gradcam_wire_pb2 as wire

State = wire.ModelVersionStatus


class Loading(Server):
    """Says of its versions what `states` says, and of labels what `labels` does."""

    def __init__(self) -> None:
        self.states = {1: State.AVAILABLE}
        self.error = ""
        self.polls = 0
        self.labels = {}
        self.at_the_third = lambda: None
        super().__init__()

    def _count(self):
        self.polls += 1
        if self.polls == 3:
            self.at_the_third()

    def _predict(self, request, context):
        self._count()
        return super()._predict(request, context)

    def _status(self, request, context):
        self._count()
        if self.refuse:
            context.abort(*self.refuse)
        self._find(request.model_spec, context)
        failed = wire.StatusProto(error_code=3 if self.error else 0, error_message=self.error)
        states = [State(version=version, state=state, status=failed) for version, state in self.states.items()]
        return wire.GetModelStatusResponse(model_version_status=states)

    def _find(self, spec, context):
        if spec.HasField("version_label"):
            if spec.version_label not in self.labels:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec}")
            spec.version.value = self.labels[spec.version_label]
        return super()._find(spec, context)


@pytest.fixture
def server():
    running = Loading()
    yield running
    running.stop()


def test_a_server_that_is_ready_is_not_waited_for(client, server):
    assert client.wait_until_ready() is None
    assert (server.polls, server.requests) == (1, [])


def test_a_server_that_is_not_there_yet(connect, pictures):
    (port,) = free_ports(1)
    started = []
    timer = threading.Timer(0.6, lambda: started.append(Server(f"127.0.0.1:{port}")))
    timer.start()
    try:
        with connect(f"127.0.0.1:{port}", model="colours") as client:
            client.wait_until_ready(timeout=30)
            assert client.explain(pictures[0]).model_version == 1
    finally:
        timer.join()
        started[0].stop()


def test_a_version_that_is_loading(client, server):
    server.states = {1: State.LOADING}
    server.at_the_third = lambda: server.states.update({1: State.AVAILABLE})
    client.wait_until_ready(timeout=None)
    assert server.polls == 3


def test_a_model_that_is_not_known_yet(client, server):
    server.refuse = (grpc.StatusCode.NOT_FOUND, "no servable")
    server.at_the_third = lambda: setattr(server, "refuse", None)
    client.wait_until_ready(timeout=30)
    assert server.polls == 3


def test_one_version_is_waited_for_where_one_is_asked_for(connect, server):
    server.versions[2] = ColourModel()
    server.states = {1: State.AVAILABLE, 2: State.LOADING}
    with connect(server.target, model="colours", version=2) as client:
        server.at_the_third = lambda: server.states.update({2: State.AVAILABLE})
        client.wait_until_ready(timeout=30)
    assert server.polls == 3


def test_a_label_is_waited_for(connect, server):
    with connect(server.target, model="colours", label="stable") as client:
        with pytest.raises(DeadlineExceeded, match=r"was not ready within 1 s: .* no version label 'stable'"):
            client.wait_until_ready(timeout=1)
        server.polls = 0
        server.at_the_third = lambda: server.labels.update(stable=1)
        client.wait_until_ready(timeout=30)
        assert client.describe().version == 1


def test_the_error_says_what_was_missing_last(client, server):
    server.states, server.error = {1: State.END}, "no pb file"
    with pytest.raises(DeadlineExceeded, match=r"not ready within 1\.5 s: version 1 is END no pb file$") as no:
        client.wait_until_ready(timeout=1.5)
    assert (no.value.target, no.value.status) == (server.target, "DEADLINE_EXCEEDED")
    server.states = {}
    with pytest.raises(DeadlineExceeded, match=r"within 1 s: no version$"):
        client.wait_until_ready(timeout=1)


def test_nobody_answers(connect):
    (port,) = free_ports(1)
    with (
        connect(f"127.0.0.1:{port}", model="colours") as client,
        pytest.raises(DeadlineExceeded, match=rf"not ready within 0.2 s: 127.0.0.1:{port}: no "),
    ):
        client.wait_until_ready(timeout=0.2)


def test_what_waiting_does_not_help_is_an_error_at_once(client, connect, server):
    server.refuse = (grpc.StatusCode.UNAUTHENTICATED, "no token")
    with pytest.raises(ServerError, match="UNAUTHENTICATED: no token"):
        client.wait_until_ready()
    server.refuse = None
    server.labels["stable"] = 1
    server.versions[1].signatures = ("serving_default",)
    with (
        connect(server.target, model="colours", label="stable") as labelled,
        pytest.raises(IncompatibleModel, match="does not describe itself"),
    ):
        labelled.wait_until_ready()


def test_a_wrong_timeout_is_refused(client, server):
    with pytest.raises(OptionError, match="timeout 0: give seconds above 0"):
        client.wait_until_ready(timeout=0)
    assert server.polls == 0
