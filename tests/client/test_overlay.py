import numpy as np
import pytest
from gradcam_client.errors import OptionError
from gradcam_client.overlay import COLORMAPS, blend, colorize, coverage, upsample
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image


def oracle(values, height, width):
    """Bilinear, pixel centres at halves, in float64 and one pixel at a time."""
    h, w = values.shape
    out = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * h / height - 0.5, 0), h - 1)
            x = min(max((column + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            upper = values[top, left] * (1 - (x - left)) + values[top, right] * (x - left)
            lower = values[bottom, left] * (1 - (x - left)) + values[bottom, right] * (x - left)
            out[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return out


def test_a_grid_computed_by_hand():
    expected = [
        [0.00, 0.25, 0.75, 1.00],
        [0.25, 0.375, 0.625, 0.75],
        [0.75, 0.625, 0.375, 0.25],
        [1.00, 0.75, 0.25, 0.00],
    ]
    np.testing.assert_array_equal(upsample(np.eye(2, dtype=np.float32)[::-1], 4, 4), expected)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(0, 1, width=32)),
    st.integers(1, 24),
    st.integers(1, 24),
)
def test_upsampling_equals_the_formula_in_float64(values, height, width):
    result = upsample(values, height, width)
    np.testing.assert_allclose(result, oracle(values.astype(np.float64), height, width), atol=3e-7)
    assert result.dtype == np.float32


def test_a_map_of_zeros_leaves_the_picture_as_it_was(rng):
    picture = Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    for colormap in COLORMAPS:
        assert blend(picture, np.zeros((2, 3)), colormap=colormap, alpha=1) == picture


def test_alpha_zero_leaves_the_picture_as_it_was(rng):
    picture = Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    assert blend(picture, rng.random((2, 3)), alpha=0) == picture


def test_full_alpha_shows_the_colours_alone_where_the_map_is_strong():
    blended = blend(Image.new("RGB", (6, 4), "white"), np.full((1, 1), 0.8), colormap="jet", alpha=1)
    np.testing.assert_array_equal(np.asarray(blended), colorize(np.full((4, 6), 0.8), "jet"))


@given(st.floats(0, 1), st.floats(0, 1))
def test_blending_equals_the_formula(value, alpha):
    picture = np.array([[[10, 128, 250]]], np.uint8)
    blended = np.asarray(blend(Image.fromarray(picture), np.full((1, 1), value, np.float32), alpha=alpha))
    weight = alpha * min(1, 2 * value)
    expected = picture * (1 - weight) + colorize(np.full((1, 1), value, np.float32)).astype(float) * weight
    # One level for the mask's own 8 bits, half a level for the result's.
    np.testing.assert_allclose(blended, expected, atol=1.5)


def test_the_overlay_has_the_pictures_size_and_keeps_it_as_it_was(rng):
    picture = Image.fromarray(rng.integers(0, 256, (31, 17, 3), dtype=np.uint8))
    before = picture.copy()
    assert blend(picture, rng.random((7, 7))).size == (17, 31)
    assert picture == before


def test_a_picture_of_one_pixel_takes_the_maps_centre():
    blended = blend(Image.new("RGB", (1, 1)), np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]), alpha=1)
    assert blended.getpixel((0, 0)) == tuple(colorize(np.ones((1, 1)), "jet")[0, 0])


def test_jet_runs_from_blue_over_green_to_red():
    low, middle, high = colorize(np.array([[0.1, 0.5, 0.9]]), "jet")[0].astype(int)
    assert low.argmax() == 2
    assert middle.argmax() == 1
    assert high.argmax() == 0


def test_coverage_is_none_at_zero_and_full_from_half_on():
    np.testing.assert_array_equal(coverage(np.array([0, 0.25, 0.5, 0.9])), [0, 0.5, 1, 1])


def test_wrong_options_are_refused():
    picture, heatmap = Image.new("RGB", (2, 2)), np.zeros((1, 1))
    with pytest.raises(OptionError, match="no colour map 'rainbow': choose one of grey, inferno, jet, magma"):
        blend(picture, heatmap, colormap="rainbow")
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="give an opacity between 0 and 1"):
            blend(picture, heatmap, alpha=alpha)
