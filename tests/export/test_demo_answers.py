"""Accuracy and pointing game, on cases small enough to work out by hand."""

import json

import numpy as np
import pytest
from gradcam_export.demo.answers import Answer, Tally, Verdict, hottest_pixel, judge
from gradcam_export.demo.truth import Box, Truth
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image


def upsample(grid: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bilinear with half-pixel centres, edges clamped, in float64."""

    def weights(cells: int, pixels: int) -> np.ndarray:
        at = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))

    return weights(grid.shape[0], height) @ grid @ weights(grid.shape[1], width).T


def test_the_hottest_pixel_lies_in_the_hottest_cell_on_the_side_of_its_warmer_neighbour() -> None:
    heatmap = np.array([[0, 0, 0], [0, 1, 0.5], [0, 0.25, 0]], np.float32)
    # Cell (1, 1) covers pixels 8..15; its centre lies between 11 and 12, and right and below are warmer.
    assert hottest_pixel(heatmap, (24, 24)) == (12, 12)
    assert hottest_pixel(heatmap[::-1, ::-1].copy(), (24, 24)) == (11, 11)


def test_x_goes_with_columns_and_y_with_rows() -> None:
    heatmap = np.zeros((2, 4), np.float32)
    heatmap[1, 3] = 1
    x, y = hottest_pixel(heatmap, (8, 4))
    assert (x, y) == (7, 3)


def test_of_equal_maxima_the_first_in_reading_order_counts() -> None:
    assert hottest_pixel(np.eye(2, dtype=np.float32), (2, 2)) == (0, 0)
    assert hottest_pixel(np.ones((3, 3), np.float32), (9, 9)) == (0, 0)
    assert hottest_pixel(np.fliplr(np.eye(2, dtype=np.float32)).copy(), (2, 2)) == (1, 0)


def test_a_zero_map_points_at_nothing() -> None:
    assert hottest_pixel(np.zeros((4, 4), np.float32), (32, 32)) is None


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
        lambda shape: st.lists(st.integers(0, 1000), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
            lambda values: np.array(values, np.float32).reshape(shape) / 1000
        )
    ),
    st.integers(6, 40),
    st.integers(6, 40),
)
def test_the_hottest_pixel_is_a_maximum_of_the_float64_map(heatmap, width, height) -> None:
    pixel = hottest_pixel(heatmap, (width, height))
    if pixel is None:
        assert not heatmap.any()
        return
    expected = upsample(heatmap.astype(np.float64), width, height)
    # Two pixels may differ by less than float32 tells apart.
    assert expected[pixel[1], pixel[0]] >= expected.max() - 1e-6


@pytest.fixture
def answer(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "scene.png")
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[2, 1] = 1  # pixels x 4..7, y 8..11, the maximum on x 5 and y 9
    return Answer(tmp_path / "scene.png", "3", 0.9, heatmap, tmp_path / "scene_overlay.png")


@pytest.mark.parametrize(
    ("label", "box", "verdict"),
    [
        ("3", Box(5, 9, 1, 1), Verdict(correct=True, pointed=True)),
        ("3", Box(6, 10, 8, 4), Verdict(correct=True, pointed=False)),
        ("3", Box(0, 0, 5, 16), Verdict(correct=True, pointed=False)),
        ("8", Box(0, 0, 16, 16), Verdict(correct=False, pointed=True)),
    ],
)
def test_an_answer_is_judged_by_its_label_and_its_hottest_pixel(answer, label, box, verdict) -> None:
    assert judge(Truth("scene.png", label, box), answer) == verdict


def test_a_zero_map_misses_even_a_box_as_large_as_the_scene(answer) -> None:
    blank = Answer(answer.image, "3", 0.9, np.zeros((4, 4), np.float32), answer.overlay)
    assert judge(Truth("scene.png", "3", Box(0, 0, 16, 16)), blank) == Verdict(correct=True, pointed=False)


def test_the_pointing_game_counts_correct_answers_alone() -> None:
    right, missed = Verdict(correct=True, pointed=True), Verdict(correct=True, pointed=False)
    lucky, wrong = Verdict(correct=False, pointed=True), Verdict(correct=False, pointed=False)
    scores = Tally.of([right, right, right, missed, lucky, wrong, wrong, wrong])
    assert scores == Tally(scenes=8, correct=4, pointed=3)
    assert (scores.accuracy, scores.pointing_game) == (0.5, 0.75)


def test_shares_of_nothing_are_zero() -> None:
    assert (Tally.of([]).accuracy, Tally.of([]).pointing_game) == (0.0, 0.0)
    assert Tally.of([Verdict(correct=False, pointed=True)]).pointing_game == 0.0


def test_an_answer_is_read_from_a_line_of_the_clients() -> None:
    line = {"image": "/in/a.png", "label": "cat", "class_index": 1, "score": 0.75, "heatmap": [[0, 0.5], [1, 0]]}
    answer = Answer.from_json(json.dumps({**line, "overlay": "/out/a-2_overlay.png", "model_version": 3}))
    assert (str(answer.image), answer.label, answer.score) == ("/in/a.png", "cat", 0.75)
    np.testing.assert_array_equal(answer.heatmap, np.array([[0, 0.5], [1, 0]], np.float32), strict=True)
    assert str(answer.painted_heatmap) == "/out/a-2_heatmap.png"
