"""An HTTP server that says what it was asked, and raw messages to it."""

from __future__ import annotations

import http.client
import json
import socket
import threading

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


def post(*headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["POST /p HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body
