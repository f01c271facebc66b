"""Each figure of `evaluate` on cases whose answer is known by hand."""

import numpy as np
import pytest
from gradcam_export.checks.quality import faithfulness, localisation, perturbation
from gradcam_export.checks.quality.imputation import NOISE, impute
from gradcam_export.checks.quality.measures import Faithful, Located, MethodMeasures
from gradcam_export.checks.quality.progress import Progress
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


def region(rows, columns, size=(10, 12)):
    inside = np.zeros(size, bool)
    inside[rows, columns] = True
    return inside


def spot(row, column, size=(10, 12)):
    saliency = np.zeros(size, np.float32)
    saliency[row, column] = 1
    return saliency


def test_the_hottest_pixel_is_the_first_of_equal_ones():
    saliency = spot(3, 4)
    saliency[7, 1] = 1
    assert localisation.hottest_pixel(saliency) == (3, 4)


def test_a_map_of_zeros_points_at_nothing_and_has_no_energy():
    nothing, everywhere = np.zeros((4, 5), np.float32), np.ones((4, 5), bool)
    assert localisation.hottest_pixel(nothing) is None
    assert not localisation.points_at(nothing, everywhere, 15)
    assert localisation.energy_inside(nothing, everywhere) == 0


@pytest.mark.parametrize(
    ("row", "column", "tolerance", "hit"),
    [(2, 3, 0, True), (2, 6, 0, False), (2, 6, 2, True), (2, 6, 1, False), (5, 7, 4, False), (5, 7, 5, True)],
)
def test_the_pointing_game_counts_the_distance_to_the_nearest_pixel(row, column, tolerance, hit):
    # The object's last column is 4; (5, 7) lies 4 below and 3 beside its corner (1, 4), so 5 away from it.
    inside = region(slice(0, 2), slice(2, 5)) if row == 5 else region(slice(0, 4), slice(2, 5))
    assert localisation.points_at(spot(row, column), inside, tolerance) is hit


def test_the_tolerance_is_the_same_share_of_every_input():
    assert [localisation.tolerance_for(size) for size in ((224, 224), (448, 300), (112, 500), (7, 7))] == [15, 20, 8, 0]


def test_energy_is_the_share_of_the_map_inside():
    saliency = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert localisation.energy_inside(saliency, region(0, slice(0, 4), (3, 4))) == 6 / 66
    flat = np.full((10, 12), 0.3, np.float32)
    inside = region(slice(0, 5), slice(0, 6))
    assert localisation.energy_inside(flat, inside) == pytest.approx(inside.mean(), rel=1e-6)


@given(arrays(np.float32, (5, 6), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_a_ranking_puts_hotter_pixels_first_and_every_pixel_somewhere(saliency):
    places = perturbation.ranking(saliency, np.random.default_rng(0))
    assert sorted(places.ravel()) == list(range(30))
    assert (np.diff(saliency.ravel()[np.argsort(places.ravel())]) <= 0).all()


def test_equal_pixels_do_not_fall_in_reading_order():
    places = perturbation.ranking(np.zeros((20, 20), np.float32), np.random.default_rng(0))
    # The first half of a map of zeros comes from its upper and its lower half alike.
    assert abs((places[:10] < 200).mean() - 0.5) < 0.1


def test_pixels_are_exchanged_from_the_hottest_on_in_equal_steps():
    places = np.array([[3, 0], [1, 2]])
    picture, black = np.full((2, 2, 1), 9, np.uint8), np.zeros((2, 2, 1), np.uint8)
    steps = perturbation.exchanged(places, picture, black, 2)
    assert steps.dtype == np.uint8
    assert steps[..., 0].tolist() == [[[9, 9], [9, 9]], [[9, 0], [0, 9]], [[0, 0], [0, 0]]]


def test_steps_need_not_divide_the_pixels():
    places = np.arange(10).reshape(2, 5)
    steps = perturbation.exchanged(places, np.ones((2, 5, 1), np.uint8), np.zeros((2, 5, 1), np.uint8), 4)
    assert steps.sum(axis=(1, 2, 3)).tolist() == [10, 8, 5, 2, 0]


def test_the_area_is_that_of_trapezoids():
    assert perturbation.area_under(np.array([1.0, 0.0])) == 0.5
    assert perturbation.area_under(np.array([1.0, 1.0, 1.0, 1.0])) == 1.0
    assert perturbation.area_under(np.array([1.0, 0.5, 0.0, 0.0])) == pytest.approx((0.75 + 0.25) / 3)
    # RISE's own form: (sum - first/2 - last/2) / (n - 1).
    curve = np.random.default_rng(0).random(9)
    assert perturbation.area_under(curve) == pytest.approx(np.trapezoid(curve, dx=1 / 8), abs=1e-15)


def test_the_blur_is_a_gaussian_of_sigma_5_cut_at_11_pixels():
    picture = np.zeros((31, 31, 1), np.uint8)
    picture[15, 15] = 255
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 50)
    expected = np.zeros((31, 31))
    expected[10:21, 10:21] = np.rint(255 * window / window.sum())
    np.testing.assert_array_equal(perturbation.blurred(picture)[..., 0], expected)


def test_a_blurred_flat_picture_is_flat_up_to_its_border():
    picture = np.full((6, 20, 3), (10, 100, 255), np.uint8)
    np.testing.assert_array_equal(perturbation.blurred(picture), picture)


def test_a_picture_times_its_map_is_rounded():
    picture = np.array([[[200, 101, 3]]], np.uint8)
    assert perturbation.masked(picture, np.array([[0.5]], np.float32)).tolist() == [[[100, 50, 2]]]


def imputed_exactly(pixels, missing):
    """Solve the whole system densely, as the paper states it: neighbours weigh 1/6, across corners 1/12."""
    height, width = missing.shape
    matrix, values = np.zeros((height * width,) * 2), pixels.reshape(-1, pixels.shape[2]).astype(np.float64)
    for row in range(height):
        for column in range(width):
            here = row * width + column
            matrix[here, here] = 1
            if not missing[row, column]:
                continue
            values[here] = 0
            around = [
                (row + down, column + across, 1 / 6 if 0 in (down, across) else 1 / 12)
                for down in (-1, 0, 1)
                for across in (-1, 0, 1)
                if (down or across) and 0 <= row + down < height and 0 <= column + across < width
            ]
            for r, c, weight in around:
                matrix[here, r * width + c] = -weight / sum(weight for *_, weight in around)
    return np.linalg.solve(matrix, values).reshape(pixels.shape)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("blob", [True, False])
def test_imputation_solves_the_papers_equations(share, blob):
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (17, 22, 3), np.uint8)
    rows, columns = np.ogrid[:17, :22]
    order = (rows - 3) ** 2 + (columns - 9) ** 2 + 0.01 * columns if blob else random.random((17, 22))
    missing = order <= np.quantile(order, share)
    found = impute(pixels, missing)
    np.testing.assert_array_equal(found[~missing], pixels[~missing])
    # Within one grey level of the exact solution; the noise that is added has a deviation of 2.5.
    assert np.abs(found - imputed_exactly(pixels, missing)).max() <= 1.0


def test_imputation_continues_a_flat_picture_and_adds_its_noise():
    pixels = np.full((9, 9, 1), 100, np.uint8)
    missing = np.zeros((9, 9), bool)
    missing[2:7, 3:6] = True
    np.testing.assert_array_equal(impute(pixels, missing), pixels)
    noise = np.full((9, 9, 1), 4, np.float32)
    found = impute(pixels, missing, noise)
    assert set(found[missing].ravel()) == {round(100 + 4 * NOISE)}
    assert set(found[~missing].ravel()) == {100}


def test_nothing_is_imputed_where_nothing_is_missing_and_all_cannot_be():
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    np.testing.assert_array_equal(impute(pixels, np.zeros((4, 4), bool), np.ones((4, 4, 1), np.float32)), pixels)
    with pytest.raises(ValueError, match="every pixel is missing"):
        impute(pixels, np.ones((4, 4), bool))


def test_road_removes_the_hottest_and_the_coldest_tenths():
    places = np.arange(100).reshape(10, 10)
    pixels = np.arange(100, dtype=np.uint8).reshape(10, 10, 1) * 2
    hottest, coldest = perturbation.road_images(places, pixels, np.full((10, 10, 1), 20, np.float32))
    for step, count in enumerate(range(10, 100, 10)):
        # The noise changes whatever is removed, the picture being a ramp that its neighbours continue.
        changed = hottest[step] != pixels
        assert not changed[places >= count].any()
        assert changed[places < count].mean() > 0.9
        assert not (coldest[step] != pixels)[places < 100 - count].any()


def test_average_drop_is_relative_and_increases_do_not_offset_it():
    before, after = np.array([0.8, 0.5, 0.4, 0.0]), np.array([0.4, 0.9, 0.3, 0.1])
    assert faithfulness.average_drop(before, after) == pytest.approx((0.5 + 0 + 0.25 + 0) / 4)
    assert faithfulness.increase_in_confidence(before, after) == 0.5
    assert faithfulness.increase_in_confidence(before, before) == 0


def test_coherency_is_pearson_brought_to_0_1():
    saliency = np.random.default_rng(1).random((5, 6))
    assert faithfulness.coherency(saliency, 3 * saliency + 1) == pytest.approx(1)
    assert faithfulness.coherency(saliency, -saliency) == pytest.approx(0)
    assert faithfulness.coherency(np.array([[0, 1, 0, 1]]), np.array([[0, 0, 1, 1]])) == 0.5
    assert faithfulness.coherency(saliency, np.zeros((5, 6))) == 0


def test_complexity_is_the_mean_of_the_map():
    assert faithfulness.complexity(np.array([[1, 0.5], [0, 0]], np.float32)) == 0.375


def test_adcc_is_the_harmonic_mean_of_its_three_parts():
    assert faithfulness.adcc(0.8, 0.5, 0.75) == pytest.approx(3 / (1 / 0.8 + 1 / 0.5 + 1 / 0.25))
    assert faithfulness.adcc(1, 0, 0) == 1
    assert faithfulness.adcc(0.9, 0.1, 1.0) == 0


def test_road_is_half_of_what_the_order_makes():
    most, least = np.array([[0.2, 0.1]]), np.array([[0.9, 0.6]])
    assert faithfulness.road(most, least) == pytest.approx((0.7 + 0.5) / 4)
    assert faithfulness.road(least, most) == -faithfulness.road(most, least)


def test_spearman_ranks_and_shares_ranks_among_equals():
    rising = np.array([[1.0, 2.0, 30.0]])
    assert faithfulness.spearman(rising, rising**3) == pytest.approx(1)
    assert faithfulness.spearman(rising, -rising) == pytest.approx(-1)
    # Ranks 0.5 0.5 2 3 against 0 1 2 3: by hand 4.5 / sqrt(4.5 * 5).
    assert faithfulness.spearman(np.array([0, 0, 1, 2]), np.arange(4)) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_spearman_of_a_flat_map_is_0_unless_both_are_the_same():
    flat = np.zeros((3, 3))
    assert faithfulness.spearman(flat, np.arange(9).reshape(3, 3)) == 0
    assert faithfulness.spearman(flat, flat) == 1


@given(arrays(np.float64, 12, elements=st.sampled_from([0.0, 0.5, 1.0, 2.0])))
def test_spearman_agrees_with_scipy(values):
    stats = pytest.importorskip("scipy.stats")
    other = np.array([3.0, 1, 1, 0, 2, 2, 2, 5, 4, 0, 0, 1])
    if np.ptp(values) > 0:
        assert faithfulness.spearman(values, other) == pytest.approx(
            stats.spearmanr(values, other).statistic, abs=1e-12
        )


def faithful(score, masked_score):
    curve = np.array([score, 0.5, 0.0])
    return Faithful(
        score=score,
        masked_score=masked_score,
        deletion=curve,
        insertion=curve[::-1],
        road=np.stack([np.full(9, 0.2), np.full(9, 0.8)]),
        coherency=0.8,
        complexity=0.5,
    )


def test_a_summary_averages_pictures_and_the_pointing_game_labels():
    measured = MethodMeasures()
    hits = {"rose": [True, False, False, False], "tulip": [True]}
    for label, several in hits.items():
        for hit in several:
            located = Located(label=label, pointed=hit, pointed_strictly=False, energy=0.25 if hit else 0.5)
            measured.add("x.png", faithful(1.0, 0.25), [located])
    summary = measured.summary()
    # A quarter of the roses and all tulips: as in the paper, each class counts the same.
    assert summary["pointing_game"] == (0.25 + 1) / 2
    assert summary["pointing_game_strict"] == 0
    assert summary["energy"] == pytest.approx((2 * 0.25 + 3 * 0.5) / 5)
    assert summary["deletion"] == summary["insertion"] == 0.5
    assert (summary["average_drop"], summary["increase"]) == (0.75, 0)
    assert summary["adcc"] == pytest.approx(3 / (1 / 0.8 + 1 / 0.5 + 1 / 0.25))
    assert summary["road"] == pytest.approx(0.3)
    assert summary["sanity_head"] is summary["sanity_all"] is None


def test_without_objects_a_summary_has_no_pointing_games():
    measured = MethodMeasures(sanity={1: 0.4, 5: 0.1})
    measured.add("x.png", faithful(1.0, 1.0), [])
    summary = measured.summary()
    assert [summary[name] for name in ("pointing_game", "pointing_game_strict", "energy")] == [None] * 3
    assert (summary["sanity_head"], summary["sanity_all"]) == (0.4, 0.1)


def test_progress_says_rate_and_remaining_time_from_time_to_time():
    lines, now = [], [0.0]
    progress = Progress("evaluating", 40, "maps", lines.append, lambda: now[0])
    for _ in range(40):
        now[0] += 2
        progress.advance()
    assert lines[0] == "evaluating █░░░░░░░░░░░░░░░░░░░ 3/40 maps  0.5/s  1:14 left"
    assert lines[-1] == "evaluating ████████████████████ 40/40 maps  0.5/s  1:20"
    assert len(lines) == 14
