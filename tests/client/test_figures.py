import numpy as np
import pytest
from gradcam_client.errors import OptionError
from gradcam_client.figures import Tile, scaled, sheet
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

PAGE, BANNER, GAP = (128, 128, 128), (17, 17, 17), 4
BANNER_HEIGHT = {240: 27, 160: 22}
"""By the smaller side of the pictures: 1.8 times the text, which is a sixteenth of that side and 12 at least."""


def tile(*pictures, label="rose", class_index=3, score=0.5):
    pictures = pictures or (Image.new("RGB", (240, 240), "white"),)
    return Tile(pictures=pictures, label=label, class_index=class_index, score=score)


def banner(label, **fields):
    """The pixels above a picture of 240×240."""
    return np.asarray(sheet([tile(label=label, **fields)]))[GAP : GAP + BANNER_HEIGHT[240], GAP:-GAP]


@pytest.mark.parametrize(
    ("before", "size", "after"),
    [
        ((1, 1), None, (224, 224)),
        ((32, 20), None, (224, 140)),
        ((100, 60), None, (200, 120)),
        ((224, 3), None, (224, 3)),
        ((4000, 30), None, (4000, 30)),
        ((4000, 3000), 240, (240, 180)),
        ((4000, 1), 240, (240, 1)),
        ((3, 4000), 240, (1, 240)),
        ((32, 32), 240, (224, 224)),
        ((240, 10), 240, (240, 10)),
        ((7, 5), 1, (1, 1)),
    ],
)
def test_pictures_are_shown_at_a_size_one_can_see(before, size, after):
    assert scaled(Image.new("RGB", before), size).size == after


def test_an_enlarged_picture_keeps_its_pixels_and_a_reduced_one_its_colours(rng):
    pixels = rng.integers(0, 256, (3, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(scaled(Image.fromarray(pixels), 12), pixels.repeat(2, 0).repeat(2, 1))
    assert scaled(Image.new("RGB", (900, 720), (250, 10, 90)), 50) == Image.new("RGB", (50, 40), (250, 10, 90))


def test_a_size_of_no_pixels_is_refused():
    with pytest.raises(OptionError, match="size 0: give at least one pixel"):
        scaled(Image.new("RGB", (2, 2)), 0)


def test_pictures_lie_under_their_banner_in_rgb(rng):
    pictures = [Image.fromarray(rng.integers(0, 256, (160, 200, 3), dtype=np.uint8)) for _ in range(3)]
    made = sheet([tile(*pictures)])
    assert (made.mode, made.size) == ("RGB", (3 * 200 + 4 * GAP, 22 + 160 + 2 * GAP))
    for position, picture in enumerate(pictures):
        left = GAP + position * (200 + GAP)
        assert made.crop((left, GAP + 22, left + 200, GAP + 22 + 160)) == picture
        assert made.getpixel((left - 1, 100)) == PAGE
    assert made.getpixel((made.width - 1, 0)) == PAGE
    assert made.getpixel((made.width - GAP - 1, GAP)) == BANNER


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(1, None, (1, 1)), (5, None, (2, 3)), (9, None, (3, 3)), (5, 2, (3, 2)), (3, 50, (1, 3)), (4, 1, (4, 1))],
)
def test_tiles_fill_rows_from_the_left(count, columns, shape):
    colours = [(25 * number, 255 - 25 * number, number) for number in range(count)]
    made = sheet([tile(Image.new("RGB", (240, 240), colour)) for colour in colours], columns)
    step_down, step = 240 + 27 + GAP, 240 + GAP
    assert made.size == (shape[1] * step + GAP, shape[0] * step_down + GAP)
    for number in range(shape[0] * shape[1]):
        row, column = divmod(number, shape[1])
        middle = made.getpixel((column * step + 120, row * step_down + 150))
        assert middle == (colours[number] if number < count else PAGE)


def test_a_narrow_picture_stands_in_the_middle_and_a_row_is_as_high_as_its_highest():
    wide, tall, small = (Image.new("RGB", size, "red") for size in ((240, 10), (1, 240), (3, 3)))
    made = np.asarray(sheet([tile(wide), tile(tall), tile(small)], columns=2))
    rows, columns = np.nonzero((made == (255, 0, 0)).all(2))
    assert made.shape[:2] == (3 * GAP + 2 * 27 + 240 + 3, 3 * GAP + 2 * 240)
    first, second, third = 31, 31, 31 + 240 + GAP + 27
    assert np.unique(columns[(rows >= first) & (columns < 244)])[[0, -1]].tolist() == [4, 243]
    assert np.unique(columns[(rows == second + 200)]).tolist() == [248 + 119]
    assert np.unique(rows[rows >= third]).tolist() == [third, third + 1, third + 2]


@pytest.mark.parametrize("size", [(1, 1), (30, 30), (224, 224), (4000, 40), (40, 1000), (1600, 1200)])
@pytest.mark.parametrize("colour", ["black", "white"])
def test_a_title_is_legible_at_any_size_on_any_picture(size, colour):
    made = np.asarray(sheet([tile(Image.new("RGB", size, colour))])).astype(int)
    text = max(12, round(min(size) / 16))
    gap = max(GAP, round(text / 8))
    title = made[gap : gap + round(1.8 * text), gap : gap + round(7 * text)]
    ink = (title > 200).all(2)
    rows, columns = np.nonzero(ink)
    # Capitals of Pillow's font are 0.7 of the text's size; the whole title is about five times as wide as the text.
    assert 0.6 * text < np.ptp(rows) + 1 < text
    assert 3.5 * text < np.ptp(columns) + 1 < 6.5 * text
    assert rows.min() > 0
    assert rows.max() < len(title) - 1
    # White on what is nearly black, whatever the picture: edges alone lie between.
    assert (title[~ink] < 40).all(1).mean() > 0.7
    assert tuple(title[0, 0]) == BANNER


@pytest.mark.parametrize(
    ("label", "read_as"),
    [
        ("rose", "rose"),
        ("Röschen – façade", "Roschen - facade"),
        ("ﬁancé", "fiance"),
        ("two\n  lines\t", "two lines"),
        ("バラ", "class 3"),
        ("роза", "class 3"),
        ("rose (バラ)", "class 3"),
        ("\u200b\x00", "class 3"),
        ("\u0301", "class 3"),
        ("", "class 3"),
        ("<b>&amp;", "<b>&amp;"),
    ],
)
def test_a_label_of_letters_that_the_font_lacks_is_told_otherwise(label, read_as):
    np.testing.assert_array_equal(banner(label), banner(read_as))
    if label != read_as:
        assert (banner(label) != banner("class 4")).any()


@pytest.mark.parametrize("length", [40, 3000])
def test_a_long_label_is_cut_and_its_score_stays(length):
    label = ("northern short-tailed shrew " * 200)[:length].strip()
    shown = banner(label, score=0.25)
    same = [
        kept for kept in range(1, 40) if (banner(label[:kept] + "...", score=0.25) == shown).all() and kept < length
    ]
    assert same
    # One letter more would not have had room, as far as half the text's size.
    assert np.nonzero((shown > 100).any((0, 2)))[0].max() < 240 - 7


@given(st.text(max_size=60), st.floats(), st.integers(1, 300), st.integers(1, 300))
def test_any_label_and_score_have_their_place(label, score, width, height):
    made = sheet([tile(Image.new("RGB", (width, height), "red"), label=label, score=score)])
    ink = (np.asarray(made) > 200).all(2)
    assert ink.any(), "a title"
    assert not ink[:, -10:].any(), "within its banner"


def test_scores_are_read_to_three_digits():
    for score, same in [(0.1234, 0.123), (-12.3456, -12.346), (1e6, 1.0004e6), (3.00012e30, 3e30)]:
        np.testing.assert_array_equal(banner("a", score=score), banner("a", score=same))
    assert (banner("a", score=0.123) != banner("a", score=0.124)).any()
    assert (banner("a", score=1e6) != banner("a", score=1e7)).any()


def test_titles_are_drawn_in_the_font_that_is_given(tmp_path):
    file = tmp_path / "font.ttf"
    file.write_bytes(ImageFont.load_default(12).font_bytes)
    expected = Image.new("RGB", (240, 27), BANNER)
    font = ImageFont.truetype(file, 15)
    ImageDraw.Draw(expected).text((7.5, 13.5), "AVA 0.500", fill="white", font=font, anchor="lm")
    for given_as in (file, str(file)):
        assert sheet([tile(label="AVA")], font=given_as).crop((GAP, GAP, GAP + 240, GAP + 27)) == expected


def test_a_sheet_of_nothing_is_refused(tmp_path):
    with pytest.raises(OptionError, match="no explanations: give one at least"):
        sheet([])
    for columns in (0, -1):
        with pytest.raises(OptionError, match=f"columns {columns}: give at least one"):
            sheet([tile()], columns)
    (tmp_path / "not.ttf").write_bytes(b"no font")
    for name in ("not.ttf", "absent.ttf"):
        with pytest.raises(OptionError, match=f"font '.*{name}': .*; give a TrueType or OpenType file"):
            sheet([tile()], font=tmp_path / name)
