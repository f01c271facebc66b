"""What a CAM method asks, answered from given numbers, or by a small network that is run again for every question."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Given:
    """Evidence that is written down; what is not given must not be asked for."""

    features: tf.Tensor = None
    gradients: tf.Tensor = None
    score: tf.Tensor = None
    masked: np.ndarray = None
    """`[B,K]`, the score of the input masked by each channel."""
    ablated: np.ndarray = None
    asked: list[np.ndarray] = field(default_factory=list)
    """The channels that masks were made of."""

    def masked_scores(self, channels: tf.Tensor) -> tf.Tensor:
        self.asked.append(channels.numpy())
        assert channels.dtype == tf.int32
        scores = np.take_along_axis(self.masked, channels.numpy(), axis=1)
        return tf.constant(scores, self.features.dtype)

    def ablated_scores(self) -> tf.Tensor:
        return tf.constant(self.ablated, self.features.dtype)


class Answering:
    """Evidence in a graph, where the masked and the ablated scores of a channel are the same."""

    def __init__(self, features, gradients=None, score=None, answers=None):
        self.features, self.gradients, self.score, self.answers = features, gradients, score, answers

    def masked_scores(self, channels):
        return tf.gather(self.answers, channels, axis=1, batch_dims=1)

    def ablated_scores(self):
        return self.answers


def given(
    features: np.ndarray, gradients: np.ndarray | None = None, dtype: tf.DType = tf.float64, **others: np.ndarray
) -> Given:
    """Return given evidence, `[B,P,K]` each."""
    gradients = None if gradients is None else tf.constant(gradients, dtype)
    score = tf.constant(others.pop("score"), dtype) if "score" in others else None
    return Given(tf.constant(features, dtype), gradients, score, **others)


def tf_linear_head(kernel: np.ndarray, bias: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return global average pooling and one dense layer, of a feature map `[B,P,K]`."""
    return lambda features: tf.reduce_mean(features, axis=1) @ kernel + bias


def tf_curved_head(kernel: np.ndarray, bias: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a head whose gradient differs from position to position."""
    return lambda features: tf.reduce_mean(tf.tanh(features) * features, axis=1) @ kernel + bias


class Network:
    """A convolution, ReLU and a head in float64: evidence computed by brute force, one question at a time."""

    def __init__(self, images: np.ndarray, classes: np.ndarray, channels: int = 4, head: Callable = tf_linear_head):
        """Explain `classes` `[B]` of `images` `[B,H,W,C]`, H and W even."""
        random = np.random.default_rng(len(images))
        self.images, self.classes = images, classes
        self.filters = random.normal(size=(3, 3, images.shape[-1], channels))
        self.kernel, self.bias = random.normal(size=(channels, 5)), random.normal(size=5)
        self.head = head(self.kernel, self.bias)

    def maps(self, images: np.ndarray) -> tf.Tensor:
        """Return the feature map on its grid, `[B,H/2,W/2,K]`."""
        return tf.nn.relu(tf.nn.conv2d(tf.constant(images, tf.float64), self.filters, strides=2, padding="SAME"))

    def of(self, features: tf.Tensor) -> tf.Tensor:
        """Return the class scores of a feature map, `[B]`."""
        return tf.gather(self.head(features), self.classes, axis=1, batch_dims=1)

    @cached_property
    def features(self) -> tf.Tensor:
        grid = self.maps(self.images)
        return tf.reshape(grid, [grid.shape[0], -1, grid.shape[3]])

    @cached_property
    def gradients(self) -> tf.Tensor:
        return self.gradients_of(tf.one_hot(self.classes, 5, dtype=tf.float64))

    def gradients_of(self, direction: tf.Tensor) -> tf.Tensor:
        """Return the gradients of another direction, `[B,N]`."""
        with tf.GradientTape() as tape:
            tape.watch(self.features)
            scores = self.head(self.features)
        return tape.gradient(scores, self.features, output_gradients=direction)

    @cached_property
    def score(self) -> tf.Tensor:
        return self.of(self.features)

    def masked_scores(self, channels: tf.Tensor) -> tf.Tensor:
        grid = self.maps(self.images).numpy()
        scores = np.empty(channels.shape)
        for row, column in np.ndindex(*channels.shape):
            mask = upsampled(grid[row, :, :, channels[row, column]], self.images.shape[1:3])
            mask = (mask - mask.min()) / (np.ptp(mask) or 1)
            seen = self.maps(self.images[[row]] * mask[None, :, :, None])
            score = self.head(tf.reshape(seen, [1, -1, seen.shape[3]]))
            scores[row, column] = score[0, self.classes[row]]
        return tf.constant(scores)

    def ablated_scores(self) -> tf.Tensor:
        columns = []
        for channel in range(self.features.shape[2]):
            ablated = self.features.numpy()
            ablated[:, :, channel] = 0
            columns.append(self.of(tf.constant(ablated)))
        return tf.stack(columns, axis=1)


def upsampled(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return `grid` at another size, bilinear with half-pixel centres, one axis after the other."""
    for axis, length in enumerate(size):
        held = grid.shape[axis]
        centres = (np.arange(length) + 0.5) * held / length - 0.5
        grid = np.apply_along_axis(lambda line, at=centres: np.interp(at, np.arange(len(line)), line), axis, grid)
    return grid
