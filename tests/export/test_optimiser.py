"""A graph that the runtime's optimiser gives up on is told by the gate."""

from unittest import mock

import numpy as np
import pytest
from gradcam_export.checks.optimiser import check_optimiser
from gradcam_export.checks.verify import Scope, report_of_fresh_process
from gradcam_export.graph import fold
from mutations import published
from residual import preactivated

LOG = """E0000 00:00:1795981867.422897    9500 meta_optimizer.cc:967] remapper failed: INVALID_ARGUMENT: fanout 'relu'
of missing node 'add'."""


def test_what_the_log_says_of_a_failed_optimiser_is_told():
    check = check_optimiser(f"2026-11-29 19:51:05.02: E cuda_platform.cc:51] failed call to cuInit\n{LOG}\nmore")
    assert not check.passed
    assert "'remapper' gives up on this graph" in check.message
    assert "(INVALID_ARGUMENT: fanout 'relu')" in check.message


@pytest.mark.parametrize(
    "log", ["", "E0000 cuda_platform.cc:51] failed call to cuInit: INTERNAL", "ValueError: failed: no"]
)
def test_other_lines_are_no_failure_of_it(log):
    assert check_optimiser(log).passed


@pytest.mark.parametrize("parted", [True, False])
def test_the_gate_runs_the_version_to_see(parted, tmp_path):
    with mock.patch.object(fold, "part_activations", fold.part_activations if parted else lambda _: 0):
        version = published(preactivated(), tmp_path, preprocessing="none")
    expected = tmp_path / "expected.npz"
    np.savez(expected, **{"inputs/images": np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), np.uint8)})
    report = report_of_fresh_process(version, expected, Scope(thorough=True))
    (check,) = [one for one in report.checks if one.name == "optimiser"]
    assert check.passed == parted
    assert {one.name for one in report.failures} == (set() if parted else {"optimiser"})
