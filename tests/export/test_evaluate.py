"""The command `evaluate`, on a classifier whose every answer is known by hand."""

import json
import re
import shutil

import numpy as np
import pytest
from gradcam_export import export_classifier
from gradcam_export.checks.quality.explaining import ExplainingVersion
from gradcam_export.checks.quality.perturbation import blurred
from gradcam_export.checks.quality.results import EXAMPLES
from gradcam_export.cli import main
from gradcam_export.errors import OptionError, VersionError
from lean import LEAN
from PIL import Image
from two_colours import INSIDE, LABELS, PIXELS, SIZE, SLOPE, SQUARE, STEPS, compares_colours, logistic, picture, score


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "colours"
    # The check by shuffled weights has tests of its own.
    options = {"labels": LABELS, "method": ["gradcam", "eigencam"], "weights": "constants"}
    return export_classifier(compares_colours("softmax"), base, **options, **LEAN).path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index in range(4):
        path = folder / LABELS[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(index % 2)).save(path)
    return folder


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    path = tmp_path_factory.mktemp("boxes") / "boxes.csv"
    rows = [f"{LABELS[index % 2]}/{index}.png,{LABELS[index % 2]},3,2,6,4\n" for index in range(4)]
    path.write_text("file,label,x,y,width,height\n" + "".join(rows))
    return path


@pytest.fixture(scope="module")
def evaluated(version, images, boxes, tmp_path_factory):
    """The files that one evaluation of everything writes."""
    out = tmp_path_factory.mktemp("out")
    files = ["--report", str(out / "r.json"), "--markdown", str(out / "r.md"), "--html", str(out / "r.html")]
    given = ["--images", str(images), "--boxes", str(boxes), "--steps", str(STEPS), "--batch-size", "3"]
    assert main(["evaluate", str(version), *given, *files]) == 0
    return out


@pytest.fixture(scope="module")
def report(evaluated):
    return json.loads((evaluated / "r.json").read_text())


def test_every_figure_is_the_one_computed_by_hand(report):
    found = report["methods"]["gradcam"]["summary"]
    assert (found["pointing_game"], found["pointing_game_strict"], found["energy"]) == (1, 1, 1)
    # The picture times its map has lost the other colour: its score rises, and its map is the same.
    assert (found["average_drop"], found["increase"]) == (0, 1)
    assert found["coherency"] == pytest.approx(1, abs=1e-6)
    assert found["complexity"] == pytest.approx(INSIDE / PIXELS)
    assert found["adcc"] == pytest.approx(3 / (1 + 1 / (1 - INSIDE / PIXELS) + 1), abs=1e-6)
    assert report["accuracy"] == 1


def test_deletion_takes_the_square_and_then_the_rest(report):
    rest = (PIXELS - INSIDE) * 30 / 255
    left = [(1, 1), *((0, 1 - step / (STEPS - 1)) for step in range(STEPS))]
    expected = [logistic(SLOPE * (INSIDE * square - rest * background) / PIXELS) for square, background in left]
    curve = report["methods"]["gradcam"]["deletion_curve"]
    np.testing.assert_allclose(curve, expected, atol=1e-5)
    area = (sum(expected) - (expected[0] + expected[-1]) / 2) / STEPS
    assert report["methods"]["gradcam"]["summary"]["deletion"] == pytest.approx(area, abs=1e-5)


def test_insertion_begins_with_the_blurred_picture_and_brings_the_square_first(report):
    pixels = picture(0)
    first = blurred(pixels)
    first[SQUARE] = pixels[SQUARE]
    curve = report["methods"]["gradcam"]["insertion_curve"]
    expected = [score(blurred(pixels), 0), score(first, 0), score(pixels, 0)]
    np.testing.assert_allclose([curve[0], curve[1], curve[-1]], expected, atol=1e-5)


def test_road_counts_the_square_more_than_the_rest(report):
    summaries = {method: one["summary"] for method, one in report["methods"].items()}
    assert summaries["gradcam"]["road"] > 0.2
    assert abs(summaries["(random map)"]["road"]) < 0.15


def test_each_picture_is_reported(report):
    pictures = report["methods"]["gradcam"]["pictures"]
    assert [one["file"] for one in pictures] == ["green/1.png", "green/3.png", "red/0.png", "red/2.png"]
    assert pictures[0]["score"] == pytest.approx(score(picture(1), 1), abs=1e-6)
    assert pictures[0]["objects"] == [{"label": "green", "pointed": True, "pointed_strictly": True, "energy": 1.0}]


def test_methods_stand_side_by_side_and_noise_beside_them(report, evaluated):
    assert list(report["methods"]) == ["gradcam", "eigencam", "(random map)"]
    table = [line for line in (evaluated / "r.md").read_text().splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in table[2:]] == ["| gradcam", "| eigencam", "| (random map)"]
    assert table[0].startswith("| method | pointing game ↑ | pointing, 0 px ↑ | energy in object ↑ | deletion ↓ |")
    assert "| 100.0% | 100.0% | 100.0% |" in table[2]


def test_the_page_shows_table_plots_and_pictures(evaluated):
    page = (evaluated / "r.html").read_text()
    assert "<title>colours, version 1: its explanations</title>" in page
    assert page.count("<polyline") == 2 * 3
    # Each of four pictures once for each method, with its overlay.
    assert 2 * EXAMPLES > 4
    assert page.count("<img") == 2 * 4 * 2
    assert "energy in the object 1.00" in page


def run(capsys, version, images, *options):
    code = main(["evaluate", str(version), "--images", str(images), "--steps", "1", *map(str, options)])
    return code, capsys.readouterr()


def test_the_terminal_has_the_table_and_the_progress(capsys, version, images):
    code, said = run(capsys, version, images, "--method", "eigencam", "--limit", 2)
    assert code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == (
        [
            "method",
            "deletion",
            "↓",
            "insertion",
            "↑",
            "average",
            "drop",
            "↓",
            "increase",
            "↑",
            "coherency",
            "↑",
            "complexity",
            "↓",
            "ADCC",
            "↑",
            "ROAD",
            "↑",
        ]
    )
    assert [line.split("  ")[0] for line in lines[1:3]] == ["eigencam", "(random map)"]
    assert "2 images; ↑ higher is better, ↓ lower is better" in lines
    assert re.search(r"^evaluating █{20} 4/4 maps  \S+/s  \d+:\d\d$", said.err, re.MULTILINE)
    # So small a network has its weights in the graph, whatever it was asked for.
    assert "build it with --weights variables to have them randomised" in said.out


def test_masks_do_as_well_as_boxes(capsys, version, images, tmp_path):
    inside = np.zeros((SIZE, SIZE), np.uint8)
    inside[SQUARE] = 1
    (tmp_path / "green").mkdir()
    Image.fromarray(inside).save(tmp_path / "green/1.png")
    report = tmp_path / "r.json"
    code, said = run(capsys, version, images, "--masks", tmp_path, "--method", "gradcam", "--report", report)
    assert code == 0
    assert f"{tmp_path}: no object for 3 of 4 images; the pointing games leave them out" in said.err
    found = json.loads(report.read_text())
    assert found["located_images"] == 1
    assert found["accuracy"] is None
    assert found["methods"]["gradcam"]["summary"]["energy"] == 1


def test_an_object_is_held_against_the_map_of_its_own_class(capsys, version, images, tmp_path):
    boxes, report = tmp_path / "boxes.csv", tmp_path / "r.json"
    # In a red picture the evidence for green is all around the square.
    boxes.write_text("file,label,x,y,width,height\n0.png,green,3,2,6,4\n0.png,red,3,2,6,4\n")
    assert run(capsys, version, images / "red", "--boxes", boxes, "--method", "gradcam", "--report", report)[0] == 0
    (objects, nothing) = (one["objects"] for one in json.loads(report.read_text())["methods"]["gradcam"]["pictures"])
    assert [(one["label"], one["energy"], one["pointed_strictly"]) for one in objects] == [
        ("green", 0.0, False),
        ("red", 1.0, True),
    ]
    assert nothing == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "layercam"], "error: --method layercam: this version explains with gradcam, eigencam. Build one"),
        (["--boxes", "b.csv", "--masks", "m"], "error: --boxes and --masks both say where the objects are"),
        (["--boxes", "none.csv"], "error: none.csv: cannot be read as a file of boxes"),
        (["--masks", "none"], "error: none: is no folder of masks"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(capsys, version, images, options, message):
    code, said = run(capsys, version, images, *options)
    assert code == 1
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith(message)


def test_boxes_of_other_files_are_refused(capsys, version, images, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x,y,width,height\nelse.png,0,0,2,2\n")
    code, said = run(capsys, version, images, "--boxes", boxes, "--limit", 1)
    assert code == 1
    assert (
        f"error: {boxes}: has no object for any of the 1 images in {images}; its file names must be theirs" in said.err
    )


def test_a_report_that_cannot_be_written_is_said(capsys, version, images, tmp_path):
    report = tmp_path / "none" / "r.json"
    code, said = run(capsys, version, images, "--limit", 1, "--report", report)
    assert code == 1
    assert f"error: {report}: cannot be written: No such file or directory." in said.err


@pytest.mark.parametrize(("value", "message"), [("0", "0 is not at least 1"), ("x", "'x' is no whole number")])
def test_counts_are_whole_and_positive(capsys, value, message):
    with pytest.raises(SystemExit):
        main(["evaluate", "v", "--images", "i", "--limit", value])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"input": {"shape": [16], "dtype": "float32"}},
            r"this classifier takes float32 \[16\]",
        ),
        ({"more_inputs": [{"name": "age"}]}, r"takes age beside the image"),
    ],
)
def test_other_classifiers_are_refused(version, tmp_path, changes, message):
    copy = shutil.copytree(version, tmp_path / "1")
    manifest = copy / "assets.extra/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    with pytest.raises(OptionError, match=message):
        ExplainingVersion.load(copy, 8)


def test_a_graph_that_cannot_be_read_is_said_in_one_line(version, tmp_path):
    copy = shutil.copytree(version, tmp_path / "1")
    (copy / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(VersionError, match=r"1: cannot be loaded: [^\n]+$"):
        ExplainingVersion.load(copy, 8)


@pytest.mark.parametrize(("head", "units"), [(None, 2), ("sigmoid", 1)])
def test_probabilities_are_those_of_the_head(tmp_path, head, units):
    version = export_classifier(compares_colours(head, units), tmp_path / "m", labels=LABELS, **LEAN).path
    with ExplainingVersion.load(version, 8) as loaded:
        found = loaded.predict(np.stack([picture(0), picture(1)]))
    expected = score(picture(0), 0)
    np.testing.assert_allclose(found, [[expected, 1 - expected], [1 - expected, expected]], atol=1e-6)


def test_a_regression_is_refused(tmp_path):
    version = export_classifier(compares_colours(None, 1), tmp_path / "m", **LEAN).path
    with (
        ExplainingVersion.load(version, 8) as loaded,
        pytest.raises(OptionError, match=r"only output leaves 0..1: a regression has no classes"),
    ):
        loaded.predict(picture(1)[np.newaxis])
