"""Identities that hold between CAM methods, or of one, whatever the network: no formula is consulted."""

import numpy as np
import pytest
import tensorflow as tf
from cam_evidence import Network, given, tf_curved_head, tf_linear_head
from gradcam_export.graph.heatmaps import normalise
from gradcam_export.methods import METHODS
from hypothesis import given as drawn
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)
BY_GRADIENT = sorted(name for name, method in METHODS.items() if not method.alters and name != "eigencam")


def network(seed: int, head=tf_linear_head, images: int = 2) -> Network:
    """Return a network with images that no channel's activation vanishes on."""
    random = np.random.default_rng(seed)
    pictures = random.uniform(0, 1, (images, 6, 8, 3))
    return Network(pictures, random.integers(0, 5, images), head=head)


def numbers(seed: int, shape=(3, 6, 4)) -> dict:
    """Return a feature map with negative values, gradients, and the answers to every question."""
    random = np.random.default_rng(seed)
    rows = (shape[0], shape[2])
    return {
        "features": random.normal(0.3, 1, shape),
        "gradients": random.normal(size=shape),
        "score": random.normal(size=shape[0]),
        "masked": random.normal(size=rows),
        "ablated": random.normal(size=rows),
    }


def signed(name: str, evidence) -> np.ndarray:
    return METHODS[name].combine(evidence).numpy()


def heatmap(name: str, evidence) -> np.ndarray:
    return normalise(METHODS[name].combine(evidence))[0].numpy()


@drawn(SEEDS)
def test_identity_1_a_pooled_linear_head_makes_four_methods_one(seed):
    evidence = network(seed)
    gradcam = signed("gradcam", evidence)
    positions = gradcam.shape[1]
    np.testing.assert_allclose(signed("hirescam", evidence), gradcam, rtol=0, atol=1e-14)
    np.testing.assert_allclose(signed("xgradcam", evidence), gradcam, rtol=0, atol=1e-14)
    np.testing.assert_allclose(signed("cam", evidence) / positions, gradcam, rtol=0, atol=1e-14)
    # And CAM's weights are those of the dense layer.
    weights = evidence.kernel[:, evidence.classes].T
    by_weights = np.einsum("bpk,bk->bp", evidence.features.numpy(), weights)
    np.testing.assert_allclose(signed("cam", evidence), by_weights, rtol=0, atol=1e-13)


@drawn(SEEDS)
def test_identity_2_hirescam_sums_to_the_score_without_its_bias(seed):
    evidence = network(seed)
    without_bias = evidence.score.numpy() - evidence.bias[evidence.classes]
    np.testing.assert_allclose(signed("hirescam", evidence).sum(axis=1), without_bias, rtol=0, atol=1e-13)


@drawn(SEEDS)
def test_identity_2_xgradcam_sums_to_what_hirescam_sums_to_under_any_head(seed):
    evidence = network(seed, tf_curved_head)
    found, wanted = signed("xgradcam", evidence), signed("hirescam", evidence)
    assert np.abs(found - wanted).max() > 1e-3
    np.testing.assert_allclose(found.sum(axis=1), wanted.sum(axis=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
@drawn(SEEDS)
def test_identity_3_rows_do_not_know_each_other(name, seed):
    every = numbers(seed)
    together = signed(name, given(**every))
    order = [2, 0, 1]
    permuted = signed(name, given(**{key: value[order] for key, value in every.items()}))
    np.testing.assert_allclose(permuted, together[order], rtol=1e-12, atol=1e-12)
    others = {key: np.concatenate([value[:1], 100 * value[1:]]) for key, value in every.items()}
    np.testing.assert_allclose(signed(name, given(**others))[0], together[0], rtol=1e-12, atol=1e-12)
    alone = signed(name, given(**{key: value[:1] for key, value in every.items()}))
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted({*METHODS} - {"gradcam++", "scorecam", "faster-scorecam"}))
@drawn(SEEDS, st.floats(0.01, 100))
def test_identity_4_scaling_the_score_keeps_the_heatmap(name, seed, factor):
    every = numbers(seed)
    scaled = {key: value if key in ("features", "masked") else factor * value for key, value in every.items()}
    np.testing.assert_allclose(heatmap(name, given(**scaled)), heatmap(name, given(**every)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["gradcam++", "scorecam", "faster-scorecam"])
def test_identity_4_scaling_the_score_changes_the_heatmap_of_these(name):
    every = numbers(0)
    scaled = {key: value if key == "features" else 10 * value for key, value in every.items()}
    assert np.abs(heatmap(name, given(**scaled)) - heatmap(name, given(**every))).max() > 0.01


@pytest.mark.parametrize("name", METHODS)
def test_identity_4_and_5_a_constant_on_the_score_changes_ablation_cam_alone(name):
    before, saturated = network(1, tf_curved_head), network(1, tf_curved_head)
    head = saturated.head
    saturated.head = lambda features: head(features) + 50
    difference = np.abs(heatmap(name, saturated) - heatmap(name, before)).max()
    if name == "ablationcam":
        assert difference > 1e-3
    else:
        assert difference <= 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_identity_6_a_class_per_image_is_each_image_explained_for_its_class(name):
    together = network(2, tf_curved_head, images=3)
    for row in range(3):
        alone = Network(together.images[[row]], together.classes[[row]], head=tf_curved_head)
        alone.filters, alone.kernel, alone.bias, alone.head = (
            together.filters,
            together.kernel,
            together.bias,
            together.head,
        )
        np.testing.assert_allclose(heatmap(name, alone)[0], heatmap(name, together)[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted({*BY_GRADIENT} - {"counterfactual"}))
@pytest.mark.parametrize("size", [1.0, 65504.0, 6e-8])
def test_identity_7_nothing_that_raises_the_score_gives_zeros(name, size):
    random = np.random.default_rng(5)
    features, gradients = size * random.uniform(0.1, 1, (2, 6, 4)), -size * random.uniform(0.1, 1, (2, 6, 4))
    map_of_floats = METHODS[name].combine(given(features, gradients, tf.float32))
    for values in (map_of_floats, tf.cast(tf.clip_by_value(map_of_floats, -65504, 0), tf.float16)):
        heatmaps, peak = normalise(values)
        np.testing.assert_array_equal(heatmaps, np.zeros((2, 6)))
        np.testing.assert_array_equal(peak, [0, 0])
    if name not in ("gradcam++", "layercam", "guided-gradcam-weights"):
        assert (map_of_floats.numpy() < 0).all()


@drawn(SEEDS)
def test_the_counterfactual_is_gradcam_negated(seed):
    evidence = given(**numbers(seed))
    np.testing.assert_array_equal(signed("counterfactual", evidence), -signed("gradcam", evidence))


@drawn(SEEDS)
def test_finer_cam_of_a_score_without_rivals_is_gradcam(seed):
    scores = tf.constant(np.random.default_rng(seed).normal(size=(2, 1)))
    for sign in (1.0, -1.0):
        chosen = tf.fill([2, 1], tf.constant(sign, tf.float64))
        np.testing.assert_array_equal(METHODS["finercam"].direction(scores, chosen), chosen)


@drawn(SEEDS)
def test_finer_cam_is_linear_in_the_gradients_it_compares(seed):
    evidence = network(seed, tf_curved_head)
    scores, chosen = evidence.head(evidence.features), tf.one_hot(evidence.classes, 5, dtype=tf.float64)
    direction = METHODS["finercam"].direction(scores, chosen)
    features = evidence.features.numpy()
    finer = signed("finercam", given(features, evidence.gradients_of(direction).numpy()))
    by_class = [
        signed("gradcam", given(features, evidence.gradients_of(tf.one_hot([index] * 2, 5, dtype=tf.float64)).numpy()))
        for index in range(5)
    ]
    np.testing.assert_allclose(finer, np.einsum("nbp,bn->bp", by_class, direction), rtol=0, atol=1e-12)


@drawn(SEEDS)
def test_ablation_cam_under_a_pooled_linear_head_knows_each_channels_share(seed):
    evidence = network(seed)
    pooled, weights = evidence.features.numpy().mean(axis=1), evidence.kernel[:, evidence.classes].T
    shares = weights * pooled / evidence.score.numpy()[:, None]
    wanted = np.einsum("bpk,bk->bp", evidence.features.numpy(), shares)
    tolerance = 1e-12 * max(1, np.abs(shares).max())
    np.testing.assert_allclose(signed("ablationcam", evidence), wanted, rtol=0, atol=tolerance)


@drawn(SEEDS, st.integers(0, 11), st.integers(0, 3))
def test_identity_9_gradients_are_finite_differences(seed, position, channel):
    evidence = network(seed, tf_curved_head)
    step = np.zeros(evidence.features.shape)
    step[:, position, channel] = 1e-4
    difference = (evidence.of(evidence.features + step) - evidence.of(evidence.features - step)) / 2e-4
    np.testing.assert_allclose(difference, evidence.gradients[:, position, channel], rtol=0, atol=1e-8)
