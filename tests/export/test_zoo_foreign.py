"""Classifiers that other Keras made, exported and held against float64."""

import pytest
from zoo.case import check, parameters
from zoo.foreign import CASES


@pytest.mark.parametrize("case", parameters(CASES))
def test_predictions_and_heatmaps_are_those_of_float64(case, tmp_path):
    check(case, tmp_path)
