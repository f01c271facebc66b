"""The model still says what it said, and looks at something else: accuracy does not tell, the gate does."""

import json

import numpy as np
import pytest
from gradcam_export.cli import main
from PIL import Image
from shortcut import MARK, SIZE, shortcut_versions

__all__ = ["shortcut_versions"]


@pytest.fixture(scope="module")
def drift(shortcut_versions, tmp_path_factory):
    """What `compare` reports of the honest and the fooled version, and its exit code for a gate on explanations."""
    path = tmp_path_factory.mktemp("drift") / "report.json"
    versions = [str(shortcut_versions.honest), str(shortcut_versions.fooled)]
    limits = ["--max-flips", "0.1", "--min-iou", "0.5", "--max-shift", "0.1", "--min-correlation", "0.5"]
    code = main(["compare", *versions, "--images", str(shortcut_versions.images), *limits, "--report", str(path)])
    return code, json.loads(path.read_text())


def accuracy(images, truths, which):
    said = {image["file"]: image[which] for image in images}
    return float(np.mean([said[truth.file] == truth.label for truth in truths]))


def test_accuracy_does_not_show_it(drift, shortcut_versions):
    _, report = drift
    honest, fooled = (
        accuracy(report["images"], shortcut_versions.truths, which) for which in ("old_label", "new_label")
    )
    assert honest > 0.9
    # If anything, it speaks for the wrong one.
    assert fooled >= honest
    assert report["overall"]["flip_share"] <= 0.1


def test_compare_shows_it(drift):
    code, report = drift
    assert code == 1
    assert {breach["limit"] for breach in report["breaches"]} == {"min_iou", "max_shift", "min_correlation"}
    assert report["overall"]["iou"]["mean"] < 0.2
    assert report["overall"]["correlation"]["mean"] < 0.1
    assert report["overall"]["shift"]["mean"] > 0.25
    # It is so of every class, not of some.
    assert all(group["iou"]["mean"] < 0.4 for group in report["classes"])


def test_the_gate_lets_the_honest_version_follow_itself(shortcut_versions, capsys):
    versions = [str(shortcut_versions.honest)] * 2
    limits = ["--max-flips", "0.1", "--min-iou", "0.5", "--max-shift", "0.1", "--min-correlation", "0.5"]
    assert main(["compare", *versions, "--images", str(shortcut_versions.images), *limits]) == 0
    assert "passed: all 4 limits hold" in capsys.readouterr().out


def test_the_mark_is_in_every_picture(shortcut_versions):
    """The two versions differ by how they were trained, not by what they are judged on."""
    for truth in shortcut_versions.truths:
        pixels = np.asarray(Image.open(shortcut_versions.images / truth.file))
        assert pixels.shape == (SIZE, SIZE, 3)
        mark = pixels[MARK.y : MARK.y + MARK.height, MARK.x : MARK.x + MARK.width].reshape(-1, 3)
        assert len(np.unique(mark, axis=0)) == 1
        assert np.ptp(mark[0]) == 255


@pytest.fixture(scope="module")
def found(shortcut_versions, tmp_path_factory):
    """The reports of the honest and of the fooled classifier."""
    out = tmp_path_factory.mktemp("evaluated")
    boxes = out / "boxes.json"
    truths = shortcut_versions.truths
    labels = sorted({truth.label for truth in truths})
    content = {
        "images": [{"id": index, "file_name": truth.file} for index, truth in enumerate(truths)],
        "categories": [{"id": labels.index(label), "name": label} for label in labels],
        "annotations": [
            {
                "image_id": index,
                "category_id": labels.index(truth.label),
                "bbox": [truth.box.x, truth.box.y, truth.box.width, truth.box.height],
            }
            for index, truth in enumerate(truths)
        ],
    }
    boxes.write_text(json.dumps(content))
    reports = {}
    for name in ("honest", "fooled"):
        given = [
            str(getattr(shortcut_versions, name)),
            "--images",
            str(shortcut_versions.images),
            "--steps",
            "5",
            "--limit",
            "30",
        ]
        report = out / f"{name}.json"
        assert main(["evaluate", *given, "--boxes", str(boxes), "--report", str(report)]) == 0
        reports[name] = json.loads(report.read_text())
    return reports


def test_accuracy_by_the_boxes_does_not_show_it_either(found):
    assert found["honest"]["accuracy"] >= 0.9
    assert found["fooled"]["accuracy"] >= found["honest"]["accuracy"] - 0.02


def test_the_maps_of_the_fooled_one_miss_the_digit(found):
    honest, fooled = (found[name]["methods"]["gradcam"]["summary"] for name in ("honest", "fooled"))
    assert honest["pointing_game"] >= 0.9
    assert fooled["pointing_game"] <= honest["pointing_game"] - 0.5
    assert fooled["energy"] <= honest["energy"] - 0.3


def test_the_fooled_one_is_no_better_than_noise_on_the_digit(found):
    summaries = {method: one["summary"] for method, one in found["fooled"]["methods"].items()}
    assert summaries["gradcam"]["energy"] <= summaries["(random map)"]["energy"] + 0.1
