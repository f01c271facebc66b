"""HTTP over real sockets: what is malformed, slow, idle or too much, and what the others notice of it."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from gradcam_export.server.http_messages import HttpRequest, HttpResponse
from gradcam_export.server.http_server import HttpLimits, HttpServer

LIMIT = 1000
LARGE = 64 * 2**20
"""More than the kernel keeps for a reader who does not read."""


class Served:
    """A server that says what it was asked; `/large`, `/wait` and `/fail` do as they are called."""

    def __init__(self, **limits: float) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.released = threading.Event()
        self.waiting = threading.Event()
        self.stopped = False
        self.server = HttpServer(self._answer, HttpLimits(**{"body_bytes": LIMIT, **limits}))
        self.server.start(listener)

    def _answer(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/large":
            return HttpResponse(200, bytes(LARGE), "application/octet-stream")
        if request.path == "/wait":
            self.waiting.set()
            self.released.wait(60)
        if request.path == "/fail":
            raise LookupError("inside")
        return HttpResponse.of_json(
            {"method": request.method, "path": request.path, "body": request.body.decode("latin-1")}
        )

    def stop(self, grace: float) -> None:
        self.stopped = True
        self.server.stop(grace)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, message: bytes) -> tuple[int, dict]:
        """The answer to raw bytes after which nothing more is sent."""
        with self.connect() as connection:
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            return read(connection)

    def get(self, path: str = "/ok") -> tuple[int, dict]:
        return self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def read(connection: socket.socket) -> tuple[int, dict]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


@pytest.fixture
def start():
    started = []

    def start(**limits: float) -> Served:
        started.append(Served(**limits))
        return started[-1]

    yield start
    for served in started:
        served.released.set()
        if not served.stopped:
            served.stop(5)


@pytest.fixture
def served(start):
    return start()


def post(*headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["POST /p HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


@pytest.mark.parametrize(
    ("message", "status", "error"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, "no request line"),
        (b"GET /ok\r\n\r\n", 400, "no request line: 'GET /ok'"),
        (b"GET  /ok HTTP/1.1\r\n\r\n", 400, "no request line"),
        (b"GET /ok HTTP/1.1\r\nno colon\r\n\r\n", 400, "no header: 'no colon'"),
        (b"GET /ok HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400, "no header: ' folded'"),
        (b"GET /ok HTTP/1.1\r\nA : b\r\n\r\n", 400, "no header"),
        (b"GET /ok HTTP/1.1\r\nA: b\x00\r\n\r\n", 400, "no header"),
        (b"PRI * HTTP/2.0\r\n\r\n", 505, "HTTP/1.1 is spoken here, not HTTP/2.0"),
        (b"GET /ok HTTP/1.1\r\nHost", 400, "the request ends in its head"),
        (b"GET /ok HTTP/1.1\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", 431, "head is longer than 65536 bytes"),
        (post("Content-Length: 5", body=b"1234"), 400, "the request ends in its body"),
        (post("Content-Length: -1"), 400, "Content-Length '-1' is no length"),
        (post("Content-Length: 1", "Content-Length: 2", body=b"12"), 400, "Content-Length '1, 2' is no length"),
        (post("Content-Length: 1001"), 413, "The request's body is over 1000 bytes"),
        (post("Content-Length: 1", "Transfer-Encoding: chunked"), 400, "both Content-Length and Transfer-Encoding"),
        (post("Transfer-Encoding: gzip"), 501, "Transfer-Encoding 'gzip' is not understood"),
        (post("Transfer-Encoding: chunked", body=b"x\r\n"), 400, "no size of a chunk"),
        (post("Transfer-Encoding: chunked", body=b"2\r\nabc\r\n"), 400, "a chunk longer than its size"),
        (post("Transfer-Encoding: chunked", body=b"2\r\na"), 400, "the request ends in its body"),
        (post("Transfer-Encoding: chunked", body=b"3e9\r\n"), 413, "The request's body is over 1000 bytes"),
        (post("Transfer-Encoding: chunked", body=b"1" * 70_000), 400, "an endless line between chunks"),
        (post("Content-Encoding: br"), 415, "Content-Encoding 'br' is not understood"),
        (post("Content-Encoding: gzip", "Content-Length: 3", body=b"abc"), 400, "The body is no gzip"),
    ],
)
def test_what_is_not_well_formed_is_refused_with_its_reason(served, message, status, error) -> None:
    code, answer = served.send(message)
    assert (code, list(answer)) == (status, ["error"])
    assert error in answer["error"]
    assert served.get()[0] == 200


def test_a_gzip_body_is_unpacked_within_the_limit(served) -> None:
    def packed(body: bytes) -> tuple[int, dict]:
        data = gzip.compress(body)
        return served.send(post("Content-Encoding: gzip", f"Content-Length: {len(data)}", body=data))

    assert packed(b"a" * LIMIT)[1]["body"] == "a" * LIMIT
    status, answer = packed(b"a" * (LIMIT + 1))
    assert (status, answer) == (413, {"error": "The request's body is over 1000 bytes; send fewer rows"})
    data = gzip.compress(b"a" * 100)[:-8]
    status, answer = served.send(post("Content-Encoding: gzip", f"Content-Length: {len(data)}", body=data))
    assert (status, answer) == (400, {"error": "The body is no gzip: it ends too early"})


def test_chunks_are_joined(served) -> None:
    body = b"3;name=value\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    assert served.send(post("Transfer-Encoding: Chunked", body=body))[1]["body"] == "abc0123456789"


def test_a_body_is_asked_for_where_the_caller_waits_to_be(served) -> None:
    with served.connect() as connection:
        connection.sendall(post("Expect: 100-continue", "Content-Length: 2"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ok")
        assert read(connection)[1]["body"] == "ok"


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(served) -> None:
    with served.connect() as connection:
        connection.sendall(post("Expect: 100-continue", "Content-Length: 99999999"))
        assert read(connection)[0] == 413


def test_the_refusal_reaches_a_caller_who_is_still_sending(served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("POST", "/p", bytes(8 * 2**20))
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"].startswith("The request's body is over")
    connection.close()


@pytest.mark.parametrize(
    ("target", "path"),
    [("/a%20b?q=1", "/a%20b"), ("http://host:1/a?q", "/a"), ("/a#f", "/a"), ("http://host", ""), ("//a/b", "//a/b")],
)
def test_the_path_is_the_target_s(served, target, path) -> None:
    assert served.get(target)[1]["path"] == path


def test_a_connection_is_kept_until_a_side_ends_it(served) -> None:
    with served.connect() as connection:
        for number in range(3):  # in a row
            connection.sendall(f"GET /{number} HTTP/1.1\r\n\r\n".encode())
            assert read(connection)[1]["path"] == f"/{number}"
        connection.sendall(b"GET /a HTTP/1.1\r\n\r\n\r\nGET /b HTTP/1.1\r\nConnection: Close\r\n\r\n")  # at once
        everything = connection.makefile("rb").read()
    assert everything.count(b"HTTP/1.1 200 OK") == 2
    assert everything.index(b'"/a"') < everything.index(b'"/b"')
    with served.connect() as connection:
        connection.sendall(b"GET /old HTTP/1.0\r\n\r\n")
        assert connection.makefile("rb").read().endswith(b"}\n")


def test_head_is_answered_without_a_body(served) -> None:
    with served.connect() as connection:
        connection.sendall(b"HEAD /h HTTP/1.1\r\nConnection: close\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 0" not in head
    assert body == b""


def test_a_failure_inside_is_that_request_s_alone(served, caplog) -> None:
    with served.connect() as connection:
        connection.sendall(b"GET /fail HTTP/1.1\r\n\r\n")
        assert read(connection) == (500, {"error": "Internal error; the server's log has it"})
        connection.sendall(b"GET /ok HTTP/1.1\r\n\r\n")
        assert read(connection)[0] == 200
    assert "GET /fail failed" in caplog.text
    assert "LookupError: inside" in caplog.text


def test_who_does_not_read_holds_nobody_up(start) -> None:
    served = start(send_seconds=20)
    with contextlib.ExitStack() as slow:
        for _ in range(4):
            slow.enter_context(served.connect()).sendall(b"GET /large HTTP/1.1\r\n\r\n")
        begin = time.monotonic()
        assert served.get()[0] == 200
        assert time.monotonic() - begin < 10


def test_who_never_reads_is_dropped(start) -> None:
    served = start(send_seconds=0.5)
    with served.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        time.sleep(1.5)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(2**20):
                received += len(chunk)
    assert received < LARGE


def test_who_reads_late_but_in_time_gets_everything(served) -> None:
    with served.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
        assert len(connection.makefile("rb").read().partition(b"\r\n\r\n")[2]) == LARGE


@pytest.mark.parametrize("beginning", [b"", b"GET /ok HTT", post("Content-Length: 5", body=b"12")])
def test_who_does_not_write_is_dropped_in_the_end(start, beginning) -> None:
    served = start(idle_seconds=0.3, body_seconds=0.3)
    with served.connect() as connection:
        connection.sendall(beginning)
        begin = time.monotonic()
        with contextlib.suppress(ConnectionResetError):  # what was sent and not read makes it one
            assert connection.recv(1) == b""
        assert 0.2 < time.monotonic() - begin < 10


def test_idle_connections_make_room_for_new_ones(start) -> None:
    served = start(connections=8)
    with contextlib.ExitStack() as idle, ThreadPoolExecutor(4) as callers:
        for _ in range(40):
            idle.enter_context(served.connect()).sendall(b"GET")  # neither a request nor silence
        assert {status for status, _ in callers.map(lambda _: served.get(), range(40))} == {200}


def test_one_connection_too_many_is_told_so(start) -> None:
    served = start(connections=1)
    with served.connect() as busy:
        busy.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        served.waiting.wait(30)
        with served.connect() as refused:
            assert read(refused) == (503, {"error": "Too many connections, each with a request"})
        served.released.set()
        assert read(busy)[0] == 200


def test_connections_opened_and_dropped_leave_nothing_behind(served, eventually) -> None:
    process = psutil.Process()
    served.get()
    before = process.num_fds(), process.num_threads()
    for number in range(500):
        with served.connect() as connection:
            connection.sendall(b"POST /p HTTP/1.1\r\nContent-Length: 9\r\n\r\n1234"[: number % 50])
    assert served.get()[0] == 200
    eventually(lambda: process.num_fds() <= before[0])
    assert process.num_threads() <= before[1] + 1


def test_requests_in_flight_are_answered_before_the_end(served) -> None:
    with served.connect() as busy, served.connect() as idle:
        busy.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        idle.sendall(b"GET /ok HTTP/1.1\r\n\r\n")
        read(idle)
        served.waiting.wait(30)
        stopping = threading.Thread(target=served.stop, args=[30])
        stopping.start()
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            served.connect()
        served.released.set()
        response = busy.makefile("rb").read()
        stopping.join()
    assert b"Connection: close" in response
    assert response.endswith(b"}\n")


def test_requests_that_outlast_the_grace_are_cut_off(served) -> None:
    with served.connect() as busy:
        busy.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        served.waiting.wait(30)
        begin = time.monotonic()
        served.stop(0.2)
        assert time.monotonic() - begin < 5
        assert busy.recv(1) == b""
