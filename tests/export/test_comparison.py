"""How a value is held against another, and the facts beside the graph against what the graph answers."""

import json

import numpy as np
import pytest
from classifiers import FAMILIES
from gradcam_export import VerificationError, export_classifier
from gradcam_export.checks.comparison import Report, compare
from gradcam_export.graph import explain
from gradcam_export.savedmodel import write
from lean import LEAN


def test_the_largest_difference_is_found_and_named():
    wanted = np.array([[0.5, 0.25], [1.0, 0.0]])
    check = compare("score", wanted + np.array([[0, 0], [0.125, -0.25]]), wanted, 0.2)
    assert (check.largest_difference, check.passed) == (0.25, False)
    assert check.message == "score[1,1] is -0.25 instead of 0.0 (difference 0.25, tolerance 0.2)"
    assert compare("score", wanted + 0.2, wanted, 0.25).passed


def test_slack_divides_the_differences_of_a_row():
    wanted = np.zeros((2, 1, 3))
    found = wanted + np.array([[[4.0]], [[3.0]]])
    check = compare("heatmap", found, wanted, 2.0, np.array([2.0, 1.0]))
    assert check.largest_difference == 3.0
    assert check.message.startswith("heatmap[1,0,0] is 3.0")
    assert compare("heatmap", found, wanted, 2.0, np.array([2.0, np.inf])).passed


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (np.array([np.nan]), np.array([0.0])),
        (np.array([np.nan]), np.array([np.nan])),
        (np.array([np.inf]), np.array([1.0])),
        (np.array([b"ant"], object), np.array([b"bee"], object)),
    ],
)
def test_what_cannot_be_measured_differs_infinitely(found, wanted):
    check = compare("value", found, wanted, 1e9)
    assert not check.passed
    assert check.largest_difference == np.inf


def test_another_shape_is_a_failure_though_it_broadcasts():
    check = compare("score", np.zeros((2, 1)), np.zeros(2), 1.0)
    assert not check.passed
    assert check.message == "score has shape (2, 1) instead of (2,)"


def test_nothing_to_compare_passes():
    assert compare("score", np.zeros((0, 3)), np.zeros((0, 3)), 0.0).passed


def test_a_report_knows_its_failures():
    good, bad = compare("a", np.zeros(1), np.zeros(1), 0.0), compare("b", np.ones(1), np.zeros(1), 0.5)
    report = Report(checks=(good, bad))
    assert report.failures == (bad,)
    assert report.to_manifest() == {
        "a": {"tolerance": 0.0, "largest_difference": 0.0},
        "b": {"tolerance": 0.5, "largest_difference": 1.0},
    }


def _other_manifest(directory):
    path = directory / write.EXTRA_ASSETS / write.MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"overlay": {"colormap": "hot", "alpha": 1.0}}))


def _other_labels(directory):
    path = directory / "assets" / write.LABELS_FILE
    path.write_text(path.read_text() + "another\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_other_manifest, "describe answers another manifest than assets.extra holds"),
        (_other_labels, "describe answers other labels than assets/labels.txt holds"),
    ],
)
def test_facts_that_disagree_and_maps_out_of_range_are_refused(tmp_path, monkeypatch, spoil, message):
    def spoilt_facts(manifest, directory):
        write.write_facts(manifest, directory)
        spoil(directory)

    right = explain.normalise
    monkeypatch.setattr("gradcam_export.export.write_facts", spoilt_facts)
    monkeypatch.setattr(explain, "normalise", lambda signed: (2 * right(signed)[0], right(signed)[1]))
    with pytest.raises(VerificationError, match=rf"heatmap spans 0\.0\.\.2\.0 instead of 0\.\.1.*{message}"):
        export_classifier(FAMILIES["functional"].model(), tmp_path / "m", **LEAN)
    assert list((tmp_path / "m").iterdir()) == []
