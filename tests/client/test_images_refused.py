"""What is no picture, or one that cannot be read in full, is refused with the reason."""

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from gradcam_client import images
from gradcam_client.errors import ImageError
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import encoded
from PIL import Image


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_whose_white_is_unknown_are_refused(mode):
    with pytest.raises(
        ImageError, match=f"bytes: cannot be read: its pixels have 32 bits .mode {mode}., whose white is unknown"
    ):
        images.read(encoded(Image.new(mode, (2, 2)), "TIFF"))


def test_an_opened_image_whose_file_is_cut_off_is_refused(picture):
    with (
        Image.open(io.BytesIO(encoded(picture)[:60])) as opened,
        pytest.raises(ImageError, match="the image: cannot be read: "),
    ):
        images.read(opened)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 3), np.float32), "an array of float32 was given as image: give uint8"),
        (np.zeros((1, 2, 2, 3), np.uint8), r"shape \[1, 2, 2, 3\] was given as image: .*for several images, a list"),
        (np.zeros((2, 2, 2), np.uint8), r"shape \[2, 2, 2\] was given as image"),
        (np.zeros((2,), np.uint8), r"shape \[2\] was given as image"),
        (np.zeros((0, 2, 3), np.uint8), r"shape \[0, 2, 3\] was given as image"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array, message):
    with pytest.raises(ImageError, match=message):
        images.read(array)


def test_what_is_no_image_at_all_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"absent\.png: no such file"):
        images.read(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is a folder, not an image file"):
        images.read(tmp_path)
    with pytest.raises(ImageError, match="the image of 0 bytes: is empty"):
        images.read(b"")
    (tmp_path / "nothing.png").touch()
    with pytest.raises(ImageError, match=r"nothing\.png: is empty"):
        images.read(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="int given as image"):
        images.read(3)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"text\.jpg: is not an image that Pillow can read"):
        images.read(tmp_path / "text.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP"])
def test_a_truncated_file_is_refused(kind, rng):
    whole = encoded(Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)), kind)
    with pytest.raises(ImageError, match=r"the image of .* bytes: "):
        images.read(whole[: len(whole) // 2])


def test_a_decompression_bomb_is_refused_by_its_header():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="claims too many pixels to be decoded"):
        images.read(bomb)


def whole_files():
    picture = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [encoded(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "TIFF", "WEBP")]
    return [*files, encoded(picture, "GIF"), encoded(picture, "BMP"), encoded(picture, "PPM")]


@settings(max_examples=300)
@given(
    st.sampled_from(whole_files()), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_an_altered_file_is_read_or_refused(whole, changes):
    data = bytearray(whole)
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImageError):
            assert images.read(bytes(data)).mode == "RGB"
