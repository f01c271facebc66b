"""A connection that dies without a word: nothing comes back, and nothing is refused."""

import contextlib
import socket
import threading

import pytest
from gradcam_client import DeadlineExceeded
from gradcam_client.rpc import CHANNEL_OPTIONS

WAITS = ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
"""Options that bound how long a ping waits for its answer; which of them counts is up to the release of gRPC."""
SOON = {"grpc.keepalive_time_ms": 500} | dict.fromkeys(WAITS, 500)


class Wire:
    """Carries bytes between callers and a server; connections that are cut stay open and carry nothing more."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._server = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Carry nothing more over what is connected now."""
        self._cut = self.connections

    def close(self) -> None:
        for one in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                self._sockets += [caller, server]
                self.connections += 1
                for ends in ((caller, server), (server, caller)):
                    threading.Thread(target=self._carry, args=(self.connections, *ends), daemon=True).start()

    def _carry(self, number: int, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if number > self._cut:
                    sink.sendall(data)


@pytest.fixture
def wire(server):
    carried = Wire(server.target)
    yield carried
    carried.close()


def test_a_dead_connection_is_noticed_and_the_question_asked_again(connect, wire, server, pictures):
    with connect(wire.target, model="colours", channel_options=SOON) as client:
        client.describe()
        wire.cut()
        assert client.explain(pictures[0], timeout=50).model_version == 1
    # A machine that is busy for half a second makes new connections look dead too.
    assert wire.connections >= 2
    assert server.signatures_asked()[:2] == ["describe", "serving_default"]


def test_without_pings_a_dead_connection_lasts_until_the_deadline(connect, wire, server, pictures):
    with connect(wire.target, model="colours") as client:
        client.describe()
        wire.cut()
        with pytest.raises(DeadlineExceeded):
            client.explain(pictures[0], timeout=3)
    assert wire.connections == 1
    assert server.signatures_asked() == ["describe"]


def test_the_client_s_own_pings_are_what_servers_bear_and_wait_no_minute():
    assert CHANNEL_OPTIONS["grpc.keepalive_time_ms"] >= 300_000
    assert {CHANNEL_OPTIONS[name] for name in WAITS} == {10_000}
