"""A classifier that reads a mark in the corner is as often right as one that reads the digit; its maps tell."""

import json

import pytest
from gradcam_export.cli import main
from shortcut import shortcut_versions

__all__ = ["shortcut_versions"]


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


def test_accuracy_does_not_show_it(found):
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
