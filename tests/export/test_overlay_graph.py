"""The overlay's pixels in the graph against the same formula in float64."""

import io

import numpy as np
import pytest
import tensorflow as tf
from encoded import ALPHA, LIMITS, chunk, encode, exif, photograph, png_of, run, saved
from gradcam_export.errors import OptionError
from gradcam_export.graph.overlay import blend, colour_table, overlay_jpeg
from PIL import Image


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    with saved(tmp_path_factory.mktemp("overlay"), "overlay") as loaded:
        yield loaded


@pytest.fixture
def rng():
    return np.random.default_rng(23)


def upsampled(heatmap, size, axis):
    """Bilinear weights between cell centres at halves, as a matrix."""
    cells = heatmap.shape[axis]
    centres = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(cells)))
    return np.moveaxis(np.tensordot(weights, heatmap, (1, axis)), 0, axis)


def oracle(picture, heatmap, table, alpha):
    strength = upsampled(upsampled(heatmap.astype(np.float64), picture.shape[0], 0), picture.shape[1], 1)
    position = strength * 255
    low = np.floor(position).astype(int)
    between = (position - low)[..., None]
    colour = table[low] * (1 - between) + table[np.minimum(low + 1, 255)] * between
    share = alpha * np.minimum(1, 2 * strength)[..., None]
    return picture * (1 - share) + colour * share


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


# 1.3 million pixels are two strips.
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (40, 64), (224, 224), (1300, 1000)])
@pytest.mark.parametrize("grid", [(1, 1), (7, 7), (4, 9)])
def test_a_blend_is_the_formula_within_three_levels(rng, size, grid):
    picture = np.asarray(photograph(rng, *size))
    heatmap = rng.random(grid, dtype=np.float32)
    table = colour_table("jet")
    found = blend(tf.constant(picture), tf.constant(heatmap), table, 0.7).numpy()
    # Strengths are rounded to the table's 256 colours, whose neighbours differ by up to four levels.
    assert np.abs(found - oracle(picture, heatmap, table, 0.7)).max() <= 3


def test_where_nothing_raised_the_score_the_picture_shows_unchanged(rng):
    picture = tf.constant(np.asarray(photograph(rng, 30, 40)))
    np.testing.assert_array_equal(blend(picture, tf.zeros([7, 7]), colour_table("jet"), 1.0), picture)
    np.testing.assert_array_equal(blend(picture, tf.ones([7, 7]), colour_table("jet"), 0.0), picture)


@pytest.mark.parametrize("colormap", ["grey", "inferno", "jet", "magma", "turbo", "viridis"])
def test_full_opacity_shows_the_colours_of_the_table(rng, colormap):
    picture = tf.constant(np.asarray(photograph(rng, 1, 256)))
    strengths = tf.linspace(0.0, 1.0, 256)[tf.newaxis]
    found = blend(picture, strengths, colour_table(colormap), 1.0).numpy()
    np.testing.assert_array_equal(found[0, 128:], colour_table(colormap)[128:])


def test_an_overlay_is_a_jpeg_of_the_pictures_own_size_for_each(version, rng):
    sizes = [(30, 40), (41, 29), (8, 8)]
    pictures = [photograph(rng, *size) for size in sizes]
    heatmaps = rng.random((3, 4, 5), dtype=np.float32)
    answers = run(version, "overlay", *(encode(picture, "PNG") for picture in pictures), heatmap=heatmaps)
    for answer, picture, heatmap in zip(answers, pictures, heatmaps, strict=True):
        assert answer.startswith(b"\xff\xd8\xff")
        expected = oracle(np.asarray(picture), heatmap, colour_table("jet"), ALPHA)
        rounded = Image.fromarray(np.rint(expected).astype(np.uint8))
        assert np.abs(decoded(answer) - decoded(encode(rounded, quality=90))).mean() < 2
    assert run(version, "overlay", heatmap=np.zeros((0, 4, 5), np.float32)).shape == (0,)


def test_the_heatmap_lies_on_the_upright_picture(version):
    # Stored upright, the picture lies on its side; seen, it is 16 wide and 48 high, with strength at the top.
    stored = np.full((16, 48, 3), 128, np.uint8)
    data = png_of(stored, colour=2, before=chunk(b"eXIf", exif(6)))
    found = decoded(run(version, "overlay", data, heatmap=np.array([[[1.0], [0.0], [0.0]]], np.float32))[0])
    assert found.shape == (48, 16, 3)
    assert np.abs(found[:6] - 128).max(axis=2).min() > 30
    assert np.abs(found[34:] - 128).max() < 4


def test_what_is_no_picture_gets_no_overlay(version, rng):
    picture = encode(photograph(rng, 9, 9))
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes: image 1 is BMP"):
        run(version, "overlay", picture, b"BM", heatmap=np.ones((2, 3, 3), np.float32))


def test_a_picture_too_long_for_jpeg_is_refused(version):
    data = png_of(np.zeros((1, 70000, 3), np.uint8), colour=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image 0 is 70000×1; an overlay has at most 65500"):
        run(version, "overlay", data, heatmap=np.ones((1, 3, 3), np.float32))


def test_unknown_colours_and_opacities_are_refused():
    with pytest.raises(OptionError, match=r"colormap must be one of grey, inferno, jet, .*; got 'rainbow'"):
        colour_table("rainbow")
    with pytest.raises(OptionError, match=r"alpha must be an opacity from 0 to 1; got 1\.5"):
        overlay_jpeg(tf.constant([b""]), tf.zeros([1, 2, 2]), colour_table("jet"), 1.5, LIMITS)
