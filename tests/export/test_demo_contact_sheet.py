"""The contact sheet, pixel by pixel where it matters."""

import numpy as np
import pytest
from gradcam_export.demo.answers import Answer
from gradcam_export.demo.contact_sheet import (
    BANNER,
    BOX_COLOUR,
    COLUMNS,
    ENTRY_HEIGHT,
    ENTRY_WIDTH,
    GAP,
    MISSED,
    NEUTRAL,
    PANEL,
    RIGHT,
    WRONG,
    draw_contact_sheet,
    entry_corner,
)
from gradcam_export.demo.truth import Box, Truth
from PIL import Image

SCENE, HEATMAP, OVERLAY = (10, 20, 30), (90, 0, 0), (0, 80, 80)


@pytest.fixture
def answer(tmp_path):
    Image.new("RGB", (128, 128), SCENE).save(tmp_path / "s.png")
    Image.new("RGB", (128, 128), HEATMAP).save(tmp_path / "s_heatmap.png")
    Image.new("RGB", (128, 128), OVERLAY).save(tmp_path / "s_overlay.png")
    return Answer(tmp_path / "s.png", "5", 0.5, np.array([[1, 0], [0, 0]], np.float32), tmp_path / "s_overlay.png")


def entry(sheet: Image.Image, index: int) -> np.ndarray:
    x, y = entry_corner(index)
    return np.asarray(sheet)[y : y + ENTRY_HEIGHT, x : x + ENTRY_WIDTH]


def panel(one: np.ndarray, index: int) -> np.ndarray:
    left = index * (PANEL + GAP)
    return one[BANNER:, left : left + PANEL]


def test_each_entry_shows_scene_heatmap_and_overlay_with_the_box_at_its_place(answer) -> None:
    box = Box(x=32, y=64, width=16, height=40)
    one = entry(draw_contact_sheet("t", [answer], [Truth("s.png", "5", box)]), 0)
    scale = PANEL / 128
    left, top, right, bottom = (round(v * scale) for v in (32, 64, 32 + 16, 64 + 40))
    frame = np.zeros((PANEL, PANEL), bool)
    frame[top:bottom, left:right] = True
    frame[top + 1 : bottom - 1, left + 1 : right - 1] = False
    for index, colour in enumerate((SCENE, HEATMAP, OVERLAY)):
        expected = np.where(frame[..., None], BOX_COLOUR, colour)
        np.testing.assert_array_equal(panel(one, index), expected)


ELSEWHERE, HERE = Box(100, 100, 5, 5), Box(0, 0, 64, 64)


@pytest.mark.parametrize(
    ("truth", "colour"),
    [
        (Truth("s.png", "5", HERE), RIGHT),
        (Truth("s.png", "6", HERE), WRONG),
        (Truth("s.png", "5", ELSEWHERE), MISSED),
        (None, NEUTRAL),
    ],
)
def test_the_banner_marks_wrong_answers_and_missed_objects(answer, truth, colour) -> None:
    one = entry(draw_contact_sheet("t", [answer], [truth]), 0)
    assert tuple(one[0, 0]) == tuple(one[BANNER - 1, ENTRY_WIDTH - 1]) == colour
    # There is writing on it.
    assert (one[:BANNER] != colour).any()


def test_without_truth_no_box_is_drawn(answer) -> None:
    one = entry(draw_contact_sheet("t", [answer], [None]), 0)
    assert (panel(one, 0) == SCENE).all()


def test_entries_follow_each_other_in_rows_without_touching(answer) -> None:
    count = COLUMNS + 1
    sheet = draw_contact_sheet("t", [answer] * count, [None] * count)
    covered = np.zeros((sheet.height, sheet.width), int)
    for index in range(count):
        x, y = entry_corner(index)
        covered[y : y + ENTRY_HEIGHT, x : x + ENTRY_WIDTH] += 1
        assert (panel(entry(sheet, index), 2) == OVERLAY).all()
    assert covered.max() == 1
    assert entry_corner(COLUMNS)[0] == entry_corner(0)[0]
    assert entry_corner(COLUMNS)[1] > entry_corner(0)[1] + ENTRY_HEIGHT


def test_a_picture_that_is_not_square_keeps_its_shape(answer, tmp_path) -> None:
    Image.new("RGB", (200, 100), SCENE).save(tmp_path / "s.png")
    shown = panel(entry(draw_contact_sheet("t", [answer], [None]), 0), 0)
    rows = (shown == SCENE).all((1, 2))
    assert rows.sum() == PANEL // 2
    assert rows[PANEL // 4 : PANEL // 4 + PANEL // 2].all()
