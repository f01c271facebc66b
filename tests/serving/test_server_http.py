"""HTTP over real sockets: how messages are read and answered, and what is malformed or too much."""

from __future__ import annotations

import gzip
import http.client
import json

import pytest
from echo_server import LIMIT, post, read


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
