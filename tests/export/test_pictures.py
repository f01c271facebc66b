"""Image files are read as the client reads them."""

import gradcam_client.images
import numpy as np
import pytest
from gradcam_export import OptionError
from gradcam_export.checks.pictures import batches, fit, image_files, read_picture, read_pixels
from PIL import Image

ORIENTATION = 0x0112


def facts(*shape, dtype="uint8"):
    return {"name": "images", "shape": list(shape), "dtype": dtype}


def pixels(*shape, seed=0, dtype=np.uint8, high=256):
    return np.random.default_rng(seed).integers(0, high, shape, dtype)


def turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return {"exif": exif}


def palette(path):
    image = Image.fromarray(pixels(20, 30, 3)).quantize(16)
    image.save(path, transparency=bytes(range(16)))


def save(*shape, mode=None, high=256, dtype=np.uint8, **options):
    def write(path):
        image = Image.fromarray(pixels(*shape, high=high, dtype=dtype))
        (image.convert(mode) if mode else image).save(path, **options)

    return write


KINDS = {
    "colour.png": save(20, 30, 3),
    "grey.png": save(20, 30),
    "bits.png": save(20, 30, mode="1"),
    "alpha.png": save(20, 30, 4),
    "palette.png": palette,
    "deep.png": save(20, 30, dtype=np.uint16, high=65536),
    "deep.pgm": save(20, 30, dtype=np.uint16, high=65536),
    "photo.jpg": save(20, 30, 3, quality=90),
    "ink.jpeg": save(20, 30, 3, mode="CMYK"),
    "layers.tif": save(20, 30, 3, **turned(6)),
    "frames.gif": save(20, 30, 3),
    "web.webp": save(20, 30, 3),
    "map.bmp": save(20, 30, 3),
} | {f"turned_{orientation}.jpg": save(20, 30, 3, **turned(orientation)) for orientation in range(1, 9)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_pixels_that_the_client_sends(kind, tmp_path):
    KINDS[kind](tmp_path / kind)
    for shape in ((7, 11, 3), (64, 24, 1)):
        sent = gradcam_client.images.fit(gradcam_client.images.read(tmp_path / kind), shape)
        found = read_pixels(tmp_path / kind, facts(*shape))
        assert (found.shape, found.dtype) == (shape, np.uint8)
        np.testing.assert_array_equal(found, sent)


def test_pictures_lie_upright(tmp_path):
    upright = pixels(20, 30, 3)
    # Orientation 6: to be shown, the stored picture is turned by 90 degrees clockwise.
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", **turned(6))
    np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / "turned.png")), upright)


def test_of_sixteen_bits_the_high_byte_is_taken(tmp_path):
    values = pixels(5, 6, dtype=np.uint16, high=65536)
    Image.fromarray(values).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_pixels(tmp_path / "deep.png", facts(5, 6, 1))[:, :, 0], values // 256)


def test_images_in_folders_are_found_and_sorted(tmp_path):
    for name in ("b.PNG", "a/z.jpg", "a/b/y.tiff", "c.txt", "no_suffix", "d.png/inside.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["a/b/y.tiff", "a/z.jpg", "b.PNG", "d.png/inside.gif"]


def test_a_folder_that_is_none_or_holds_none_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(OptionError, match=r"no image among its files \(\.avif .*\.webp\)"):
        image_files(tmp_path)
    with pytest.raises(OptionError, match=r"notes\.txt: is no folder of images"):
        image_files(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an image that Pillow can read"),
        (b"words", "is not an image that Pillow can read"),
        (b"\x89PNG\r\n\x1a\nbroken", r"broken\.png: "),
        (None, r"broken\.png: cannot be read as an image: .*No such file"),
    ],
    ids=["empty", "text", "header alone", "missing"],
)
def test_a_file_that_is_no_image_is_named(content, message, tmp_path):
    if content is not None:
        (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(OptionError, match=message) as raised:
        read_pixels(tmp_path / "broken.png", facts(8, 8, 3))
    assert "\n" not in str(raised.value)


def test_a_truncated_file_is_refused(tmp_path):
    save(60, 80, 3)(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(OptionError, match=r"half\.jpg: cannot be read as an image: .*truncated"):
        read_pixels(tmp_path / "half.jpg", facts(8, 8, 3))


def test_white_of_32_bits_is_unknown(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(OptionError, match=r"float\.tiff: has pixels of 32 bits \(mode F\), whose white is unknown"):
        read_pixels(tmp_path / "float.tiff", facts(8, 8, 3))


@pytest.mark.parametrize("wanted", [facts(8, 8, 3, dtype="float32"), facts(8, 8, 13), facts(8, 8, 8, 3), facts(12)])
def test_what_no_file_holds_is_refused(wanted):
    with pytest.raises(OptionError, match=r"this classifier takes \w+ \[.*\], which no image file holds"):
        fit(Image.new("RGB", (4, 4)), wanted)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_batches_hold_every_file_once_in_order(size, tmp_path):
    for index in range(5):
        Image.fromarray(pixels(6 + index, 9, 3, seed=index)).save(tmp_path / f"{index}.png")
    paths = image_files(tmp_path)
    found = list(batches(paths, facts(4, 5, 3), size))
    assert [path for files, _ in found for path in files] == paths
    assert [len(files) for files, _ in found] == [len(paths[start : start + size]) for start in range(0, 5, size)]
    stacked = np.concatenate([values for _, values in found])
    np.testing.assert_array_equal(stacked, [read_pixels(path, facts(4, 5, 3)) for path in paths])
