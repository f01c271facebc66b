"""Feature maps of any rank and order of axes, read as positions and channels and put back."""

import math

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.layout import MOST_SPECIAL_TOKENS, USUAL_SPECIAL_TOKENS, Layout, spatial_layout, token_layout
from hypothesis import assume, given
from hypothesis import strategies as st

GRIDS = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
ROWS, CHANNELS = st.integers(0, 3), st.integers(1, 4)


def numbered(*shape, dtype=np.float32):
    return np.arange(math.prod(shape), dtype=dtype).reshape(shape)


@given(GRIDS, ROWS, CHANNELS, st.booleans())
def test_position_p_holds_what_the_grid_holds_there(grid, rows, channels, channels_first):
    channels_last = numbered(rows, *grid, channels)
    tensor = np.moveaxis(channels_last, -1, 1) if channels_first else channels_last
    layout = Layout(grid=grid, channels=channels, channels_first=channels_first)
    flat = layout.flatten(tf.constant(tensor)).numpy()
    assert flat.shape == (rows, math.prod(grid), channels)
    for position, place in enumerate(np.ndindex(*grid)):
        np.testing.assert_array_equal(flat[:, position], channels_last[(slice(None), *place)])
    np.testing.assert_array_equal(np.moveaxis(tensor, layout.channel_axis, -1), channels_last)


@given(GRIDS, ROWS, CHANNELS, st.booleans())
def test_unflattening_puts_every_position_back(grid, rows, channels, channels_first):
    channels_last = numbered(rows, *grid, channels)
    tensor = np.moveaxis(channels_last, -1, 1) if channels_first else channels_last
    layout = Layout(grid=grid, channels=channels, channels_first=channels_first)
    maps = layout.flatten(tf.constant(tensor))[:, :, -1]
    np.testing.assert_array_equal(layout.unflatten(maps), channels_last[..., -1])


@given(GRIDS, st.integers(1, 3), CHANNELS, st.integers(0, MOST_SPECIAL_TOKENS))
def test_special_tokens_belong_to_no_position(grid, rows, channels, special):
    patches = math.prod(grid)
    tokens = numbered(rows, special + patches, channels)
    layout = Layout(grid=grid, channels=channels, special_tokens=special)
    flat = layout.flatten(tf.constant(tokens)).numpy()
    np.testing.assert_array_equal(flat, tokens[:, special:])
    assert layout.unflatten(tf.constant(flat[:, :, 0])).shape == (rows, *grid)


@given(GRIDS, st.integers(1, 3), st.integers(1, 4))
def test_axes_before_the_positions_stay(grid, rows, classes):
    maps = numbered(rows, classes, math.prod(grid))
    layout = Layout(grid=grid, channels=1)
    np.testing.assert_array_equal(layout.unflatten(tf.constant(maps)), maps.reshape(rows, classes, *grid))


def test_an_open_batch_stays_open():
    layout = Layout(grid=(2, 3), channels=4)

    @tf.function(input_signature=[tf.TensorSpec([None, 5, 6])])
    def unflatten(maps):
        return layout.unflatten(maps)

    assert unflatten.get_concrete_function().outputs[0].shape.as_list() == [None, 5, 2, 3]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_features_of_every_float_type_are_read_as_float32(dtype):
    features = tf.cast(numbered(1, 2, 2, 3), dtype)
    flat = Layout(grid=(2, 2), channels=3).flatten(features)
    assert flat.dtype == tf.float32
    np.testing.assert_array_equal(flat, numbered(1, 4, 3))


@pytest.mark.parametrize(
    ("shape", "channels_first", "wanted"),
    [
        ((None, 7, 8, 32), False, Layout(grid=(7, 8), channels=32)),
        ((None, 32, 7, 8), True, Layout(grid=(7, 8), channels=32, channels_first=True)),
        ((None, 50, 6), False, Layout(grid=(50,), channels=6)),
        ((None, 6, 50), True, Layout(grid=(50,), channels=6, channels_first=True)),
        ((None, 2, 3, 4, 5), False, Layout(grid=(2, 3, 4), channels=5)),
        ((None, 1, 2, 9), False, Layout(grid=(1, 2), channels=9)),
        ((None, 1, 1, 9), False, None),
        ((None, 9, 1, 1), True, None),
        ((None, 9), False, None),
        ((None, 2, 2, 2, 2, 2), False, None),
        ((None, None, 8, 32), False, None),
        ((None, 7, 8, None), False, None),
    ],
)
def test_a_spatial_map_has_more_than_one_position_of_known_sizes(shape, channels_first, wanted):
    assert spatial_layout(shape, channels_first=channels_first) == wanted


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(2, 20),
    st.sampled_from(USUAL_SPECIAL_TOKENS),
)
def test_square_patches_and_their_special_tokens_are_found(height, width, edge, special):
    assume(height * width > 1)
    tokens = height * width + special
    layout = token_layout((None, tokens, 12), [], (height * edge, width * edge))
    # Fewer special tokens may fit another grid of square patches; then that one is meant.
    assert layout is not None
    assert layout.special_tokens <= special
    assert math.prod(layout.grid) + layout.special_tokens == tokens
    (found,) = {size * edge / side for size, side in zip((height, width), layout.grid, strict=True)}
    assert found == int(found)
    if layout.special_tokens == special:
        assert layout.grid == (height, width)


@pytest.mark.parametrize(
    ("tokens", "size", "grid", "special"),
    [
        (196, (224, 224), (14, 14), 0),
        (197, (224, 224), (14, 14), 1),
        (198, (224, 224), (14, 14), 2),
        (201, (224, 224), (14, 14), 5),
        (577, (384, 384), (24, 24), 1),
        (50, (224, 224), (7, 7), 1),
        (81, (32, 40), (8, 10), 1),
        (65, (64, 64, 64), (4, 4, 4), 1),
        (2, (16, 32), (1, 2), 0),
    ],
)
def test_the_grids_of_known_transformers(tokens, size, grid, special):
    layout = token_layout((None, tokens, 768), [], size)
    assert (layout.grid, layout.special_tokens, layout.channels) == (grid, special, 768)
    assert not layout.channels_first


def test_a_map_before_the_tokens_says_how_they_lie():
    # 32 x 40 pixels have no 60 square patches.
    assert token_layout((None, 60, 8), [], (32, 40)) is None
    assert token_layout((None, 24, 8), [(4, 6)], (32, 40)) == Layout(grid=(4, 6), channels=8)
    assert token_layout((None, 26, 8), [(4, 6)], (32, 40)) == Layout(grid=(4, 6), channels=8, special_tokens=2)
    # The nearest of those that fit, and of all the one with the fewest special tokens.
    assert token_layout((None, 24, 8), [(6, 4), (4, 6)], (32, 40)).grid == (6, 4)
    assert token_layout((None, 24, 8), [(2, 11), (4, 6)], (32, 40)).grid == (4, 6)


@pytest.mark.parametrize(
    ("shape", "grids", "size"),
    [
        ((None, 100, 8), [], (224, 224)),
        ((None, 16 * 16 + MOST_SPECIAL_TOKENS + 1, 8), [], (256, 256)),
        ((None, 2, 8), [(1, 1)], (2, 2)),
        ((None, None, 8), [(4, 6)], (32, 40)),
        ((None, 24, None), [(4, 6)], (32, 40)),
        ((None, 4, 6, 8), [(4, 6)], (32, 40)),
        ((None, 24), [(4, 6)], (32, 40)),
        ((None, 24, 8), [(24,)], (240,)),
        ((None, 60, 8), [(4, 6)], (32, 40)),
        ((None, 24, 8), [], ()),
    ],
)
def test_what_is_no_sequence_of_patches_has_no_grid(shape, grids, size):
    assert token_layout(shape, grids, size) is None
