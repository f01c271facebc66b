"""Every CAM method by values worked out by hand."""

import ast
import inspect

import cam_oracles
import numpy as np
import pytest
import tensorflow as tf
from cam_evidence import Answering, given
from gradcam_export.methods import METHODS
from gradcam_export.methods.faster_scorecam import FasterScoreCam
from gradcam_export.methods.finercam import FinerCam

BY_GRADIENT = tuple(cam_oracles.BY_GRADIENT)
ASKING = ("scorecam", "faster-scorecam", "ablationcam")

# A grid of 2 x 2 positions with 2 channels; each channel's activations sum to 4.
FEATURES = np.array([[1.0, 1.0], [2.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
# Sums 4 and -8, means 1 and -2.
GRADIENTS = np.array([[2.0, -8.0], [4.0, 0.0], [2.0, 4.0], [-4.0, -4.0]])


def test_the_methods_are_these():
    assert sorted(METHODS) == sorted([*BY_GRADIENT, *ASKING, "eigencam"])
    assert {name for name, method in METHODS.items() if method.alters} == set(ASKING)
    assert {name for name, method in METHODS.items() if method.needs_pooled_head} == {"cam"}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_short_final_class_in_a_file_of_its_own(name):
    kind = type(METHODS[name])
    assert kind.__final__
    assert len(inspect.getsource(kind).splitlines()) <= 40
    tree = ast.parse(inspect.getsource(inspect.getmodule(kind)))
    assert [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] == [kind.__name__]


@pytest.mark.parametrize(
    ("name", "by_hand"),
    {
        "cam": [-4, 0, -16, 4],  # 4 A1 - 8 A2
        "gradcam": [-1, 0, -4, 1],  # A1 - 2 A2
        "finercam": [-1, 0, -4, 1],
        "counterfactual": [1, 0, 4, -1],
        # w1 = 2/(2+2*4) + 4/(2+4*4) + 2/(2+2*4) = 28/45, w2 = 4/(2+4*4) = 10/45
        "gradcam++": [38 / 45, 66 / 45, 20 / 45, 28 / 45],
        "layercam": [2, 8, 8, 0],  # 2*1, 4*2 + 0*1, 2*0 + 4*2, nothing positive
        "hirescam": [-6, 8, 8, -4],  # 2*1 - 8*1, 4*2 + 0*1, 2*0 + 4*2, -4*1 - 4*0
        "xgradcam": [1.5, 3, 0, 1.5],  # w1 = (2 + 8 + 0 - 4)/4, w2 = (-8 + 0 + 8 + 0)/4
        "guided-gradcam-weights": [2.5, 4, 2, 1.5],  # w1 = (2 + 4)/4: A1 is 0 at the third position; w2 = 4/4
        # A^T A = [[6, 3], [3, 6]]: v1 = (1, 1)/sqrt 2
        "eigencam": np.array([2, 3, 2, 1]) / np.sqrt(2),
    }.items(),
)
def test_two_by_two_positions_of_two_channels_by_hand(name, by_hand):
    found = METHODS[name].combine(given(FEATURES[np.newaxis], GRADIENTS[np.newaxis])).numpy()
    np.testing.assert_allclose(found, [by_hand], rtol=1e-14, atol=1e-14)


def test_score_cam_by_hand():
    evidence = given(FEATURES[np.newaxis], masked=np.log([[1.0, 3.0]]))  # softmax: 1/4 and 3/4
    np.testing.assert_allclose(METHODS["scorecam"].combine(evidence), [[1, 1.25, 1.5, 0.25]], rtol=1e-14)
    assert [asked.tolist() for asked in evidence.asked] == [[[0, 1]]]


def test_faster_score_cam_by_hand_keeps_each_images_own_most_varied_channels():
    # Standard deviations 0, 2, 1 and 1, 0, 3 (times a constant): flat channels are left out.
    first = np.array([[5.0, 4.0, 2.0], [5.0, 0.0, 0.0]])
    second = np.array([[2.0, 9.0, 0.0], [0.0, 9.0, 6.0]])
    evidence = given(np.stack([first, second]), masked=np.log([[7.0, 1.0, 3.0], [1.0, 7.0, 1.0]]))
    found = FasterScoreCam(channels=2).combine(evidence)
    assert [asked.tolist() for asked in evidence.asked] == [[[1, 2], [2, 0]]]
    # 4 * 1/4 + 2 * 3/4 and 0; (0 + 2)/2 and (6 + 0)/2
    np.testing.assert_allclose(found, [[2.5, 0], [1, 3]], rtol=1e-14)


@pytest.mark.parametrize(("channels", "asked"), [(3, 3), (10, 10), (25, 10)])
def test_faster_score_cam_asks_for_ten_channels_or_all(channels, asked):
    random = np.random.default_rng(0)
    features = random.normal(size=(2, 6, channels))
    evidence = given(features, masked=random.normal(size=(2, channels)))
    METHODS["faster-scorecam"].combine(evidence)
    for row in range(2):
        assert evidence.asked[0][row].tolist() == cam_oracles.varied_channels(features[row]).tolist()
    assert evidence.asked[0].shape == (2, asked)


@pytest.mark.parametrize(
    ("score", "ablated", "by_hand"),
    [
        (2, [1, 4], [-0.5, 0, -2, 0.5]),  # w = 1/2, -1
        (-2, [-3, -4], [-1.5, -2, -2, -0.5]),  # w = -1/2, -1: both raise a negative score
        (0, [1, 4], [0, 0, 0, 0]),
    ],
)
def test_ablation_cam_by_hand(score, ablated, by_hand):
    evidence = given(FEATURES[np.newaxis], score=[score], ablated=np.array([ablated]))
    np.testing.assert_allclose(METHODS["ablationcam"].combine(evidence), [by_hand], rtol=1e-14)


@pytest.mark.parametrize(
    ("scores", "chosen", "by_hand"),
    [
        ([1, 4, 3.5, 0, 9], [0, 1, 0, 0, 0], [-0.2, 1, -0.2, -0.2, 0]),  # distances 3, 0.5, 4 and 5
        ([1, 4, 3.5, 0, 9], [0, 0, 0, 0, 1], [-0.2, -0.2, -0.2, 0, 1]),
        ([1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [-0.2, -0.2, 1, -0.2, 0]),  # ties: the lower index
        ([5, 1, 2], [1, 0, 0], [1, -0.3, -0.3]),
        ([5, 1], [0, 1], [-0.6, 1]),
        ([5], [1], [1]),
        ([5], [-1], [-1]),  # the other class of a single unit
        ([1, -np.inf, 2, 3, 4], [0, 0, 0, 0, 1], [-0.2, 0, -0.2, -0.2, 1]),  # a class that is masked out
    ],
)
def test_finer_cam_compares_with_the_nearest_scores_by_hand(scores, chosen, by_hand):
    found = METHODS["finercam"].direction(tf.constant([scores], tf.float64), tf.constant([chosen], tf.float64))
    np.testing.assert_allclose(found, [by_hand], rtol=1e-14)


def test_the_other_methods_explain_the_class_alone():
    chosen = tf.one_hot([2, 0], 3)
    for name in METHODS.keys() - {"finercam"}:
        np.testing.assert_array_equal(METHODS[name].direction(tf.constant([[1.0, 2, 3], [4, 5, 6]]), chosen), chosen)


def test_gradcam_pp_is_well_posed_where_the_papers_denominator_vanishes():
    # Activations sum to -1 and the gradient is 2: the paper's 2 g^2 + g^3 S is 0. Here S = 1, so w = 2/(2+2) twice.
    evidence = given(np.array([[[1.0], [-2.0]]]), np.array([[[2.0], [2.0]]]))
    np.testing.assert_allclose(METHODS["gradcam++"].combine(evidence), [[1, -2]], rtol=1e-14)


def test_eigen_cam_of_more_channels_than_positions_and_of_fewer_is_one_formula():
    random = np.random.default_rng(3)
    for shape in ((1, 9, 4), (1, 4, 9), (2, 6, 6)):
        features = random.normal(size=shape) + 0.5
        wanted = [cam_oracles.eigencam(image) for image in features]
        np.testing.assert_allclose(METHODS["eigencam"].combine(given(features)), wanted, rtol=0, atol=1e-12)
        single = METHODS["eigencam"].combine(given(features, dtype=tf.float32))
        np.testing.assert_allclose(single, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("positions", "channels"), [(49, 2048), (3136, 64), (7, 7)])
def test_eigen_cam_decomposes_the_smaller_matrix(positions, channels):
    @tf.function(input_signature=[tf.TensorSpec([None, positions, channels])])
    def combine(features):
        return METHODS["eigencam"].combine(Answering(features))

    operations = combine.get_concrete_function().graph.get_operations()
    (decomposed,) = [operation.inputs[0] for operation in operations if "Eig" in operation.type]
    assert decomposed.shape[1:] == [min(positions, channels)] * 2


def test_finer_cam_directs_in_a_graph_of_unknown_size():
    direction = tf.function(FinerCam().direction, input_signature=[tf.TensorSpec([None, None])] * 2)
    random = np.random.default_rng(1)
    for classes in (1, 2, 3, 7, 1000):
        scores, chosen = random.normal(size=(4, classes)), random.integers(0, classes, 4)
        wanted = [cam_oracles.finercam_direction(*row) for row in zip(scores, chosen, strict=True)]
        found = direction(tf.constant(scores, tf.float32), tf.one_hot(chosen, classes))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert direction(tf.zeros([0, 5]), tf.zeros([0, 5])).shape == (0, 5)
