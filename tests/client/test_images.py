import contextlib
import copy
import io
import struct
import sys
import warnings
import zlib

import numpy as np
import pillow_heif
import pytest
from gradcam_client import images
from gradcam_client.errors import ImageError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, features


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def picture(rng):
    return Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))


def test_path_bytes_image_and_array_hold_the_same_picture(picture, tmp_path):
    file = tmp_path / "picture.png"
    picture.save(file)
    for source in (file, str(file), file.read_bytes(), picture, np.asarray(picture)):
        assert images.read(source) == picture


def test_a_list_is_read_in_its_order(picture):
    grey = np.zeros((2, 2), np.uint8)
    assert [image.size for image in images.read_all([picture, grey])] == [(7, 5), (2, 2)]
    assert images.read_all(()) == []
    assert images.read_all(picture) == [picture]


# EXIF 2.3, tag 0x0112: the side of the upright picture that the stored row 0 and column 0 are.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_every_exif_orientation_comes_out_upright(orientation, kind):
    # Flat quarters, so that JPEG keeps them.
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, 24:, 0], upright[16:, :24, 1], upright[16:, 24:, 2] = 250, 250, 250
    row0, column0 = SIDES[orientation]
    stored = upright if row0 in {"top", "bottom"} else upright.transpose(1, 0, 2)
    stored = stored[::-1] if row0 in {"bottom", "right"} else stored
    stored = stored[:, ::-1] if column0 in {"bottom", "right"} else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    read = images.read(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **quality))
    assert np.abs(np.asarray(read).astype(int) - upright).max() < 10


def test_an_orientation_is_applied_once(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encoded(picture, exif=exif))) as opened:
        once = images.read(opened)
        assert opened.size == picture.size
    assert once == picture.rotate(-90, expand=True)
    assert images.read(once) == once


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_a_picture_does_not_change_with_the_array_it_was_read_from(channels):
    array = np.random.default_rng(8).integers(1, 256, (9, 7, *channels), np.uint8)
    read = images.read(array)
    before = np.asarray(read).copy()
    array[:] = 0
    np.testing.assert_array_equal(np.asarray(read), before)
    assert before.min() > 0


def test_alpha_is_dropped_not_composited(picture):
    translucent = picture.copy()
    translucent.putalpha(3)
    assert images.read(encoded(translucent)) == picture
    assert images.read(np.asarray(translucent)) == picture
    grey = Image.merge("LA", [picture.getchannel(0), Image.new("L", picture.size, 9)])
    assert images.read(encoded(grey)) == picture.getchannel(0).convert("RGB")


def test_a_palette_with_transparency_keeps_its_colours(picture):
    palette = picture.quantize(16)
    expected = palette.convert("RGB")
    assert images.read(encoded(palette)) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.read(encoded(palette, transparency=bytes([0, 128] + [255] * 14))) == expected
        assert images.read(encoded(palette, "GIF", transparency=0)) == expected


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_keeps_its_high_byte(kind):
    values = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    expected = np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    # Pillow before 11 does not write 16-bit PPM.
    portable = b"P5 3 2 65535\n" + values.astype(">u2").tobytes()
    file = portable if kind == "PPM" else encoded(Image.fromarray(values), kind)
    np.testing.assert_array_equal(np.asarray(images.read(file)), expected)


def test_black_and_white_is_read():
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    np.testing.assert_array_equal(np.asarray(images.read(encoded(bits)))[0], [[0, 0, 0], [255, 255, 255]])


def test_cmyk_becomes_rgb():
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = np.asarray(images.read(encoded(inks, "JPEG", quality=95)))
    assert (red[..., 0] > 240).all()
    assert (red[..., 1:] < 15).all()


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


def triangle(old: int, new: int) -> np.ndarray:
    """Weights `[new, old]` of a bilinear resize with antialiasing, float64."""
    scale = old / new
    centres = (np.arange(new)[:, None] + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centres) / max(scale, 1))
    return weights / weights.sum(1, keepdims=True)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
@example(90, 9, 8, 8, 0)
@example(9, 90, 8, 8, 0)
def test_the_models_input_is_a_bilinear_resize_of_the_width_then_of_the_height(
    height, width, new_height, new_width, seed
):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    narrow = images.fit(picture, (height, new_width, 3))
    exact = np.einsum("wx,hxc->hwc", triangle(width, new_width), pixels)
    # Pillow's weights have 22 bits: a value halfway between two levels may go either way.
    assert np.abs(narrow - exact).max() <= 0.5 + 5e-3
    exact = np.einsum("hy,ywc->hwc", triangle(height, new_height), narrow)
    assert np.abs(images.fit(picture, (new_height, new_width, 3)) - exact).max() <= 0.5 + 5e-3


def test_a_picture_of_the_models_size_stays_as_it_is(picture):
    np.testing.assert_array_equal(images.fit(picture, (5, 7, 3)), np.asarray(picture))


def test_a_grey_model_gets_luma():
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    np.testing.assert_array_equal(images.fit(red, (2, 3, 1)), np.full((2, 3, 1), 76))


def test_a_picture_of_one_pixel_fits():
    np.testing.assert_array_equal(
        images.fit(Image.new("RGB", (1, 1), (9, 8, 7)), (2, 2, 3)), np.full((2, 2, 3), (9, 8, 7))
    )


def test_a_model_without_colours_is_refused(picture):
    with pytest.raises(ImageError, match="the model takes 4 channels"):
        images.fit(picture, (5, 7, 4))


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_form_that_pillow_reads_is_read(kind, tmp_path):
    if kind == "AVIF" and "avif" not in features.get_supported_modules():
        pytest.skip("this Pillow has no AVIF")
    # Flat halves, which no form of compression changes by much.
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:, :24], pixels[:, 24:] = (250, 10, 10), (10, 10, 250)
    file = tmp_path / f"picture.{kind.lower()}"
    Image.fromarray(pixels).save(file, kind)
    for source in (file, file.read_bytes()):
        found = np.asarray(images.read(source)).astype(int)
        assert np.abs(found - pixels)[:, [*range(16), *range(32, 48)]].max() < 12


@pytest.fixture
def heic(tmp_path, monkeypatch):
    """A HEIC picture, red on its left and blue on its right, that Pillow does not know yet."""
    for registry in ("ID", "OPEN", "SAVE", "EXTENSION", "MIME"):
        monkeypatch.setattr(Image, registry, copy.copy(getattr(Image, registry)))
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:, :24], pixels[:, 24:] = (250, 10, 10), (10, 10, 250)
    file = tmp_path / "picture.heic"
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=95)
    return file


def test_heic_is_read_where_its_library_is(heic):
    for source in (heic, heic.read_bytes()):
        found = np.asarray(images.read(source)).astype(int)
        for part, colour in ((slice(16), (250, 10, 10)), (slice(32, 48), (10, 10, 250))):
            assert np.abs(found[:, part] - colour).max() < 12


def test_heic_says_what_to_install_where_its_library_is_not(heic, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for source in (heic, heic.read_bytes()):
        with pytest.raises(ImageError, match=r"is HEIC, which needs one more library: install gradcam-client\[heic\]"):
            images.read(source)


def test_heic_that_is_cut_off_or_altered_is_refused(heic):
    whole = heic.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:8], whole[:40] + bytes(len(whole) - 40)):
        with pytest.raises(ImageError, match=r"the image of .* bytes: (cannot be read|is not an image)"):
            images.read(broken)


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
