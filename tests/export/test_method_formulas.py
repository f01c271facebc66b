"""Every CAM method, and the exporter's own oracle, against the papers' formulas in float64."""

import cam_oracles
import numpy as np
import pytest
import tensorflow as tf
from cam_evidence import Answering, Network, given, tf_curved_head
from gradcam_export.checks import oracle
from gradcam_export.methods import METHODS
from hypothesis import assume
from hypothesis import given as drawn
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

BY_GRADIENT = tuple(cam_oracles.BY_GRADIENT)


@st.composite
def feature_maps(draw, *, signed=True):
    """Feature maps and gradients `[B,P,K]`: eighths times a power of two, so that every plain sum is exact."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5)))
    eighths = st.integers(-64 if signed else 0, 64)
    features = draw(arrays.arrays(np.int64, shape, elements=eighths)) / 8 * 2.0 ** draw(st.integers(-20, 20))
    gradients = (
        draw(arrays.arrays(np.int64, shape, elements=st.integers(-64, 64))) / 8 * 2.0 ** draw(st.integers(-20, 20))
    )
    return features, gradients


def largest_terms(features: np.ndarray, gradients: np.ndarray) -> float:
    """Bound what a method adds up; XGrad-CAM divides by a sum that may be 64 times smaller than its terms."""
    return 64 * features.shape[1] * features.shape[2] * np.abs(features).max() * np.abs(gradients).max()


@pytest.mark.parametrize("name", BY_GRADIENT)
@drawn(data=st.data())
def test_methods_are_the_papers_formulas(name, data):
    features, gradients = data.draw(feature_maps(signed=name != "gradcam++"))
    wanted = np.stack([cam_oracles.BY_GRADIENT[name](*image) for image in zip(features, gradients, strict=True)])
    double = METHODS[name].combine(given(features, gradients)).numpy()
    np.testing.assert_allclose(double, wanted, rtol=0, atol=1e-13 * largest_terms(features, gradients))
    single = METHODS[name].combine(given(features, gradients, tf.float32)).numpy()
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, wanted, rtol=0, atol=1e-6 * largest_terms(features, gradients))
    judged = oracle.heatmap(name, {"features": features, "gradients": gradients})
    np.testing.assert_allclose(judged, np.maximum(wanted, 0), rtol=0, atol=1e-13 * largest_terms(features, gradients))


@drawn(feature_maps())
def test_eigen_cam_is_the_papers_formula(drawn_maps):
    features, _ = drawn_maps
    found = METHODS["eigencam"].combine(given(features)).numpy()
    assert np.isfinite(found).all()
    for image, row, judged in zip(features, found, oracle.heatmap("eigencam", {"features": features}), strict=True):
        strongest, *others = np.linalg.svd(image, compute_uv=False)
        wanted = cam_oracles.eigencam(image)
        # Two equal singular values leave the vector open, and a map that sums to nothing its sign.
        assume(strongest == 0 or (max(others, default=0) < 0.999 * strongest and wanted.sum() > 1e-6 * strongest))
        np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-10 * strongest)
        np.testing.assert_allclose(judged, np.maximum(wanted, 0), rtol=0, atol=1e-10 * strongest)


@drawn(feature_maps(), st.integers(0, 2**32 - 1))
def test_asking_methods_are_the_papers_formulas(drawn_maps, seed):
    features, _ = drawn_maps
    random = np.random.default_rng(seed)
    answers, score = random.normal(0, 3, (features.shape[0], features.shape[2])), random.normal(size=len(features))
    evidence = given(features, masked=answers, ablated=answers, score=score)
    wanted = [cam_oracles.scorecam(image, masked) for image, masked in zip(features, answers, strict=True)]
    tolerance = 1e-13 * features.shape[2] * np.abs(features).max()
    np.testing.assert_allclose(METHODS["scorecam"].combine(evidence), wanted, rtol=0, atol=tolerance)
    np.testing.assert_allclose(METHODS["faster-scorecam"].combine(evidence), wanted, rtol=0, atol=tolerance)
    wanted = [cam_oracles.ablationcam(*row) for row in zip(features, score, answers, strict=True)]
    tolerance *= np.abs((score[:, None] - answers) / score[:, None]).max()
    np.testing.assert_allclose(METHODS["ablationcam"].combine(evidence), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_a_network_is_explained_as_its_own_answers_say(name):
    network = small_network()
    features, gradients = network.features.numpy(), network.gradients.numpy()
    every = np.tile(np.arange(features.shape[2]), (len(features), 1))
    evidence = {"features": features, "gradients": gradients, "score": network.score.numpy(), "channels": every}
    if METHODS[name].alters:
        asked = network.ablated_scores() if name == "ablationcam" else network.masked_scores(tf.constant(every))
        evidence["channel_scores"] = asked.numpy()
    found = np.maximum(METHODS[name].combine(network), 0)
    assert found.max() > 0
    np.testing.assert_allclose(found, oracle.heatmap(name, evidence), rtol=0, atol=1e-10)
    for row, image in enumerate(features):
        if name == "ablationcam":
            wanted = cam_oracles.ablationcam(image, network.score[row].numpy(), evidence["channel_scores"][row])
        elif METHODS[name].alters:
            wanted = cam_oracles.scorecam(image, evidence["channel_scores"][row], baseline=-3.5)
        elif name == "eigencam":
            wanted = cam_oracles.eigencam(image)
        else:
            wanted = cam_oracles.BY_GRADIENT[name](image, gradients[row])
        np.testing.assert_allclose(found[row], np.maximum(wanted, 0), rtol=0, atol=1e-10)


def small_network() -> Network:
    images = np.random.default_rng(4).uniform(0, 1, (3, 6, 8, 3))
    return Network(images, np.array([0, 3, 3]), head=tf_curved_head)


def test_the_exporters_oracle_takes_the_channels_that_were_asked_for():
    evidence = {
        "features": np.array([[[1.0, 2.0, 5.0]]], np.float32),
        "channels": np.array([[2, 0]], np.int32),
        "channel_scores": np.log([[3.0, 1.0]]),
    }
    judged = oracle.heatmap("faster-scorecam", evidence)
    assert judged.dtype == np.float64
    np.testing.assert_allclose(judged, [[4.0]], rtol=1e-14)  # 5 * 3/4 + 1/4


def test_the_exporters_oracle_knows_every_method_and_no_other():
    assert set(oracle._FORMULAS) == set(METHODS)
    with pytest.raises(KeyError, match="smoothgrad"):
        oracle.heatmap("smoothgrad", {})


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 1, 3), (2, 4, 1), (1, 1, 1), (2, 3, 12), (0, 4, 3), (0, 2, 3)])
def test_zero_and_extreme_values_give_finite_maps(name, shape):
    random = np.random.default_rng(0)
    extremes = np.array([0, 65504, -65504, 6e-8, -6e-8])
    cases = [(np.zeros(shape), np.zeros(shape)), (np.zeros(shape), np.full(shape, 65504))]
    cases += [(np.full(shape, value), np.full(shape, other)) for value in extremes for other in extremes]
    cases += [(random.choice(extremes, shape), random.choice(extremes, shape)) for _ in range(5)]
    for features, gradients in cases:
        answers = np.broadcast_to(gradients[:, 0], (shape[0], shape[2]))
        evidence = given(features, gradients, tf.float32, score=answers[:, 0], masked=answers, ablated=answers[:, ::-1])
        found = METHODS[name].combine(evidence).numpy()
        assert found.shape == shape[:2]
        assert np.isfinite(found).all()
        if not features.any():
            np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("name", METHODS)
def test_a_graph_that_leaves_the_batch_open_answers_the_same(name):
    network = small_network()
    shape = network.features.shape

    @tf.function(input_signature=[tf.TensorSpec([None, *shape[1:]], tf.float64)] * 2)
    def combine(features, gradients):
        answers = tf.reduce_sum(features, axis=1)
        return METHODS[name].combine(Answering(features, gradients, tf.reduce_sum(answers, axis=1), answers))

    features, gradients = network.features.numpy(), network.gradients.numpy()
    answers = features.sum(axis=1)
    wanted = METHODS[name].combine(
        given(features, gradients, score=answers.sum(axis=1), masked=answers, ablated=answers)
    )
    np.testing.assert_allclose(combine(features, gradients), wanted, rtol=1e-12)
    assert combine(features[:0], gradients[:0]).shape == (0, shape[1])
