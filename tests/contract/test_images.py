"""A file gives the same pixels in the client and in a served graph, which decodes it by itself."""

import io

import numpy as np
import pytest
import tensorflow as tf
from gradcam_client import images
from PIL import Image


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def picture():
    """Smooth, as photographs are, with every level of each channel."""
    x, y = np.meshgrid(np.linspace(0, 255, 61), np.linspace(0, 255, 47))
    return Image.fromarray(np.stack([x, y, 255 - (x + y) / 2], -1).astype(np.uint8))


def in_the_graph(data, channels):
    """The decoder that an exported version uses for JPEG and PNG."""
    return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE").numpy()


FILES = {
    "jpeg": lambda p: encoded(p, "JPEG", quality=80),
    "progressive jpeg": lambda p: encoded(p, "JPEG", progressive=True, subsampling=2),
    "grey jpeg": lambda p: encoded(p.convert("L"), "JPEG"),
    "png": lambda p: encoded(p, "PNG"),
    "grey png": lambda p: encoded(p.convert("L"), "PNG"),
    "png with alpha": lambda p: encoded(Image.merge("RGBA", [*p.split(), p.getchannel(0)]), "PNG"),
    "grey png with alpha": lambda p: encoded(Image.merge("LA", [p.getchannel(1), p.getchannel(0)]), "PNG"),
    "palette": lambda p: encoded(p.quantize(32), "PNG"),
    "palette with transparency": lambda p: encoded(p.quantize(32), "PNG", transparency=bytes(range(0, 256, 8))),
    "16-bit grey": lambda p: encoded(Image.fromarray(np.asarray(p.convert("L")).astype(np.uint16) * 257), "PNG"),
    "black and white": lambda p: encoded(p.convert("1"), "PNG"),
}


@pytest.mark.parametrize("file", FILES)
def test_both_roads_decode_alike(picture, file):
    data = FILES[file](picture)
    np.testing.assert_array_equal(np.asarray(images.read(data)), in_the_graph(data, 3))


def test_cmyk_is_converted_alike_within_a_level(picture):
    data = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    difference = np.asarray(images.read(data), int) - in_the_graph(data, 3)
    assert np.abs(difference).max() <= 1


def test_a_grey_model_gets_alike_pixels_within_rounding(picture):
    data = encoded(picture, "JPEG", quality=95)
    ours = images.fit(images.read(data), (47, 61, 1)).astype(int)
    assert np.abs(ours - in_the_graph(data, 1)).max() <= 2
