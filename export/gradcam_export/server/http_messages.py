"""HTTP/1.1 as far as a JSON API needs it: requests read with limits, responses written."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.client import responses as reason_phrases
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD_BYTES = 64 * 1024

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's name for a method or header
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rf"({_TOKEN}):[ \t]*([^\x00\r\n]*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?\r\n")
_GZIP = 16 + zlib.MAX_WBITS


class HttpError(Exception):
    """A message that is not well-formed HTTP, or is more of it than is taken; ends its connection."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class HttpHead:
    """The first part of a request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    keep_alive: bool


@dataclass(frozen=True)
class HttpRequest:
    """A whole request; `path` is as sent, percent signs and all, without its query."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True)
class HttpResponse:
    """What goes back."""

    status: int
    body: bytes
    content_type: str = "application/json"

    @classmethod
    def of_json(cls, value: Mapping[str, Any], status: int = HTTPStatus.OK) -> HttpResponse:
        """`value` as JSON; not a number and the infinities are bare words, as from the stock server."""
        return cls(status, json.dumps(value).encode() + b"\n")

    def to_bytes(self, method: str, *, keep_alive: bool) -> bytes:
        """The message; to HEAD its head alone."""
        lines = [
            f"HTTP/1.1 {int(self.status)} {reason_phrases.get(self.status, 'Unknown')}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
        ]
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        return head if method == "HEAD" else head + self.body


async def read_head(reader: asyncio.StreamReader) -> HttpHead | None:
    """The next request's head; None if the caller hung up instead.

    Raises:
        HttpError: it is malformed, too long, or of another version.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial.strip():
            return None
        raise HttpError(HTTPStatus.BAD_REQUEST, "Malformed HTTP: the request ends in its head") from error
    except asyncio.LimitOverrunError as error:
        message = f"The request's head is longer than {MAX_HEAD_BYTES} bytes"
        raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message) from error
    first, *lines = raw.decode("latin-1").lstrip("\r\n").removesuffix("\r\n\r\n").split("\r\n")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"Malformed HTTP: no request line: {first[:100]!r}")
    method, target, major, minor = request.groups()
    if major != "1":
        raise HttpError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"HTTP/1.1 is spoken here, not HTTP/{major}.{minor}")
    headers = _headers(lines)
    keep_alive = minor != "0" and headers.get("connection", "").lower() != "close"
    return HttpHead(method, _path(target), headers, keep_alive)


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"Malformed HTTP: no header: {line[:100]!r}")
        name = header[1].lower()
        headers[name] = f"{headers[name]}, {header[2]}" if name in headers else header[2]
    return headers


def _path(target: str) -> str:
    """The path of a target, which a client of a proxy writes with scheme and host."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", target).partition("?")[0].partition("#")[0]


def check_framing(head: HttpHead, limit: int) -> int | None:
    """How many bytes of body follow `head`; None: as many chunks as are sent.

    Raises:
        HttpError: the head does not say, contradicts itself, or announces more than `limit` bytes.
    """
    coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
    if coding is not None:
        if length is not None:
            # Two lengths: a proxy before us may believe the other one (request smuggling, RFC 9112 §6.1).
            raise HttpError(HTTPStatus.BAD_REQUEST, "Malformed HTTP: both Content-Length and Transfer-Encoding")
        if coding.lower() != "chunked":
            raise HttpError(HTTPStatus.NOT_IMPLEMENTED, f"Transfer-Encoding {coding[:100]!r} is not understood")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise HttpError(HTTPStatus.BAD_REQUEST, f"Malformed HTTP: Content-Length {length[:100]!r} is no length")
    if int(length) > limit:
        raise _too_large(limit)
    return int(length)


async def read_body(reader: asyncio.StreamReader, length: int | None, limit: int) -> bytes:
    """The body of `length` bytes, or of chunks.

    Raises:
        HttpError: it is cut short, malformed, or of more than `limit` bytes.
    """
    try:
        return await _read_chunks(reader, limit) if length is None else await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "Malformed HTTP: the request ends in its body") from error
    except asyncio.LimitOverrunError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "Malformed HTTP: an endless line between chunks") from error


async def _read_chunks(reader: asyncio.StreamReader, limit: int) -> bytes:
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"Malformed HTTP: no size of a chunk: {line[:100]!r}")
        count = int(size[1], 16)
        if count == 0:
            break
        if len(body) + count > limit:
            raise _too_large(limit)
        body += await reader.readexactly(count)
        if await reader.readexactly(2) != b"\r\n":
            raise HttpError(HTTPStatus.BAD_REQUEST, "Malformed HTTP: a chunk longer than its size")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers say nothing to this server
    return bytes(body)


def decode_body(head: HttpHead, body: bytes, limit: int) -> bytes:
    """`body` without its compression, which is gzip or none.

    Raises:
        HttpError: it is compressed otherwise, broken, or of more than `limit` bytes once it is unpacked.
    """
    coding = head.headers.get("content-encoding", "identity").lower()
    if coding == "identity":
        return body
    if coding != "gzip":
        raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding {coding[:100]!r} is not understood")
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"The body is no gzip: {error}") from error
    if len(unpacked) > limit:
        raise _too_large(limit)
    if not unpacker.eof:
        raise HttpError(HTTPStatus.BAD_REQUEST, "The body is no gzip: it ends too early")
    return unpacked


def _too_large(limit: int) -> HttpError:
    return HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The request's body is over {limit} bytes; send fewer rows")
