import numpy as np
import pytest
from gradcam_client.errors import OptionError
from gradcam_client.overlay import COLORMAPS, DIVERGING, blend, colorize, cover, index, outline, reveal, upsample
from gradcam_client.visualization import OVERLAY_TYPES, POLARITIES, Visualization
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

GRIDS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-1, 1, width=32)
)


@pytest.fixture
def picture(rng):
    return Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))


@pytest.fixture
def signed(rng):
    return rng.uniform(-1, 1, (4, 5)).astype(np.float32)


@pytest.mark.parametrize("colormap", COLORMAPS)
@pytest.mark.parametrize("alpha", [0, 0.4, 1])
def test_by_default_a_map_is_blended_over_its_picture(picture, rng, colormap, alpha):
    heatmap = rng.random((4, 5), np.float32)
    shown = Visualization(colormap=colormap, alpha=alpha).draw(picture, heatmap)
    assert shown == blend(picture, heatmap, colormap=colormap, alpha=alpha)
    assert Visualization().draw(picture, heatmap) == blend(picture, heatmap)


@pytest.mark.parametrize("polarity", POLARITIES)
@pytest.mark.parametrize("colormap", COLORMAPS)
def test_a_map_of_zeros_changes_nothing(picture, colormap, polarity):
    zeros = np.zeros((2, 3), np.float32)

    def show(overlay_type):
        fields = {"clip_percent_lowerbound": 62, "clip_percent_upperbound": 99.9, "threshold": 0.1}
        shown = Visualization(colormap=colormap, alpha=1, polarity=polarity, overlay_type=overlay_type, **fields)
        return shown.draw(picture, zeros)

    assert show("original") == show("outlines") == picture
    assert show("grayscale") == picture.convert("L").convert("RGB")
    assert show("mask_black") == Image.new("RGB", picture.size)


@pytest.mark.parametrize("polarity", POLARITIES)
def test_what_lies_under_the_colours(picture, signed, polarity):
    evidence = upsample(signed, 30, 40)
    painted = index(evidence, "red_green", signed=polarity == "both")

    def show(**fields):
        return Visualization(colormap="red_green", alpha=0.7, polarity=polarity, **fields).draw(picture, signed)

    assert show(overlay_type="original") == cover(picture, painted, abs(evidence), 0.7)
    assert show(overlay_type="grayscale") == cover(picture.convert("L"), painted, abs(evidence), 0.7)
    assert show(overlay_type="mask_black") == reveal(picture, abs(evidence))
    assert show(overlay_type="none") == painted.convert("RGB")


@pytest.mark.parametrize("level", [0.3, 0.5, 1])
def test_outlines_are_contours_at_a_level_for_each_sign(picture, signed, level):
    evidence = upsample(signed, 30, 40)
    expected = picture
    for sign in (1, -1):
        colour = index(np.array([[sign * level]]), "jet", signed=True).convert("RGB").getpixel((0, 0))
        expected = outline(expected, sign * evidence >= level, colour)
    shown = Visualization(overlay_type="outlines", polarity="both", level=level).draw(picture, signed)
    assert shown == expected
    # At level 1 the map's one strongest cell may reach no pixel.
    assert (shown != picture) == bool((abs(evidence) >= level).any())


@pytest.mark.parametrize("overlay_type", OVERLAY_TYPES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (640, 480)])
def test_every_kind_has_the_pictures_size_and_keeps_it_as_it_was(overlay_type, size, signed):
    picture = Image.new("RGB", size, "orange")
    for mode in ("RGB", "L", "RGBA"):
        shown = Visualization(overlay_type=overlay_type, polarity="both").draw(picture.convert(mode), signed)
        assert (shown.size, shown.mode) == (size, "RGB")
    assert picture == Image.new("RGB", size, "orange")


def test_the_painted_map_alone_has_any_size(signed):
    painted = Visualization(colormap="magma", polarity="negative", threshold=0.2).paint(-abs(signed), 9, 6)
    strength = upsample(abs(signed), 9, 6)
    np.testing.assert_array_equal(painted, colorize(np.where(strength < 0.2, 0, strength), "magma"))


@pytest.mark.parametrize("polarity", POLARITIES)
@pytest.mark.parametrize("colormap", COLORMAPS)
def test_the_layers_are_the_painted_map_with_its_palette_and_the_picture(signed, colormap, polarity, picture):
    shown = Visualization(colormap=colormap, polarity=polarity)
    painted, drawn = shown.layers(picture, signed)
    assert (painted.mode, painted.size) == ("P", picture.size)
    assert painted.convert("RGB") == shown.paint(signed, picture.height, picture.width)
    assert drawn == shown.draw(picture, signed)


@given(GRIDS, st.floats(0, 60), st.floats(61, 100), st.floats(0, 1))
@example(np.array([[1, 1e-45], [1e-45, 1e-45]], np.float32), 0, 61, 0)
def test_clipping_and_threshold_equal_the_formula(heatmap, lower, upper, threshold):
    shown = Visualization(
        clip_percent_lowerbound=lower, clip_percent_upperbound=upper, threshold=threshold, polarity="both"
    )
    values = upsample(heatmap, 5, 7)
    cells = abs(heatmap)
    expected = np.where(abs(values) < np.percentile(cells, lower), 0, values) if lower else values
    strongest = np.percentile(cells, upper)
    if upper < 100:
        expected = np.clip(expected.astype(np.float64) / strongest, -1, 1) if strongest else np.sign(expected)
        expected = expected.astype(np.float32)
    expected = np.where(abs(expected) < threshold, 0, expected)
    np.testing.assert_array_equal(shown.evidence(heatmap, 5, 7), expected)


def test_clipping_by_hand():
    heatmap = np.array([[0.0, 0.25, 0.5, 0.75, 1.0]], np.float32)
    for fields, expected in [
        ({}, [0, 0.25, 0.5, 0.75, 1]),
        ({"clip_percent_lowerbound": 50}, [0, 0, 0.5, 0.75, 1]),
        ({"clip_percent_upperbound": 50}, [0, 0.5, 1, 1, 1]),
        ({"clip_percent_lowerbound": 25, "clip_percent_upperbound": 75}, [0, 1 / 3, 2 / 3, 1, 1]),
        ({"threshold": 0.6}, [0, 0, 0, 0.75, 1]),
        ({"clip_percent_upperbound": 50, "threshold": 0.6}, [0, 0, 1, 1, 1]),
    ]:
        np.testing.assert_allclose(Visualization(**fields).evidence(heatmap, 1, 5), [expected], rtol=1e-6)


def test_a_map_with_one_cell_is_as_strong_as_can_be_above_a_percentile_of_zero():
    heatmap = np.zeros((7, 7), np.float32)
    heatmap[3, 3] = 0.5
    evidence = Visualization(clip_percent_upperbound=90).evidence(heatmap, 7, 7)
    np.testing.assert_array_equal(evidence, heatmap * 2)


def test_vertexs_defaults_are_accepted():
    for colormap in ("pink_green", "viridis", "red", "green", "red_green", "pink_white_green"):
        fields = {"colormap": colormap, "clip_percent_upperbound": 99.9, "clip_percent_lowerbound": 62}
        assert Visualization(**fields, overlay_type="none").colormap == colormap
    assert set(COLORMAPS) > DIVERGING


NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"colormap": "rainbow"}, "no colour map 'rainbow': choose one of green, grey, inferno, jet"),
        ({"polarity": "neutral"}, "no polarity 'neutral': choose one of positive, negative, both"),
        ({"overlay_type": "x"}, "no overlay type 'x': choose one of original, grayscale, mask_black, outlines, none"),
        *(({"alpha": value}, "alpha .*: give an opacity between 0 and 1") for value in (-0.1, 1.1, NAN)),
        *(({"threshold": value}, "threshold .*: give a strength between 0 and 1") for value in (-0.1, 1.1, NAN)),
        *(({"level": value}, "level .*: give a strength above 0 and up to 1") for value in (0, 1.1, NAN)),
        *(
            ({"clip_percent_lowerbound": lower, "clip_percent_upperbound": upper}, f"{lower} and .* {upper}: give two")
            for lower, upper in ((-1, 50), (0, 100.1), (50, 50), (60, 40), (NAN, 50), (50, NAN))
        ),
    ],
)
def test_wrong_fields_are_refused(fields, said):
    with pytest.raises(OptionError, match=said):
        Visualization(**fields)
