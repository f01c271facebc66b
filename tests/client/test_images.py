"""Pictures are read upright and in their colours, whatever holds them, and fitted to the model's input."""

import io
import warnings

import numpy as np
import pytest
from gradcam_client import images
from gradcam_client.errors import ImageError
from hypothesis import example, given
from hypothesis import strategies as st
from in_memory import encoded
from PIL import Image, features


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
