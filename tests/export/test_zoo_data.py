"""Every kind of input, exported and held against float64."""

import pytest
from zoo.case import check, parameters
from zoo.data import CASES

ALWAYS = {"grey", "channels first", "wave", "words", "TimeDistributed, pooled"}
"""One of each kind; make test-all runs the others."""


@pytest.mark.parametrize("case", parameters(CASES, ALWAYS))
def test_predictions_and_heatmaps_are_those_of_float64(case, tmp_path):
    check(case, tmp_path)
