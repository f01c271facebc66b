"""The same file through the client and through the graph: the same pixels, and the same overlay."""

import io
from pathlib import Path

import gradcam_client.overlay
import gradcam_export.graph.overlay
import numpy as np
import pytest
from encoded import ALPHA, SHAPE, encode, exif, photograph, png_of, run, saved, segment, with_segments
from gradcam_client import images, overlay
from PIL import Image


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    with saved(tmp_path_factory.mktemp("contract"), "fitted", "grey", "original", "overlay") as loaded:
        yield loaded


@pytest.fixture
def rng():
    return np.random.default_rng(24)


def files(rng):
    picture = photograph(rng, 90, 131)
    deep = rng.integers(0, 65536, (61, 70, 4), dtype=np.uint16)
    return {
        "JPEG": encode(picture, quality=85),
        "progressive JPEG": encode(picture, progressive=True),
        "grey JPEG": encode(picture.convert("L")),
        "CMYK JPEG": encode(picture.convert("CMYK"), quality=90),
        "PNG": encode(picture, "PNG"),
        "palette": encode(picture.quantize(64), "PNG", transparency=bytes([0, 99] + [255] * 62)),
        "grey": encode(picture.convert("L"), "PNG"),
        "black and white": encode(picture.convert("1"), "PNG"),
        "RGBA": png_of((deep >> 8).astype(np.uint8), colour=6),
        "16-bit grey": png_of(deep[..., :1], colour=0),
        "16-bit grey and alpha": png_of(deep[..., :2], colour=4),
        "16-bit RGB": png_of(deep[..., :3], colour=2),
        "16-bit RGBA": png_of(deep, colour=6),
    }


def test_both_read_the_same_pixels(version, rng):
    for name, file in files(rng).items():
        # Inks are mixed by a formula that each decoder rounds its own way.
        tolerance = 1 if name == "CMYK JPEG" else 0
        found = run(version, "original", file).astype(int)
        assert np.abs(found - np.asarray(images.read(file))).max() <= tolerance, name


@pytest.mark.parametrize("signature", ["fitted", "grey"])
def test_both_send_the_same_pixels_to_the_classifier(version, rng, signature):
    shape = SHAPE if signature == "fitted" else (*SHAPE[:2], 1)
    for name, file in files(rng).items():
        found = run(version, signature, file)[0].astype(int)
        difference = np.abs(found - images.fit(images.read(file), shape))
        assert difference.max() <= (2 if name == "CMYK JPEG" else 1), name


@pytest.mark.parametrize("size", [(1200, 90), (90, 1200), (640, 480), (333, 500), (31, 47)])
def test_both_resize_the_width_first(version, rng, size):
    """What is left are values halfway between two levels, which Pillow's integer weights round either way."""
    for file in (encode(photograph(rng, *size), "PNG") for _ in range(4)):
        difference = np.abs(run(version, "fitted", file)[0].astype(int) - images.fit(images.read(file), SHAPE))
        assert difference.max() <= 1
        assert difference.mean() < 0.01


@pytest.mark.parametrize("orientation", range(1, 9))
def test_both_turn_a_picture_the_same_way(version, rng, orientation):
    for size, order in [((70, 110), "<"), ((201, 87), ">"), ((640, 480), "<"), ((37, 37), ">")]:
        plain = encode(photograph(rng, *size), quality=92)
        file = with_segments(plain, segment(0xE1, b"Exif\0\0" + exif(orientation, order)))
        np.testing.assert_array_equal(run(version, "original", file), images.read(file))
        difference = np.abs(run(version, "fitted", file)[0].astype(int) - images.fit(images.read(file), SHAPE))
        assert difference.max() <= 1


def test_both_draw_the_same_overlay(version, rng):
    for size, grid in [((48, 64), (7, 7)), ((121, 93), (4, 9)), ((1100, 1200), (14, 14)), ((5, 5), (7, 7))]:
        file = encode(photograph(rng, *size))
        heatmap = rng.random((1, *grid), dtype=np.float32)
        answer = run(version, "overlay", file, heatmap=heatmap)[0]
        by_client = io.BytesIO()
        overlay.blend(images.read(file), heatmap[0], colormap="jet", alpha=ALPHA).save(by_client, "JPEG", quality=90)
        with Image.open(io.BytesIO(answer)) as one, Image.open(by_client) as other:
            difference = np.abs(np.asarray(one).astype(int) - np.asarray(other))
        assert difference.max() <= 3, (size, grid)


def test_the_exporters_colour_maps_are_the_clients():
    name = "colormaps.npz"
    with (
        np.load(Path(gradcam_client.overlay.__file__).with_name(name)) as client,
        np.load(Path(gradcam_export.graph.overlay.__file__).with_name(name)) as exporter,
    ):
        assert sorted(client) == sorted(overlay.COLORMAPS)
        assert set(exporter) == set(overlay.COLORMAPS) - overlay.DIVERGING - {"green", "red"}
        for colormap in exporter:
            np.testing.assert_array_equal(client[colormap], exporter[colormap])
