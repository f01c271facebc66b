"""The gate by mutation: every wrong version is refused by the name of its fault, and every right one passes."""

import re
import shutil

import pytest
from disk_faults import EDITS
from exporter_faults import ROAD
from gradcam_export.checks.precision import MOST_INPUTS, expected_explanations
from gradcam_export.checks.samples import verification_inputs
from gradcam_export.checks.verify import Scope, verify
from gradcam_export.checks.version import read_manifest
from gradcam_export.expectation.alternatives import alternative_values
from gradcam_export.expectation.live_model import LiveModel
from mutations import SIZE, network, published, undecided

ALL = Scope(thorough=True)


def parameters(faults) -> list:
    return [pytest.param(one, id=one.name, marks=[pytest.mark.large] if one.large else []) for one in faults]


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def good(model, tmp_path_factory):
    """A version that nothing is wrong with."""
    return published(model, tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def merged(model, tmp_path_factory):
    """The same, whose requests are merged."""
    options = {"batching": "in-graph", "allowed_batch_sizes": [1, 2], "max_batch_size": 2}
    return published(model, tmp_path_factory.mktemp("merged"), **options)


@pytest.fixture(scope="module")
def expected(model, good):
    """What the live model answers, rightly and wrongly."""
    manifest = read_manifest(good)
    live = LiveModel(model, manifest)
    values = live.values(verification_inputs([manifest["input"]], None))
    return {**values, **alternative_values(live, values)}


def said(version, expected) -> str:
    return "; ".join(check.message for check in verify(version, expected, ALL).failures)


def test_the_good_version_passes(merged, expected):
    report = verify(merged, expected, ALL)
    assert [check.message for check in report.failures] == []
    names = {check.name for check in report.checks}
    assert names >= {
        *(
            "files",
            "signatures",
            "labels",
            "manifest",
            "batching queues",
            "stock_server",
            "predictions",
            "model digest",
        ),
        *("heatmap of gradcam", "heatmap_peak of gradcam", "row_independence", "determinism", "batch_sizes", "finite"),
        *("zero_maps", "describe", "warmup", "batching_isolation", "bytes on disk", "bytes of memory"),
    }
    (zero,) = [check.message for check in report.checks if check.name == "zero_maps"]
    assert int(zero.split()[0]) > 0


def test_the_good_version_passes_without_its_model(good, expected):
    inputs = {name: value for name, value in expected.items() if name.startswith("inputs/")}
    report = verify(good, inputs, ALL)
    assert [check.message for check in report.failures] == []
    assert "predictions" not in {check.name for check in report.checks}


@pytest.mark.parametrize("fault", parameters(ROAD))
def test_a_fault_of_the_exporter_is_refused_by_its_name(fault, model, expected, tmp_path):
    with fault.road(model):
        version = published(model, tmp_path)
    assert re.search(fault.message, said(version, expected))


@pytest.mark.parametrize("fault", parameters(EDITS))
def test_a_fault_on_the_disk_is_refused_by_its_name(fault, good, merged, expected, tmp_path):
    version = shutil.copytree(merged if fault.merged else good, tmp_path / "1")
    fault.edit(version)
    assert re.search(fault.message, said(version, expected))


def test_bfloat16_that_loses_the_top_class_is_refused(tmp_path):
    facts = {"name": "images", "shape": [SIZE, SIZE, 3], "dtype": "uint8"}
    many = verification_inputs([facts], None, MOST_INPUTS)
    model = undecided(many["images"])
    version = published(model, tmp_path, precision="bfloat16", images=tmp_path)
    live = LiveModel(model, read_manifest(version))
    values = live.values(verification_inputs([facts], None))
    values |= expected_explanations(many, live.rows(many), ["gradcam"])
    assert re.search(r"in bfloat16 \d+ of 300 inputs are predicted to be of another class", said(version, values))
