"""How far the scores of altered inputs may round is measured, not assumed."""

from types import SimpleNamespace

import numpy as np
from gradcam_export.checks.heatmaps import ExpectedHeatmaps
from gradcam_export.graph.live_rescoring import LiveRescorer

CHANNELS = 6


def rescored(gain: float) -> dict[str, np.ndarray]:
    """Ask a model whose score is `gain` times a sum that cancels but for 1."""
    random = np.random.default_rng(0)
    features = np.abs(random.normal(size=(1, 4, CHANNELS)))
    weights = random.normal(size=features.shape[1:])

    def scores(start, altered, inputs):
        assert start == "feature_map"
        return gain * (altered.reshape(-1, 4, CHANNELS) * weights).sum(axis=(1, 2))[:, None]

    rescorer = LiveRescorer(
        scores=scores, layout=SimpleNamespace(channels_first=False), main=SimpleNamespace(), rounding=1e-5
    )
    values = {
        "features": features,
        "feature_map": features.reshape(1, 2, 2, CHANNELS),
        "model_input": np.zeros((1, 2)),
        "direction": np.ones((1, 1)),
        "scores": gain * (features * weights).sum(axis=(1, 2))[:, None],
    }
    return rescorer.rescored("ablationcam", values, {}) | {"features": features}


def test_scores_of_altered_inputs_are_the_models():
    found = rescored(1.0)
    random = np.random.default_rng(0)
    features, weights = (
        found["features"][0],
        (random.normal(size=(1, 4, CHANNELS)), random.normal(size=(4, CHANNELS)))[1],
    )
    whole = (features * weights).sum()
    np.testing.assert_allclose(found["score"], [whole], rtol=1e-12)
    np.testing.assert_allclose(found["channel_scores"][0], whole - (features * weights).sum(axis=0), rtol=1e-12)


def test_what_the_network_magnifies_is_measured():
    one, thousand = rescored(1.0)["score_rounding"], rescored(1000.0)["score_rounding"]
    assert 1e-6 < one[0] < 1e-4
    np.testing.assert_allclose(thousand, 1000 * one, rtol=1e-9)


def slack(rounding: float) -> float:
    random = np.random.default_rng(1)
    values = {
        "features": np.abs(random.normal(size=(1, 9, CHANNELS))),
        "gradients": np.zeros((1, 9, CHANNELS)),
        "scorecam/channels": np.arange(CHANNELS)[None],
        "scorecam/channel_scores": random.normal(size=(1, CHANNELS)),
        "scorecam/score": np.ones(1),
        "scorecam/score_rounding": np.array([rounding]),
        "rounding": np.array(1e-5),
    }
    return float(ExpectedHeatmaps(values).slack("scorecam")[0])


def test_maps_of_scores_that_round_more_may_differ_more():
    assert 1 <= slack(0.0) < 3
    assert slack(1e-6) == slack(0.0)
    assert 10 * slack(0.0) < slack(1e-3) < 100
