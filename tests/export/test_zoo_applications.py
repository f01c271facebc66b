"""Every network of `keras.applications`, exported and held against float64."""

import pytest
from zoo.applications import CASES, factories
from zoo.case import check, parameters


def test_every_factory_is_in_the_zoo():
    assert sorted(case.name for case in CASES) == sorted(factories())


@pytest.mark.parametrize("case", parameters(CASES))
def test_predictions_and_heatmaps_are_those_of_float64(case, tmp_path):
    check(case, tmp_path)
