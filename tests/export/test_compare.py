"""The command `compare`, on classifiers whose heatmaps are known in closed form."""

import html
import json
import re
import shutil

import numpy as np
import pytest
from drift_oracles import enlarged_by_hand, iou_by_hand, pearson_by_hand, shift_by_hand
from flowers import (
    AT_THE_VASE,
    BY_COLOUR,
    LABELS,
    OTHER_SIZE,
    SIZE,
    closed_form_map,
    edited,
    probabilities,
    write_pictures,
    write_sick,
    write_versions,
)
from gradcam_export.checks.pictures import read_pixels
from gradcam_export.cli import main
from PIL import Image


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    return write_versions(tmp_path_factory.mktemp("flowers"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures of a rose in front of a vase, two of a vase, one of a tulip, and one that shows nothing."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


def compare(old, new, folder, *options, capsys):
    code = main(["compare", str(old), str(new), "--images", str(folder), *map(str, options)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def report_of(old, new, folder, tmp_path, capsys, *options):
    code, _, _ = compare(old, new, folder, "--report", tmp_path / "report.json", *options, capsys=capsys)
    return code, json.loads((tmp_path / "report.json").read_text())


STRICTEST = ["--max-flips", 0, "--max-score-drift", 0, "--min-iou", 1, "--min-correlation", 1, "--max-shift", 0]


def test_a_version_is_like_itself_by_the_strictest_limits(versions, folder, capsys):
    old = versions["old"]
    code, out, err = compare(old, old, folder, *STRICTEST, "--per-class", "--batch-size", 3, capsys=capsys)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"{old} → {old}: 8 images, 0 of 8 predictions flip (0.0%)"
    assert lines[-1] == "passed: all 5 limits hold"
    table = [line.rsplit(maxsplit=4) for line in lines[2:7]]
    assert [[name.strip(), *values] for name, *values in table[1:]] == [
        ["score drift", *["0"] * 4],
        ["heatmap correlation", *["1"] * 4],
        ["IoU of the hottest 20 %", *["1"] * 4],
        ["shift of the centre", *["0"] * 4],
    ]
    assert "comparing ████████████████████ 8/8 images" in err


def test_every_figure_is_that_of_the_closed_form(versions, folder, tmp_path, capsys):
    code, report = report_of(versions["old"], versions["vase"], folder, tmp_path, capsys)
    assert code == 0
    assert [image["file"] for image in report["images"]] == [
        *(f"rose_{index}.png" for index in range(4)),
        *("tulip.png", "vases/vase_0.png", "vases/vase_1.png", "zero.png"),
    ]
    for image in report["images"]:
        pixels = np.asarray(Image.open(folder / image["file"]))
        scores = [probabilities(pixels, weights) for weights in (BY_COLOUR, AT_THE_VASE)]
        index = int(scores[0].argmax())
        assert image["old_label"] == LABELS[index]
        assert image["new_label"] == LABELS[int(scores[1].argmax())]
        assert image["old_score"] == pytest.approx(scores[0][index], abs=1e-5)
        assert image["new_score"] == pytest.approx(scores[1][index], abs=1e-5)
        assert image["score_drift"] == pytest.approx(abs(scores[0][index] - scores[1][index]), abs=1e-5)
        maps = [closed_form_map(pixels, weights[:, index]) for weights in (BY_COLOUR, AT_THE_VASE)]
        assert image["iou"] == pytest.approx(iou_by_hand(*maps), abs=1e-5)
        assert image["shift"] == pytest.approx(shift_by_hand(*maps, SIZE), abs=1e-5)
        wanted = pearson_by_hand(*maps) if all(np.ptp(one) for one in maps) else 1
        assert image["correlation"] == pytest.approx(wanted, abs=1e-5)


def test_a_rose_that_is_told_by_its_vase_is_found_where_predictions_agree(versions, folder, tmp_path, capsys):
    roses = tmp_path / "roses"
    roses.mkdir()
    for path in folder.glob("rose_*.png"):
        shutil.copy(path, roses)
    limits = ["--max-flips", 0, "--min-iou", 0.5, "--max-shift", 0.2]
    code, out, _ = compare(versions["old"], versions["vase"], roses, *limits, capsys=capsys)
    assert code == 1
    assert "4 images, 0 of 4 predictions flip" in out
    failed = [line for line in out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 2
    assert re.fullmatch(r"FAILED: mean IoU of the hottest 20 % is 0 over 4 images, less than --min-iou 0\.5", failed[0])
    assert re.fullmatch(r"FAILED: mean shift of the centre is 0\.\d+ over 4 images, .* --max-shift 0\.2", failed[1])


def test_flips_are_listed_with_both_labels(versions, folder, tmp_path, capsys):
    code, out, _ = compare(versions["old"], versions["vase"], folder, "--max-flips", 0.2, capsys=capsys)
    assert code == 1
    assert "FAILED: 2 of 8 predictions flip (0.25), more than --max-flips 0.2" in out.splitlines()
    assert re.search(r"vases/vase_0\.png +vase +rose +0\.9\d+ +0\.1\d+", out)
    _, report = report_of(versions["old"], versions["vase"], folder, tmp_path, capsys)
    assert [image["file"] for image in report["images"] if image["flipped"]] == ["vases/vase_0.png", "vases/vase_1.png"]
    assert report["overall"]["flip_share"] == 0.25
    classes = {group["label"]: (group["images"], group["flips"]) for group in report["classes"]}
    assert classes == {"rose": (5, 0), "tulip": (1, 0), "vase": (2, 2)}


def test_other_sizes_grids_and_orders_of_classes_are_brought_together(versions, folder, tmp_path, capsys):
    new = versions["other_size"]
    _, report = report_of(versions["old"], new, folder, tmp_path, capsys)
    assert report["labels"] == {"removed": [], "added": [], "reordered": True}
    stated = {fact["name"]: (fact["old"], fact["new"]) for fact in report["facts"]}
    assert stated["input shape"] == ("[12, 16, 3]", "[24, 8, 3]")
    assert stated["explanation grid"] == ("[12, 16]", "[24, 8]")
    # Of equal scores the first class is predicted, and that is another one now.
    assert [image["file"] for image in report["images"] if image["flipped"]] == ["zero.png"]
    for image in report["images"]:
        weights = BY_COLOUR[:, LABELS.index(image["old_label"])]
        shapes = [{"shape": [*size, 3], "dtype": "uint8"} for size in (SIZE, OTHER_SIZE)]
        maps = [closed_form_map(read_pixels(folder / image["file"], shape), weights) for shape in shapes]
        large = [enlarged_by_hand(one, (24, 16)) for one in maps]
        assert image["shift"] == pytest.approx(shift_by_hand(*large, SIZE), abs=1e-4)
        wanted = pearson_by_hand(*large) if all(np.ptp(one) for one in large) else 1
        assert image["correlation"] == pytest.approx(wanted, abs=1e-4)
        # The same picture, narrower: the same place.
        assert image["correlation"] > 0.8
        assert image["shift"] < 0.03
    _, out, _ = compare(versions["old"], new, folder, capsys=capsys)
    assert "the classes have other indices; they are compared by name" in out.splitlines()


def test_a_class_that_is_gone_flips_and_has_nothing_to_compare(versions, folder, tmp_path, capsys):
    limits = ["--min-iou", 0.5, "--per-class"]
    code, report = report_of(versions["old"], versions["other_classes"], folder, tmp_path, capsys, *limits)
    assert code == 1
    assert report["labels"] == {"removed": ["vase"], "added": ["lily"], "reordered": False}
    vases = [image for image in report["images"] if image["old_label"] == "vase"]
    assert [(image["new_label"], image["flipped"]) for image in vases] == [("lily", True)] * 2
    assert {image[name] for image in vases for name in ("new_score", "score_drift", "iou", "correlation", "shift")} == {
        None
    }
    (breach,) = report["breaches"]
    assert (breach["label"], breach["found"]) == ("vase", None)
    # The others did not change.
    assert report["overall"]["iou"]["worst"] == 1
    _, out, _ = compare(versions["old"], versions["other_classes"], folder, capsys=capsys)
    line = "the classes differ: the new version lacks 'vase' (1); it adds 'lily' (1); the rest is compared by name"
    assert line in out.splitlines()


def test_reports_say_the_same(versions, folder, tmp_path, capsys):
    files = {name: tmp_path / f"drift.{name}" for name in ("json", "md", "html")}
    written = ["--report", files["json"], "--markdown", files["md"], "--html", files["html"]]
    code, out, err = compare(
        versions["old"], versions["vase"], folder, "--min-iou", 0.9, "--min-correlation", -1, *written, capsys=capsys
    )
    assert code == 1
    assert err.splitlines()[-3:] == [f"wrote {path}" for path in files.values()]
    report = json.loads(files["json"].read_text())
    assert (report["schema"], report["passed"]) == (1, False)
    assert report["limits"] == {"min_iou": 0.9, "min_correlation": -1, "per_class": False}
    (breach,) = report["breaches"]
    markdown, page = files["md"].read_text("utf-8"), html.unescape(files["html"].read_text("utf-8"))
    for text in (out, markdown, page):
        assert f"FAILED: {breach['message']}".replace("_", r"\_") in text
    mean = f"{report['overall']['iou']['mean']:.4g}"
    assert re.search(rf"\| IoU of the hottest 20 % \| {mean} \|", markdown)
    assert re.search(rf'IoU of the hottest 20 %</td><td class="number bad">{mean}</td>', page)
    assert "| vases/vase\\_0.png | vase | rose |" in markdown
    assert "vases/vase_0.png</td><td>vase</td><td>rose</td>" in page


def test_the_page_shows_the_worst_pairs_side_by_side(versions, folder, tmp_path, capsys):
    compare(versions["old"], versions["vase"], folder, "--html", tmp_path / "drift.html", capsys=capsys)
    page = html.unescape((tmp_path / "drift.html").read_text("utf-8"))
    same, other = page.split("The same answer")[1].split("Another answer")
    captions = [re.findall(r"<figcaption>(.*?)</figcaption>", part) for part in (same, other)]
    assert sorted(caption.partition(":")[0] for caption in captions[0]) == [
        *(f"rose_{index}.png" for index in range(4)),
        *("tulip.png", "zero.png"),
    ]
    assert [caption.partition(":")[0] for caption in captions[1]] == ["vases/vase_0.png", "vases/vase_1.png"]
    # What changed nothing comes last: its maps are alike.
    assert {caption.partition(":")[0] for caption in captions[0][-2:]} == {"tulip.png", "zero.png"}
    assert same.count("data:image/png;base64") == 6 * 3
    assert re.search(r"'vase' 0\.9\d+ → 'rose', 'vase' only 0\.1\d+; IoU 1", captions[1][0])


def error_of(capsys, *arguments):
    """Return the one line that a refused comparison says."""
    code = main(["compare", *map(str, arguments)])
    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    (line,) = captured.err.splitlines()
    return line.removeprefix("error: ")


def test_versions_that_cannot_be_compared_are_refused(versions, folder, tmp_path, capsys):
    old = versions["old"]
    assert "there is no such directory" in error_of(capsys, old, tmp_path / "9", "--images", folder)
    assert "Name one of the versions in it" in error_of(capsys, old.parent, old, "--images", folder)
    unnamed = edited(old, tmp_path / "1", lambda facts: facts.update(labels=["class_0", "class_1", "class_2"]))
    line = error_of(capsys, old, unnamed, "--images", folder)
    assert "have no class in common ('rose' … 'vase' and 'class_0' … 'class_2'): build both with the --labels" in line


def test_classifiers_of_something_else_than_pictures_are_refused(versions, folder, tmp_path, capsys):
    old = versions["old"]
    waves = edited(old, tmp_path / "waves", lambda facts: facts["input"].update(dtype="float32"))
    assert "takes float32 [12, 16, 3], which no image" in error_of(capsys, old, waves, "--images", folder)
    two = edited(old, tmp_path / "two", lambda facts: facts["more_inputs"].append({"name": "age"}))
    assert "takes age beside the image, which no image" in error_of(capsys, two, old, "--images", folder)
    row = edited(old, tmp_path / "row", lambda facts: facts["explanation"].update(grid=[7]))
    assert "explains on a grid [7]; only heatmaps [h, w]" in error_of(capsys, old, row, "--images", folder)


def test_images_that_cannot_be_read_are_named(versions, tmp_path, capsys):
    old = versions["old"]
    assert "is no folder of images" in error_of(capsys, old, old, "--images", tmp_path / "none")
    (tmp_path / "notes.txt").write_text("none")
    assert "no image among its files" in error_of(capsys, old, old, "--images", tmp_path)
    (tmp_path / "broken.png").write_text("none")
    line = error_of(capsys, old, old, "--images", tmp_path)
    assert line == f"{tmp_path}/broken.png: is not an image that Pillow can read."


def test_reports_that_cannot_be_written_are_refused_before_the_work(versions, folder, tmp_path, capsys):
    old = versions["old"]
    for place in (tmp_path, tmp_path / "none/report.json"):
        line = error_of(capsys, old, old, "--images", folder, "--report", place)
        assert line == f"{place}: cannot be written: it must be a file in a folder that exists."
    code, out, err = compare(old, old, folder, "--markdown", "/dev/full", capsys=capsys)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert "cannot be written: No space left on device" in err


@pytest.fixture
def sick(versions, tmp_path):
    return write_sick(versions["old"], tmp_path / "sick")


def test_a_version_that_answers_no_number_is_named(sick, versions, folder, capsys):
    line = error_of(capsys, sick, versions["old"], "--images", folder)
    assert line == f"{sick}: explain answers a heatmap that is not finite; verify the version."


def test_a_version_that_does_not_answer_is_named(sick, versions, folder, capsys):
    manifest = sick / "assets.extra/manifest.json"
    facts = json.loads(manifest.read_text())
    facts["input"]["shape"][0] += 1
    manifest.write_text(json.dumps(facts))
    line = error_of(capsys, versions["old"], sick, "--images", folder)
    assert line.startswith(f"{sick}: explain does not answer: ")
    assert len(line) < 400


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.index"])
def test_a_version_that_does_not_load_is_named(file, sick, versions, folder, capsys):
    (sick / file).write_bytes((sick / file).read_bytes()[:40])
    line = error_of(capsys, versions["old"], sick, "--images", folder)
    assert line.startswith(f"{sick}: does not load: ")
    assert len(line) < 400
