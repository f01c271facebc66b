"""HTTP connections over real sockets: who is slow, idle or too many, and what the others notice of it."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from echo_server import LARGE, post, read


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
