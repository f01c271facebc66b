"""How far two heatmaps lie apart: closed forms, a float64 oracle of plain loops, and what must always hold."""

import math

import numpy as np
import pytest
from drift_oracles import enlarged_by_hand, iou_by_hand, pearson_by_hand, shift_by_hand
from gradcam_export.checks.drift.maps import centre_shift, correlation, iou_of_hottest, map_drift
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

SIZE = (30, 40)
DIAGONAL = 50.0
ZERO = np.zeros((5, 4), np.float32)
FLAT = np.ones((5, 4), np.float32)


def spot(row, column, value=1.0):
    heatmap = ZERO.copy()
    heatmap[row, column] = value
    return heatmap


@st.composite
def maps(draw, count=2, same_grid=True):
    """Draw maps of few values, so that ties abound."""
    sides = st.integers(1, 6)
    grid = draw(st.tuples(sides, sides))
    values = st.integers(0, 9).map(float)
    drawn = []
    for _ in range(count):
        drawn.append(draw(arrays.arrays(np.float32, grid, elements=values)))
        grid = grid if same_grid else draw(st.tuples(sides, sides))
    return drawn


def test_two_spots_lie_as_far_apart_as_their_cells():
    drift = map_drift(spot(0, 0), spot(4, 3), SIZE)
    # Cells are 6 high and 10 wide: four down and three to the right are 24 and 30 pixels.
    assert drift.shift == pytest.approx(math.hypot(24, 30) / DIAGONAL, abs=1e-12)
    assert drift.iou == 0
    assert drift.correlation == pytest.approx(-1 / 19, abs=1e-12)


def test_the_hottest_fifth_overlaps_by_its_cells():
    # 20 cells: the hottest 4 of each; 3 of them in common, of 5 in all.
    first = np.arange(20, dtype=np.float32).reshape(5, 4)
    second = first.copy()
    second[0, 0] = 17.5
    assert iou_of_hottest(first, second) == pytest.approx(3 / 5)


def test_the_diagonal_is_that_of_the_picture_not_of_the_grid():
    wide, high = (map_drift(spot(0, 0), spot(0, 3), size).shift for size in ((10, 1000), (1000, 10)))
    assert wide == pytest.approx(750 / math.hypot(10, 1000), abs=1e-12)
    assert high == pytest.approx(7.5 / math.hypot(10, 1000), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (ZERO, ZERO, (1, 1, 0)),
        (ZERO, spot(1, 2), (0, 0, 1)),
        (ZERO, FLAT, (0, 0, 1)),
        (FLAT, FLAT, (1, 1, 0)),
        (FLAT, 0.25 * FLAT, (1, 1, 0)),
        (FLAT, spot(2, 3), (0, 1 / 20, math.hypot(0, 2.0 * 10 - 5) / DIAGONAL)),
    ],
    ids=["both zero", "zero and spot", "zero and flat", "both flat", "flat of other height", "flat and spot"],
)
def test_maps_without_contrast_have_defined_drift(first, second, wanted):
    for one, other in ((first, second), (second, first)):
        drift = map_drift(one, other, SIZE)
        assert (drift.correlation, drift.iou, drift.shift) == pytest.approx(wanted, abs=1e-12)


def test_faint_maps_lose_nothing():
    # Squared, these values underflow, also in float64.
    faint = np.float64(1e-200) * np.arange(20).reshape(5, 4)
    drift = map_drift(faint, np.arange(20.0).reshape(5, 4), SIZE)
    assert (drift.correlation, drift.iou, drift.shift) == pytest.approx((1, 1, 0), abs=1e-12)


@given(maps())
def test_each_metric_is_what_plain_loops_say(drawn):
    first, second = drawn
    assert iou_of_hottest(first, second) == pytest.approx(iou_by_hand(first, second), abs=1e-12)
    assert centre_shift(first, second, SIZE) == pytest.approx(shift_by_hand(first, second, SIZE), abs=1e-12)
    assume(np.ptp(first) > 0 and np.ptp(second) > 0)
    assert correlation(first, second) == pytest.approx(pearson_by_hand(first, second), abs=1e-12)


@given(maps(same_grid=False))
def test_other_grids_are_held_together_on_the_finer_one(drawn):
    first, second = drawn
    assume(first.any() and second.any())
    grid = tuple(map(max, first.shape, second.shape))
    large = [enlarged_by_hand(one / one.max(), grid) for one in drawn]
    drift = map_drift(first, second, SIZE)
    # The maps are enlarged in float32.
    assert drift.shift == pytest.approx(shift_by_hand(*large, SIZE), abs=1e-5)
    assume(min(map(np.ptp, large)) > 0.05)
    assert drift.correlation == pytest.approx(pearson_by_hand(*large), abs=1e-4)


def test_the_same_gradient_on_two_grids_is_the_same_map():
    coarse = np.array([[0.0, 1.0]], np.float32)
    fine = enlarged_by_hand(coarse, (4, 8)).astype(np.float32)
    drift = map_drift(coarse, fine, SIZE)
    assert (drift.correlation, drift.iou, drift.shift) == pytest.approx((1, 1, 0), abs=1e-6)


@given(maps(same_grid=False))
def test_neither_map_comes_first(drawn):
    there, back = map_drift(*drawn, SIZE), map_drift(*drawn[::-1], SIZE)
    assert there.iou == back.iou
    assert there.correlation == pytest.approx(back.correlation, abs=1e-12)
    assert there.shift == pytest.approx(back.shift, abs=1e-12)


@given(maps(count=1))
def test_a_map_does_not_drift_from_itself(drawn):
    drift = map_drift(drawn[0], drawn[0], SIZE)
    assert (drift.correlation, drift.iou, drift.shift) == (1, 1, 0)


@given(maps(), st.integers(-100, 100))
def test_scale_does_not_matter(drawn, exponent):
    first, second = drawn
    scaled = map_drift(first.astype(np.float64) * 2.0**exponent, second, SIZE)
    assert scaled == map_drift(first, second, SIZE)


@given(maps(same_grid=False))
def test_every_metric_stays_in_its_range(drawn):
    drift = map_drift(*drawn, SIZE)
    assert -1 <= drift.correlation <= 1
    assert 0 <= drift.iou <= 1
    assert 0 <= drift.shift <= 1
