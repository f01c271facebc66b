"""An HTTP/1.1 server for a JSON API: connections cost a coroutine each, only requests take a thread.

So an idle caller, or one who reads or writes slowly, holds nobody up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from concurrent import futures
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gradcam_export.server.http_messages import (
    MAX_HEAD_BYTES,
    HttpError,
    HttpHead,
    HttpRequest,
    HttpResponse,
    check_framing,
    decode_body,
    read_body,
    read_head,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

logger = logging.getLogger("gradcam_export.server")

_LINGER_SECONDS = 2.0
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """What one caller may take.

    Attributes:
        body_bytes: longest body of a request, unpacked. Nested lists take some twenty times that much memory.
        idle_seconds: how long a connection may wait for the head of its next request.
        body_seconds: how long the rest of a request may take.
        send_seconds: how long the caller may take to read a response.
        connections: how many may be open; one more closes the one that has idled longest.
    """

    body_bytes: int = 32 * 2**20
    idle_seconds: float = 75.0
    body_seconds: float = 60.0
    send_seconds: float = 60.0
    connections: int = 500


class HttpServer:
    """Answers requests with what `answer`, called from a pool of threads, makes of them."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponse], limits: HttpLimits | None = None) -> None:
        self._answer = answer
        self._limits = limits or HttpLimits()
        # As many as the stock server has.
        self._workers = futures.ThreadPoolExecutor(max(16, 4 * (os.cpu_count() or 1)), "gradcam-rest")
        self._stopping = asyncio.Event()
        self._grace = 0.0
        self._connections: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.Task[None], None] = {}

    def start(self, listener: socket.socket) -> None:
        """Answer whoever connects to `listener`, which the server closes in the end."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=[listener], daemon=True, name="gradcam-rest")
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Accept nobody more, and give the requests in flight `grace` seconds to be answered."""
        self._grace = grace
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _run(self, listener: socket.socket) -> None:
        self._loop.run_until_complete(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._connected, sock=listener, limit=MAX_HEAD_BYTES, backlog=1024)
        await self._stopping.wait()
        server.close()
        for task in list(self._idle):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=self._grace)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._limits.connections:
            if not self._idle:
                refusal = _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections, each with a request")
                writer.write(refusal.to_bytes("", keep_alive=False))
                writer.close()
                return
            longest = next(iter(self._idle))
            longest.cancel()
            self._forget(longest)
        task = self._loop.create_task(self._converse(reader, writer))
        self._connections.add(task)
        self._idle[task] = None
        task.add_done_callback(self._forget)
        # Whatever ended it, a task cancelled before its first step included: nothing more is sent or kept.
        task.add_done_callback(lambda _: None if writer.is_closing() else writer.transport.abort())

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._idle.pop(task, None)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests in turn."""
        # A drained buffer is then an empty one, so that whoever does not read is noticed.
        writer.transport.set_write_buffer_limits(0)
        # OSError, TimeoutError among them: the caller is gone, or as good as gone.
        with contextlib.suppress(OSError):
            while await self._exchange(reader, writer):
                pass
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one request and answer it; returns whether another may follow."""
        method = ""
        try:
            head = await self._next_head(reader)
            if head is None:
                return False
            method = head.method
            request = await self._read_request(head, reader, writer)
            response = await self._loop.run_in_executor(self._workers, self._work, head, request)
        except HttpError as error:
            await self._send(writer, _refusal(error.status, str(error)).to_bytes(method, keep_alive=False))
            await self._linger(reader, writer)
            return False
        keep_alive = head.keep_alive and not self._stopping.is_set()
        await self._send(writer, response.to_bytes(method, keep_alive=keep_alive))
        return keep_alive

    async def _next_head(self, reader: asyncio.StreamReader) -> HttpHead | None:
        task: Any = asyncio.current_task()
        self._idle[task] = None
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                return await read_head(reader)
        finally:
            self._idle.pop(task, None)

    async def _read_request(
        self, head: HttpHead, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> HttpRequest:
        length = check_framing(head, self._limits.body_bytes)
        async with asyncio.timeout(self._limits.body_seconds):
            if head.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
            body = await read_body(reader, length, self._limits.body_bytes)
        return HttpRequest(head.method, head.path, body)

    def _work(self, head: HttpHead, request: HttpRequest) -> HttpResponse:
        body = decode_body(head, request.body, self._limits.body_bytes)
        try:
            return self._answer(HttpRequest(request.method, request.path, body))
        except Exception:
            # One request's failure is never the server's.
            logger.exception("%s %s failed", request.method, request.path)
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error; the server's log has it")

    async def _send(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        async with asyncio.timeout(self._limits.send_seconds):
            # In pieces: the event loop copies what it is given, and does nothing else meanwhile.
            for start in range(0, len(message), _PIECE_BYTES):
                writer.write(memoryview(message)[start : start + _PIECE_BYTES])
                await writer.drain()

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read on for a moment: closing at once would destroy the refusal on its way to a caller who still writes."""
        with contextlib.suppress(TimeoutError):
            writer.write_eof()
            async with asyncio.timeout(_LINGER_SECONDS):
                while await reader.read(MAX_HEAD_BYTES):
                    pass


def _refusal(status: int, message: str) -> HttpResponse:
    return HttpResponse.of_json({"error": message}, status)
