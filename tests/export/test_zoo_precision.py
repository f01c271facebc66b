"""Half and double precision, exported and held against float64."""

import pytest
from zoo.case import check, parameters
from zoo.precision import CASES

ALWAYS = {"mixed_float16, to the end", "mixed_bfloat16, nested", "float64, softmax"}
"""One of each kind; make test-all runs the others."""


@pytest.mark.parametrize("case", parameters(CASES, ALWAYS))
def test_predictions_and_heatmaps_are_those_of_float64(case, tmp_path):
    check(case, tmp_path)
