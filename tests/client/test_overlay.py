import numpy as np
import pytest
from gradcam_client.errors import OptionError
from gradcam_client.overlay import (
    COLORMAPS,
    DIVERGING,
    blend,
    colorize,
    cover,
    coverage,
    outline,
    paint,
    reveal,
    upsample,
)
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


EVIDENCE = np.linspace(-1, 1, 17)[None]


@pytest.mark.parametrize("name", sorted(DIVERGING))
def test_maps_with_a_zero_in_their_middle_have_a_side_for_each_sign(name):
    for signed in (False, True):
        np.testing.assert_array_equal(paint(EVIDENCE, name, signed=signed), colorize((EVIDENCE + 1) / 2, name))
    against, _, for_it = paint(np.array([[-0.7, 0, 0.7]]), name)[0].astype(int)
    assert against[0] > against[1], "red or pink"
    assert for_it.argmax() == 1, "green"


@pytest.mark.parametrize("name", sorted({*COLORMAPS} - DIVERGING))
def test_other_maps_show_the_strength_of_either_sign_alone(name):
    np.testing.assert_array_equal(paint(EVIDENCE, name), colorize(abs(EVIDENCE), name))
    one_hue = name in ("red", "green")
    together = colorize(abs(EVIDENCE) if one_hue else (EVIDENCE + 1) / 2, name)
    np.testing.assert_array_equal(paint(EVIDENCE, name, signed=True), together)


def test_jet_and_viridis_tell_the_signs_apart_from_blue_to_red_and_yellow():
    for name, strongest in (("jet", [0]), ("viridis", [0, 1])):
        against, for_it = paint(np.array([[-0.8, 1]]), name, signed=True)[0].astype(int)
        assert against.argmax() == 2
        assert min(for_it[channel] for channel in strongest) > for_it[2]


def test_covering_keeps_red_red_and_blue_blue():
    red = Image.new("RGB", (2, 1), (255, 0, 0))
    blue = Image.new("RGB", (2, 1), (0, 0, 255))
    np.testing.assert_array_equal(cover(red, blue, np.array([[0, 1]]), 1), [[[255, 0, 0], [0, 0, 255]]])


def test_what_is_weak_is_darkened_to_black(rng):
    picture = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    strength = rng.random((5, 7))
    expected = picture * np.minimum(1, 2 * strength)[:, :, None]
    # One level for the mask's own 8 bits, half a level for the result's.
    np.testing.assert_allclose(reveal(Image.fromarray(picture), strength), expected, atol=1.5)


def border(region, width):
    """Pixels of a region that have a pixel outside it within `width`, one pixel at a time."""
    height, across = region.shape
    found = np.zeros_like(region)
    for row, column in np.argwhere(region):
        rows = slice(max(0, row - width), min(height, row + width + 1))
        columns = slice(max(0, column - width), min(across, column + width + 1))
        found[row, column] = not region[rows, columns].all()
    return found


@pytest.mark.parametrize(("colour", "edge"), [((20, 0, 90), 255), ((240, 200, 20), 0)])
@pytest.mark.parametrize(("side", "width"), [(9, 1), (450, 3)])
def test_an_outline_runs_inside_the_region_and_its_edge_outside(rng, side, width, colour, edge):
    inside = np.zeros((side, side + 2), bool)
    inside[side // 3 : 2 * side // 3, : side // 2] = True
    inside[side // 2, side // 4] = False
    picture = rng.integers(0, 256, (*inside.shape, 3), dtype=np.uint8)
    expected = picture.copy()
    expected[border(~inside, width)] = edge
    expected[border(inside, width)] = colour
    np.testing.assert_array_equal(outline(Image.fromarray(picture), inside, colour), expected, strict=True)


def test_a_region_of_all_or_nothing_has_no_outline(rng):
    picture = Image.fromarray(rng.integers(0, 256, (4, 3, 3), dtype=np.uint8))
    for inside in (np.zeros((4, 3), bool), np.ones((4, 3), bool)):
        assert outline(picture, inside, (1, 2, 3)) == picture


def test_wrong_options_are_refused():
    picture, heatmap = Image.new("RGB", (2, 2)), np.zeros((1, 1))
    with pytest.raises(OptionError, match="no colour map 'rainbow': choose one of green, grey, inferno, jet, magma"):
        blend(picture, heatmap, colormap="rainbow")
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="give an opacity between 0 and 1"):
            blend(picture, heatmap, alpha=alpha)
