"""Classifiers of tokens, and those of KerasHub, exported and held against float64."""

import pytest
from zoo import hub, tokens
from zoo.case import check, parameters

ALWAYS = {
    "ViT pooled",
    "shifted windows",
    "KerasHub ResNet",
}
"""One of each kind; make test-all runs the others."""


# KerasHub's Swin gives a mask to a layer that says it takes none, in its building and in every call.
@pytest.mark.filterwarnings(r"ignore:Layer '(attn|stage_\d)':UserWarning")
@pytest.mark.parametrize("case", parameters([*tokens.CASES, *hub.CASES], ALWAYS))
def test_predictions_and_heatmaps_are_those_of_float64(case, tmp_path):
    check(case, tmp_path)
