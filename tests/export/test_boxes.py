"""Where objects are: COCO, CSV and masks, as regions of the input; and one line for whatever is wrong with them."""

import json

import numpy as np
import pytest
from gradcam_export.checks.boxes import Boxes, Masks
from gradcam_export.errors import OptionError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

LABELS = ("rose", "tulip")
ORIGINAL = (40, 80)
"""Height and width of the pictures."""


def coco(annotations=None, **changes):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "deep/b.jpg"}],
        "categories": [{"id": 1, "name": "rose"}, {"id": 2, "name": "tulip"}, {"id": 3, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 1, "bbox": [8, 4, 16, 12]}]
        if annotations is None
        else annotations,
    }
    return json.dumps(content | changes)


@pytest.fixture
def boxes(tmp_path):
    def read(text, suffix=".csv"):
        path = tmp_path / f"boxes{suffix}"
        path.write_text(text, "utf-8")
        return Boxes(path, LABELS)

    return read


def area(inside):
    """Return top, bottom, left, right of a region that is a rectangle, the ends not inside."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside.sum() == len(rows) * len(columns)
    return (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)


@pytest.mark.parametrize(
    ("size", "expected"), [((40, 80), (4, 16, 8, 24)), ((20, 20), (2, 8, 2, 6)), ((80, 240), (8, 32, 24, 72))]
)
def test_a_box_is_mapped_to_the_input(boxes, size, expected):
    (inside,) = boxes(coco(), ".json").regions("a.jpg", ORIGINAL, size).values()
    assert inside.shape == size
    assert area(inside) == expected


@given(
    box=st.tuples(*[st.floats(0, 1)] * 4),
    original=st.tuples(st.integers(2, 500), st.integers(2, 500)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_every_box_inside_has_a_pixel_and_none_whose_centre_is_outside(tmp_path_factory, box, original, size):
    height, width = original
    x, y = box[0] * (width - 1), box[1] * (height - 1)
    across, down = max(0.1, box[2] * (width - x)), max(0.1, box[3] * (height - y))
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(f"file,x,y,width,height\na.png,{x},{y},{across},{down}\n")
    inside = Boxes(path, LABELS).regions("a.png", original, size)[None]
    assert inside.any()
    centres = [(np.arange(count) + 0.5) * of / count for count, of in zip(size, original, strict=True)]
    rows, columns = (centres[0] >= y) & (centres[0] < y + down), (centres[1] >= x) & (centres[1] < x + across)
    if rows.any() and columns.any():
        np.testing.assert_array_equal(inside, rows[:, None] & columns)


def test_boxes_of_one_label_are_joined_and_crowds_left_out(boxes):
    several = [
        {"image_id": 8, "category_id": 2, "bbox": [0, 0, 8, 4]},
        {"image_id": 8, "category_id": 2, "bbox": [72, 36, 8, 4], "iscrowd": 0},
        {"image_id": 8, "category_id": 1, "bbox": [0, 36, 8, 4]},
        {"image_id": 8, "category_id": 1, "bbox": [0, 0, 80, 40], "iscrowd": 1},
    ]
    regions = boxes(coco(several), ".json").regions("deep/b.jpg", ORIGINAL, (10, 10))
    assert {label: inside.sum() for label, inside in regions.items()} == {"tulip": 2, "rose": 1}
    assert regions["tulip"][0, 0]
    assert regions["tulip"][9, 9]


def test_files_are_found_by_their_path_or_by_their_name(boxes):
    found = boxes("file,x,y,width,height\nb.png,0,0,8,4\nsub/c.png,0,0,8,4\n")
    assert found.regions("deep/b.png", ORIGINAL, (4, 4)) is not None
    assert found.regions("sub/c.png", ORIGINAL, (4, 4)) is not None
    assert found.regions("c.png", ORIGINAL, (4, 4)) is None


def test_a_csv_names_its_columns_in_any_order_and_labels_if_it_has_them(boxes):
    text = "\ufefflabel,height,width,y,x,file\nrose,4,8,0,0,a.png\n,4,8,0,0,b.png\n"
    found = boxes(text)
    assert list(found.regions("a.png", ORIGINAL, (4, 4))) == ["rose"]
    assert list(found.regions("b.png", ORIGINAL, (4, 4))) == [None]


def test_a_box_may_leave_the_picture_by_a_pixel(boxes):
    found = boxes("file,x,y,width,height\na.png,-0.6,0,81,40.8\n")
    assert found.regions("a.png", ORIGINAL, (4, 4))[None].all()


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        ("x", ".xml", r"boxes\.xml: boxes come as COCO's \.json or as \.csv \(file,x,y,width,height\[,label\]\)"),
        ("a.png,1,2,3,4\n", ".csv", r"first line must name the columns .*; file, x, y, width, height missing"),
        ("file,x,y,width\n", ".csv", r"; height missing"),
        ("", ".csv", r"; file, x, y, width, height missing"),
        ("file,x,y,width,height\na.png,1,2,3,4\na.png,1,two,3,4\n", ".csv", r"boxes\.csv, line 3: not four numbers"),
        ("file,x,y,width,height\na.png,1,2\n", ".csv", r"line 2: not four numbers"),
        ("{", ".json", r"boxes\.json: is not COCO's JSON: Expecting"),
        ("[]", ".json", r"is not COCO's JSON: list indices"),
        ("{}", ".json", r"is not COCO's JSON: 'images' is missing"),
        (coco([{"image_id": 7, "category_id": 1}]), ".json", r"'bbox' is missing"),
        (coco([{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}]), ".json", r"9 is missing or unknown"),
        (coco([{"image_id": 7, "category_id": 4, "bbox": [0, 0, 1, 1]}]), ".json", r"4 is missing or unknown"),
        (coco([{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1]}]), ".json", r"not enough values"),
        (coco([{"image_id": 7, "category_id": 1, "bbox": None}]), ".json", r"is not COCO's JSON"),
    ],
)
def test_a_file_of_another_form_is_refused(boxes, text, suffix, message):
    with pytest.raises(OptionError, match=message):
        boxes(text, suffix)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"none\.csv: cannot be read as a file of boxes"):
        Boxes(tmp_path / "none.csv", LABELS)
    (tmp_path / "latin.csv").write_bytes(b"file\xe9")
    with pytest.raises(OptionError, match=r"latin\.csv: cannot be read as a file of boxes"):
        Boxes(tmp_path / "latin.csv", LABELS)


def test_a_label_that_the_version_has_not_is_refused_with_those_it_has(boxes):
    found = boxes(coco([{"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}]), ".json")
    with pytest.raises(OptionError, match=r"a\.jpg: 'dog' is none of the version's labels \(rose, tulip\)"):
        found.regions("a.jpg", ORIGINAL, (4, 4))
    assert found.regions("deep/b.jpg", ORIGINAL, (4, 4)) is None


@pytest.mark.parametrize(
    "box", ["70,0,20,10", "0,35,10,10", "-2,0,10,10", "0,-2,10,10", "0,0,0,10", "0,0,10,-1", "nan,0,1,1"]
)
def test_a_box_outside_its_picture_is_refused(boxes, box):
    found = boxes(f"file,x,y,width,height\na.png,{box}\n")
    with pytest.raises(OptionError, match=r"a\.png: the box x=.* is not inside the picture of 80×40 pixels"):
        found.regions("a.png", ORIGINAL, (4, 4))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_a_mask_is_whatever_is_not_0(tmp_path, mode):
    inside = np.zeros((6, 12), np.uint8)
    inside[1:3, 3:9] = 1
    drawn = {"I;16": inside.astype(np.uint16), "1": inside * 255}.get(mode, inside)
    image = Image.fromarray(drawn) if mode == "I;16" else Image.fromarray(drawn).convert(mode)
    (tmp_path / "deep").mkdir()
    image.save(tmp_path / "deep/a.png")
    regions = Masks(tmp_path).regions("deep/a.jpg", (6, 12), (2, 4))
    np.testing.assert_array_equal(regions[None], [[False, True, True, False], [False] * 4])


def test_a_picture_without_a_mask_has_none(tmp_path):
    assert Masks(tmp_path).regions("a.jpg", (4, 8), (2, 4)) is None


def test_masks_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"none: is no folder of masks"):
        Masks(tmp_path / "none")
    Image.fromarray(np.ones((5, 8), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(OptionError, match=r"a\.png: is 8×5 pixels; its picture is 8×4"):
        Masks(tmp_path).regions("a.jpg", (4, 8), (2, 4))
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(OptionError, match=r"b\.png: is empty: no pixel of the object is left at 4×2"):
        Masks(tmp_path).regions("b.jpg", (4, 8), (2, 4))
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(OptionError, match=r"c\.png: cannot be read as a mask"):
        Masks(tmp_path).regions("c.jpg", (4, 8), (2, 4))
