"""The digit scenes: reproducible, balanced, and with the digit where the truth says."""

import json
import sys

import numpy as np
import pytest
from gradcam_export.demo.scenes import DIGIT_SIDES, LABELS, SIZE, draw_scenes, load_digits
from gradcam_export.demo.truth import Box, Truth, write_truths
from gradcam_export.errors import DemoError
from sklearn import datasets

SEED = 11


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def drawn(digits):
    return draw_scenes(digits[1], 60, SEED)


def test_no_digit_is_both_trained_and_tested_on(digits) -> None:
    train, test = (set(part.sources.tolist()) for part in digits)
    assert train.isdisjoint(test)
    assert train | test == set(range(1797))


def test_digits_keep_their_ink_and_label_and_every_class_is_held_out(digits) -> None:
    original = datasets.load_digits()
    for part in digits:
        np.testing.assert_array_equal(part.ink * 16, original.images[part.sources])
        np.testing.assert_array_equal(part.labels, original.target[part.sources])
    # Twenty of each class for 200 scenes, none of them twice.
    assert np.bincount(digits[1].labels).min() >= 20


def test_scenes_are_the_same_every_time_and_do_not_depend_on_their_number(digits, drawn) -> None:
    for one, other in zip(draw_scenes(digits[1], 25, SEED), drawn, strict=False):
        assert one.pixels.tobytes() == other.pixels.tobytes()
        assert (one.label, one.box, one.source) == (other.label, other.box, other.source)


def test_another_seed_draws_other_scenes(digits, drawn) -> None:
    other = draw_scenes(digits[1], 10, SEED + 1)
    assert not any(np.array_equal(a.pixels, b.pixels) for a, b in zip(other, drawn, strict=False))


def test_labels_are_balanced_and_no_test_digit_appears_twice(digits) -> None:
    scenes = draw_scenes(digits[1], 200, 2)
    assert np.bincount([scene.label for scene in scenes]).tolist() == [20] * len(LABELS)
    assert len({scene.source for scene in scenes}) == 200
    assert {scene.source for scene in scenes} <= set(digits[1].sources.tolist())


def test_the_label_is_that_of_the_source_digit(drawn) -> None:
    target = datasets.load_digits().target
    assert [scene.label for scene in drawn] == [target[scene.source] for scene in drawn]


def resample(ink: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest-neighbour resize, to hold the drawn digit against its source by a way of our own."""
    rows = (np.arange(height) * ink.shape[0] / height).astype(int)
    columns = (np.arange(width) * ink.shape[1] / width).astype(int)
    return ink[rows][:, columns]


def test_the_box_holds_the_digits_ink(drawn) -> None:
    """Inside the box, brightness follows the source digit's ink; a fifth of the box beside, it does so less."""
    images = datasets.load_digits().images
    fits, margins = [], []
    for scene in drawn:
        ink = images[scene.source] / 16
        ink = ink[np.ix_((ink > 0.35).any(1), (ink > 0.35).any(0))]
        box, luma = scene.box, scene.pixels @ np.array([0.299, 0.587, 0.114])
        expected = resample(ink, box.height, box.width)
        across, down = box.width // 5, box.height // 5
        here = correlation(luma, box.x, box.y, expected)
        fits.append(here)
        shifts = ((-across, 0), (across, 0), (0, -down), (0, down))
        margins.append(here - max(correlation(luma, box.x + dx, box.y + dy, expected) for dx, dy in shifts))
    assert min(fits) > 0.3
    assert np.median(fits) > 0.75
    # The oracle's own crop of the 8x8 digit is a pixel of it off now and then.
    assert np.mean(np.array(margins) > 0) >= 0.95
    assert np.median(margins) > 0.2


def correlation(luma: np.ndarray, x: int, y: int, expected: np.ndarray) -> float:
    height, width = expected.shape
    padded = np.pad(luma, SIZE, mode="edge")
    return np.corrcoef(padded[SIZE + y :, SIZE + x :][:height, :width].ravel(), expected.ravel())[0, 1]


def test_boxes_lie_inside_the_scene_and_vary_in_place_and_size(drawn) -> None:
    for scene in drawn:
        box = scene.box
        assert 0 < box.x < box.x + box.width < SIZE
        assert 0 < box.y < box.y + box.height < SIZE
        assert box.height <= DIGIT_SIDES[1]
    heights = [scene.box.height for scene in drawn]
    assert max(heights) - min(heights) > 15
    assert np.ptp([scene.box.x for scene in drawn]) > SIZE / 2
    assert np.ptp([scene.box.y for scene in drawn]) > SIZE / 2


def test_the_surroundings_are_clutter(drawn) -> None:
    """A scene without its digit is no plain ground: strong edges lie outside the box too."""
    edges = []
    for scene in drawn:
        box, outside = scene.box, np.ones((SIZE, SIZE), bool)
        outside[box.y - 1 : box.y + box.height + 1, box.x - 1 : box.x + box.width + 1] = False
        # Means of 4x4 blocks take the noise out; strokes and fragments stay.
        blocks = scene.pixels.reshape(SIZE // 4, 4, SIZE // 4, 4, 3).mean((1, 3))
        whole = outside.reshape(SIZE // 4, 4, SIZE // 4, 4).all((1, 3))
        steps = np.abs(np.diff(blocks, axis=1)).max(-1)[whole[:, 1:] & whole[:, :-1]]
        edges.append((steps > 16).sum())
    assert min(edges) > 10
    assert np.median(edges) > 60


def test_a_box_holds_its_first_and_last_pixel_and_none_beside() -> None:
    box = Box(x=3, y=5, width=2, height=4)
    inside = {(x, y) for x in range(12) for y in range(12) if box.holds(x, y)}
    assert inside == {(x, y) for x in (3, 4) for y in (5, 6, 7, 8)}


def test_truths_are_written_with_coco_boxes(tmp_path) -> None:
    file = tmp_path / "truth.json"
    write_truths(file, [Truth("a.png", "7", Box(1, 2, 3, 4)), Truth("b.png", "0", Box(5, 6, 7, 8))])
    assert json.loads(file.read_text("utf-8")) == [
        {"file": "a.png", "label": "7", "box": [1, 2, 3, 4]},
        {"file": "b.png", "label": "0", "box": [5, 6, 7, 8]},
    ]


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DemoError, match=r"pip install 'gradcam-export\[demo\]'"):
        load_digits()
