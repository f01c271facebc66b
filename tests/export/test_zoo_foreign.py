"""Classifiers that other Keras made, exported and held against float64."""

import pytest
from zoo.case import check, parameters
from zoo.foreign import CASES

ALWAYS = {"tf_keras from .keras", "trained with torch"}
"""One of each kind; make test-all runs the others."""


@pytest.mark.parametrize("case", parameters(CASES, ALWAYS))
def test_predictions_and_heatmaps_are_those_of_float64(case, tmp_path):
    check(case, tmp_path)
