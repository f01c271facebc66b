"""Every way to end a classifier, exported and held against float64."""

import pytest
from zoo.case import check, parameters
from zoo.heads import CASES

ALWAYS = {"softmax in call", "multi-label sigmoid", "flatten, dense", "several outputs, second", "image and numbers"}
"""One of each kind; make test-all runs the others."""


@pytest.mark.parametrize("case", parameters(CASES, ALWAYS))
def test_predictions_and_heatmaps_are_those_of_float64(case, tmp_path):
    check(case, tmp_path)
