"""Every picture comes back from its file as it was."""

import io
import struct
import zlib

import numpy as np
import pytest
from gradcam_client import png
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

PIXELS = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 255))
)


@given(PIXELS)
def test_the_pixels_come_back(pixels):
    with Image.open(io.BytesIO(png.encode(Image.fromarray(pixels)))) as read:
        assert (read.format, read.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(read), pixels)


@given(PIXELS, arrays(np.uint8, (256, 3), elements=st.integers(0, 255)))
def test_indices_and_palette_come_back(pixels, palette):
    picture = Image.fromarray(pixels[..., 0])
    picture.putpalette(palette.tobytes())
    with Image.open(io.BytesIO(png.encode(picture))) as read:
        assert (read.format, read.mode) == ("PNG", "P")
        np.testing.assert_array_equal(np.asarray(read), pixels[..., 0])
        np.testing.assert_array_equal(np.asarray(read.convert("RGB")), palette[pixels[..., 0]])


RGB = Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3))
INDEXED = RGB.convert("P")


@pytest.mark.parametrize(
    ("picture", "expected"), [(RGB, ["IHDR", "IDAT", "IEND"]), (INDEXED, ["IHDR", "PLTE", "IDAT", "IEND"])]
)
def test_every_chunk_has_its_checksum(picture, expected):
    file = png.encode(picture)
    place = len(png.SIGNATURE)
    kinds = []
    while place < len(file):
        length, kind = struct.unpack_from(">I4s", file, place)
        data = file[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", file, place + 8 + length)[0] == zlib.crc32(kind + data)
        kinds.append(kind.decode())
        place += 12 + length
    assert kinds == expected


def test_areas_of_one_colour_take_no_room():
    assert len(png.encode(Image.new("RGB", (1000, 1000), "red"))) < 12_000
