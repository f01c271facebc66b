"""What readers and programs are told of a comparison, whatever labels and files are called."""

import html
import json
from pathlib import Path

import numpy as np
import pytest
from gradcam_export.checks.drift.limits import Limits, breaches_of
from gradcam_export.checks.drift.page import SIDE, write_page
from gradcam_export.checks.drift.pair import Explained, LabelChange
from gradcam_export.checks.drift.report import DEFINITIONS, Comparison, as_json, as_markdown, as_text
from gradcam_export.checks.drift.statistics import ImageDrift, groups_of
from gradcam_export.checks.heat_colours import overlay
from PIL import Image

HOSTILE = "<b>|`*x*`\n\x1b[31m"


def drift(file, old="rose", new="rose", **figures):
    given = {"old_score": 0.9, "new_score": 0.8, "correlation": 0.5, "iou": 0.25, "shift": 0.125}
    return ImageDrift(file=file, old_label=old, new_label=new, **given | figures)


NO_LIMITS = Limits()


def comparison(images, limits=NO_LIMITS, change=((), (), False), facts=(("weights", "variables", "constants"),)):
    groups = groups_of(images)
    removed, added, reordered = change
    return Comparison(
        old=Path("models/flowers/1"),
        new=Path("models/flowers/2"),
        label_change=LabelChange(removed=removed, added=added, reordered=reordered),
        facts=facts,
        images=images,
        groups=groups,
        limits=limits,
        breaches=breaches_of(groups, limits),
    )


def test_the_terminal_shows_figures_classes_images_and_flips():
    found = as_text(comparison([drift("a.png"), drift("b.png", new="vase", iou=0.75)], Limits(min_iou=0.6)))
    assert found.splitlines() == [
        "models/flowers/1 → models/flowers/2: 2 images, 1 of 2 predictions flip (50.0%)",
        "",
        "                          mean  median    p95  worst",
        "score drift                0.1     0.1    0.1    0.1",
        "heatmap correlation        0.5     0.5    0.5    0.5",
        "IoU of the hottest 20 %    0.5     0.5  0.275   0.25",
        "shift of the centre      0.125   0.125  0.125  0.125",
        "",
        "class  images  flips  score drift  heatmap correlation  IoU of the hottest 20 %  shift of the centre",
        "rose        2      1          0.1                  0.5                      0.5                0.125",
        "",
        "least alike heatmaps  old class  new class   IoU  correlation  shift",
        "a.png                      rose       rose  0.25          0.5  0.125",
        "b.png                      rose       vase  0.75          0.5  0.125",
        "",
        "flipped  old class  new class  old score  new score of the old class",
        "b.png         rose       vase        0.9                         0.8",
        "",
        "FAILED: mean IoU of the hottest 20 % is 0.5 over 2 images, less than --min-iou 0.6",
    ]


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        (NO_LIMITS, "no limits were given, such as --min-iou 0.5: nothing to hold"),
        (Limits(max_flips=0.5), "passed: the limit holds"),
        (Limits(max_flips=0.5, max_shift=0.5), "passed: all 2 limits hold"),
    ],
)
def test_the_last_line_is_the_verdict(limits, line):
    found = comparison([drift("a.png")], limits)
    assert as_text(found).splitlines()[-1] == line
    assert f"- {line}" in as_markdown(found).splitlines()


def test_long_lists_are_cut_and_said_to_be():
    images = [drift(f"{index:03}.png", old=f"class_{index}", new="vase") for index in range(33)]
    for text in (as_text(comparison(images)), as_markdown(comparison(images))):
        lines = text.splitlines()
        assert "… and 3 more classes, in the report" in lines
        assert "… and 13 more flips, in the report" in lines
    assert len(json.loads(as_json(comparison(images)))["images"]) == 33


def test_changed_labels_are_named_but_not_by_the_hundred():
    many = tuple(f"class_{index}" for index in range(100))
    lines = as_text(comparison([drift("a.png")], change=(many, (), True))).splitlines()
    assert lines[1] == (
        "the classes differ: the new version lacks 'class_0', 'class_1', 'class_2', 'class_3', 'class_4' … (100); "
        "the rest is compared by name"
    )
    assert lines[2] == "the classes have other indices; they are compared by name"


def test_heatmaps_of_another_kind_are_said_to_be():
    facts = [("explanation method", "gradcam", "layercam"), ("explanation layer", "relu", "relu_1")]
    found = comparison([drift("a.png")], facts=facts)
    line = "the heatmaps are of another kind: explanation method gradcam → layercam"
    assert as_text(found).splitlines()[1:3] == [line, ""]
    assert f"- {line}" in as_markdown(found).splitlines()


def test_labels_and_file_names_command_neither_a_terminal_nor_a_page():
    images = [drift(f"{HOSTILE}.png", old=HOSTILE, new="vase"), drift("\udcff.png", old=HOSTILE)]
    found = comparison(images, Limits(max_flips=0, per_class=True), ((HOSTILE,), (), False))
    text = as_text(found)
    assert "\x1b" not in text
    text.encode("utf-8")
    assert text.count(r"<b>|`*x*`\n\x1b[31m") >= 3
    markdown = as_markdown(found)
    markdown.encode("utf-8")
    assert "\x1b" not in markdown
    assert r"\<b\>\|\`\*x\*\`\\n\\x1b\[31m" in markdown
    assert "<b>" not in markdown.replace(r"\<b\>", "")
    # Each table keeps its number of columns.
    table = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert {line.replace(r"\|", "").count("|") for line in table} == {4, 6, 7, 8}
    assert json.loads(as_json(found))["images"][0]["old_label"] == HOSTILE


def test_what_could_not_be_measured_is_a_dash():
    gone = drift("a.png", new="vase", new_score=None, correlation=None, iou=None, shift=None)
    found = comparison([gone])
    assert "IoU of the hottest 20 %     –       –    –      –" in as_text(found).splitlines()
    report = json.loads(as_json(found))
    assert (report["overall"]["iou"], report["images"][0]["score_drift"]) == (None, None)


def page_of(found, explain, tmp_path):
    write_page(tmp_path / "page.html", found, explain)
    return html.unescape((tmp_path / "page.html").read_text("utf-8"))


@pytest.mark.parametrize("size", [(40, 20), (2000, 1000)], ids=["enlarged", "reduced"])
def test_a_pair_is_the_picture_and_both_overlays_of_one_size(size, tmp_path):
    width, height = size
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    maps = np.eye(3, 4, dtype=np.float32), np.eye(5, 4, k=1, dtype=np.float32)
    asked, shown = [], []

    def explain(images):
        asked.append([image.file for image in images])
        return [Explained(picture=picture, drift=image, old_map=maps[0], new_map=maps[1]) for image in images]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradcam_export.checks.page.Page.pictures", lambda _, groups: shown.extend(groups))
        page_of(comparison([drift("a.png"), drift("b.png", new="vase")]), explain, tmp_path)
    assert asked == [["a.png"], ["b.png"]]
    for _, pictures in shown:
        assert [one.shape for one in pictures] == [(SIDE // 2, SIDE, 3)] * 3
        for heatmap, painted in zip(maps, pictures[1:], strict=True):
            np.testing.assert_array_equal(painted, overlay(pictures[0], heatmap))
    assert shown[0][0] == "a.png: 'rose' 0.9 → 'rose' 0.8; IoU 0.25, correlation 0.5, shift 0.125"
    assert shown[1][0] == "b.png: 'rose' 0.9 → 'vase', 'rose' only 0.8; IoU 0.25, correlation 0.5, shift 0.125"


def test_the_page_marks_what_broke_a_limit_and_defines_its_figures(tmp_path):
    limits = Limits(max_flips=0, min_iou=0.2, max_shift=0.1, per_class=True)
    found = comparison([drift("a.png", old="tulip", new="tulip"), drift("b.png", new="vase", shift=0.0)], limits)
    page = page_of(found, lambda _: [], tmp_path)
    assert DEFINITIONS in page
    # Flips of all the images and of the roses, shift of the tulips; overall the mean shift holds.
    assert page.count('<td class="number bad">') == 2
    assert page.count("FAILED: ") == 3
    assert "variables</td><td>constants" in page
