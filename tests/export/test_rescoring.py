"""Asking again in chunks: the same answers whatever the chunk, no more rows at once than one, no row twice."""

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.graph.layout import Layout
from gradcam_export.graph.rescoring import RescoredEvidence, Rescorer, interpolation, scaled, upsample
from gradcam_export.keras_model.inputs import ModelInput
from hypothesis import given
from hypothesis import strategies as st

SIZE, GRID, CLASSES = (6, 8), (3, 4), 5
MAIN = ModelInput(name="images", shape=(*SIZE, 3), dtype="uint8", model_dtype="float32")
FIRST = ModelInput(name="images", shape=(*SIZE, 3), dtype="uint8", model_dtype="float32", channels_first=True)


class Network:
    """Scores that mix everything they are given; remembers how many rows it was given at once."""

    def __init__(self, channels: int, images: int, *, channels_first: bool = False, classes: int = 2) -> None:
        random = np.random.default_rng(channels + 7 * images)
        self.layout = Layout(grid=GRID, channels=channels, channels_first=channels_first)
        self.main = FIRST if channels_first else MAIN
        self.features = random.normal(size=(images, *GRID, channels)).astype(np.float32)
        self.image = random.uniform(0, 1, (images, *SIZE, 3)).astype(np.float32)
        self.age = random.normal(size=(images, 2)).astype(np.float32)
        self.by_image = random.normal(size=(SIZE[0] * SIZE[1] * 3, CLASSES)).astype(np.float32)
        self.by_features = random.normal(size=(GRID[0] * GRID[1] * channels, CLASSES)).astype(np.float32)
        self.by_age = random.normal(size=(2, CLASSES)).astype(np.float32)
        self.chosen = random.integers(0, CLASSES, (images, classes))
        self.rows: list[int] = []

    def laid(self, channels_last):
        return np.moveaxis(channels_last, -1, 1) if self.layout.channels_first else channels_last

    def from_input(self, altered, rows):
        """Return the scores of images `[n,...]`, as the model takes them."""
        return self.scores(altered, rows, self.by_image)

    def from_features(self, altered, rows):
        return self.scores(altered, rows, self.by_features)

    def scores(self, altered, rows, kernel):
        self.rows.append(len(altered))
        last = tf.experimental.numpy.moveaxis(altered, 1, -1) if self.layout.channels_first else altered
        return tf.reshape(last, [-1, len(kernel)]) @ kernel + rows["age"] @ self.by_age

    def evidence(self, chunk: int) -> RescoredEvidence:
        rescorer = Rescorer(
            from_input=self.from_input,
            from_features=self.from_features,
            layout=self.layout,
            main=self.main,
            chunk=chunk,
        )
        feature_map = tf.constant(self.laid(self.features))
        return RescoredEvidence(
            rescorer=rescorer,
            inputs={"age": tf.constant(self.age)},
            model_input=tf.constant(self.laid(self.image)),
            feature_map=feature_map,
            scores=tf.reshape(self.features, [-1, len(self.by_features)]) @ self.by_features + self.age @ self.by_age,
            directions=tf.one_hot(self.chosen, CLASSES),
        )

    def ablated(self) -> np.ndarray:
        """Return what `ablated_scores` should be, one question at a time."""
        found = []
        for row, classes in enumerate(self.chosen):
            answers = []
            for channel in range(self.layout.channels):
                without = self.features[row].copy()
                without[..., channel] = 0
                answers.append(without.reshape(-1) @ self.by_features + self.age[row] @ self.by_age)
            found += [[answer[chosen] for answer in answers] for chosen in classes]
        return np.array(found)

    def masked(self, channels: np.ndarray) -> np.ndarray:
        """Return what `masked_scores` of `channels` `[B,n]` should be, one question at a time."""
        found = []
        for row, classes in enumerate(self.chosen):
            answers = []
            for channel in channels[row]:
                resized = tf.image.resize(self.features[row, :, :, channel : channel + 1], SIZE).numpy()
                mask = (resized - resized.min()) / np.ptp(resized)
                answers.append((self.image[row] * mask).reshape(-1) @ self.by_image + self.age[row] @ self.by_age)
            found += [[answer[chosen] for answer in answers] for chosen in classes]
        return np.array(found)


CASES = given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 25), st.booleans())


@CASES
def test_ablated_scores_in_chunks_are_those_of_one_question_at_a_time(channels, images, classes, chunk, first):
    network = Network(channels, images, channels_first=first, classes=classes)
    found = network.evidence(chunk).ablated_scores()
    np.testing.assert_allclose(found, network.ablated(), rtol=0, atol=2e-5)
    check_passes(network, chunk, images * channels)


@CASES
def test_masked_scores_in_chunks_are_those_of_one_question_at_a_time(channels, images, classes, chunk, first):
    network = Network(channels, images, channels_first=first, classes=classes)
    # Each image has its own order of channels, and not all of them.
    random = np.random.default_rng(chunk)
    asked = np.stack([random.permutation(channels)[: max(1, channels - 1)] for _ in range(images)]).astype(np.int32)
    found = network.evidence(chunk).masked_scores(tf.repeat(asked, classes, axis=0))
    np.testing.assert_allclose(found, network.masked(asked), rtol=0, atol=5e-5)
    check_passes(network, chunk, asked.size)


def check_passes(network: Network, chunk: int, questions: int) -> None:
    """Every question passes once, whatever the number of classes, and no more than a chunk of them at a time."""
    assert sum(network.rows) == questions
    assert max(network.rows) == min(chunk, questions)
    assert len(network.rows) == -(-questions // chunk)


def test_memory_does_not_grow_with_channels_or_images():
    """What passes at once, and so its activations, is a chunk at most."""
    most = {}
    for channels, images in ((4, 1), (4, 3), (40, 3)):
        network = Network(channels, images)
        network.evidence(8).ablated_scores()
        most[channels, images] = max(network.rows)
    assert most == {(4, 1): 4, (4, 3): 8, (40, 3): 8}


def test_no_images_are_answered_without_a_pass():
    network = Network(4, 0)
    evidence = network.evidence(8)
    assert evidence.ablated_scores().shape == (0, 4)
    assert evidence.masked_scores(tf.zeros([0, 3], tf.int32)).shape == (0, 3)
    assert evidence.features.shape == (0, 12, 4)
    assert evidence.score.shape == (0,)
    assert network.rows == []


def test_features_and_scores_are_repeated_for_each_class_of_an_image():
    network = Network(3, 2, classes=3)
    evidence = network.evidence(4)
    np.testing.assert_array_equal(evidence.features, np.repeat(network.features.reshape(2, 12, 3), 3, axis=0))
    scores = network.features.reshape(2, -1) @ network.by_features + network.age @ network.by_age
    wanted = np.take_along_axis(scores, network.chosen, axis=1).reshape(-1)
    np.testing.assert_allclose(evidence.score, wanted, rtol=0, atol=1e-5)


def test_interpolation_of_two_to_four_by_hand():
    # Centres of 4 pixels lie at -1/4, 1/4, 3/4 and 5/4 of the 2; the outer ones are held at the edge.
    np.testing.assert_array_equal(interpolation(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_array_equal(interpolation(2, 4) @ [1, 5], [1, 2, 4, 5])
    np.testing.assert_allclose(interpolation(3, 2) @ [0, 1, 2], [0.25, 1.75], rtol=1e-15)
    np.testing.assert_array_equal(interpolation(5, 5), np.eye(5))
    np.testing.assert_array_equal(interpolation(1, 3), np.ones((3, 1)))


@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_upsampling_is_tensorflows_bilinear_resize(grid, size):
    maps = np.random.default_rng(0).normal(size=(2, *grid)).astype(np.float32)
    wanted = tf.image.resize(maps[..., np.newaxis], size, "bilinear", antialias=False)[..., 0]
    np.testing.assert_allclose(upsample(tf.constant(maps), size), wanted, rtol=0, atol=1e-5)


@given(st.integers(1, 12), st.integers(1, 30))
def test_interpolation_weighs_neighbours_alone_and_sums_to_one(count, length):
    weights = interpolation(count, length)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    assert ((weights > 0).sum(axis=1) <= 2).all()


@pytest.mark.parametrize(("grid", "size"), [((4,), (10,)), ((2, 3, 4), (5, 4, 8))])
def test_other_ranks_are_resized_axis_by_axis(grid, size):
    maps = np.random.default_rng(1).normal(size=(2, *grid))
    wanted = maps
    for axis, length in enumerate(size, start=1):
        centres = (np.arange(length) + 0.5) * grid[axis - 1] / length - 0.5
        wanted = np.apply_along_axis(lambda line, at=centres: np.interp(at, np.arange(len(line)), line), axis, wanted)
    np.testing.assert_allclose(upsample(tf.constant(maps), size), wanted, rtol=0, atol=1e-12)


def test_scaled_brings_each_map_to_its_own_range():
    maps = tf.constant([[[1.0, 3.0], [2.0, 5.0]], [[-4.0, -2.0], [0.0, -4.0]], [[7.0, 7.0], [7.0, 7.0]]])
    wanted = [[[0, 0.5], [0.25, 1]], [[0, 0.5], [1, 0]], [[0, 0], [0, 0]]]
    np.testing.assert_array_equal(scaled(maps), wanted)
    np.testing.assert_array_equal(scaled(maps[:, 0]), [[0, 1], [0, 1], [0, 0]])
