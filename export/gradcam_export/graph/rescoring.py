"""Ask the folded classifier again, for altered inputs: what Score-CAM and Ablation-CAM are made of.

Every altered input of every image is one row of a queue, which passes through the classifier in chunks: memory depends
on the chunk alone, neither on the number of channels nor on the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcam_export.graph.layout import Layout
    from gradcam_export.keras_model.inputs import ModelInput


@dataclass(frozen=True, kw_only=True)
class Rescorer:
    """The two halves of the folded classifier, and how its tensors lie."""

    from_input: Callable[[tf.Tensor, Mapping[str, tf.Tensor]], tf.Tensor]
    """Main input as the model takes it, other inputs → explained scores `[n,N]`."""
    from_features: Callable[[tf.Tensor, Mapping[str, tf.Tensor]], tf.Tensor]
    """Feature map, inputs → explained scores `[n,N]`."""
    layout: Layout
    main: ModelInput
    chunk: int
    """How many rows pass at once."""


@dataclass(frozen=True, kw_only=True)
class RescoredEvidence:
    """`Evidence` for methods that ask again, of T classes of each image: `R = B * T` rows, image by image.

    The rows of one image share its forward passes: what they ask for depends on the features alone.
    """

    rescorer: Rescorer
    inputs: Mapping[str, tf.Tensor]
    """Of the signature, `[B,...]`."""
    model_input: tf.Tensor
    """`[B,...]`, what the model gets for the main input."""
    feature_map: tf.Tensor
    """`[B,...]`, as it lies in the graph."""
    scores: tf.Tensor
    """The explained scores `[B,N]`."""
    directions: tf.Tensor
    """float32 `[B,T,N]`: what to multiply the explained scores by, for each class."""

    @property
    def features(self) -> tf.Tensor:
        """`[R,P,K]`."""
        return tf.repeat(self._features(), self._classes, axis=0)

    @property
    def score(self) -> tf.Tensor:
        """`[R]`."""
        return tf.reshape(tf.einsum("bn,btn->bt", tf.cast(self.scores, tf.float32), self.directions), [-1])

    def masked_scores(self, channels: tf.Tensor) -> tf.Tensor:
        """Return the scores of the masked input, `[R,n]` for channels `[R,n]`, the same for all rows of an image."""
        layout, main = self.rescorer.layout, self.rescorer.main
        every = tf.transpose(self._features(), [0, 2, 1])
        maps = tf.gather(every, channels[:: self._classes], axis=1, batch_dims=1)  # [B, n, P]

        def scores_of(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
            mask = scaled(upsample(layout.unflatten(tf.gather_nd(maps, tf.stack([rows, columns], 1))), main.size))
            image = tf.gather(self.model_input, rows)
            seen = image * tf.cast(tf.expand_dims(mask, 1 if main.channels_first else -1), image.dtype)
            return self.rescorer.from_input(seen, self._rows(rows))

        return self._in_chunks(scores_of, tf.shape(channels)[1])

    def ablated_scores(self) -> tf.Tensor:
        """Return the scores without each channel, `[R,K]`."""
        layout, feature_map = self.rescorer.layout, self.feature_map
        along = [1] * feature_map.shape.rank
        along[0], along[layout.channel_axis] = -1, layout.channels

        def scores_of(rows: tf.Tensor, channels: tf.Tensor) -> tf.Tensor:
            kept = tf.one_hot(channels, layout.channels, 0.0, 1.0, dtype=feature_map.dtype)
            altered = tf.gather(feature_map, rows) * tf.reshape(kept, along)
            return self.rescorer.from_features(altered, self._rows(rows))

        return self._in_chunks(scores_of, tf.constant(layout.channels))

    @property
    def _classes(self) -> int:
        return self.directions.shape[1]

    def _features(self) -> tf.Tensor:
        return self.rescorer.layout.flatten(self.feature_map)

    def _rows(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.gather(tensor, rows) for name, tensor in self.inputs.items()}

    def _in_chunks(self, scores_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], count: tf.Tensor) -> tf.Tensor:
        """Return the scores of `count` alterations of each image, `[R,count]`.

        Args:
            scores_of: row of the image and number of the alteration, int32 `[chunk]` each → scores `[chunk,N]`.
            count: alterations an image.
        """
        images, classes, chunk = tf.shape(self.feature_map)[0], self._classes, self.rescorer.chunk
        total = images * count
        chunks = (total + chunk - 1) // chunk

        def step(index: tf.Tensor, kept: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            queue = tf.range(index * chunk, tf.minimum((index + 1) * chunk, total))
            rows = queue // count
            scores = tf.cast(scores_of(rows, queue % count), tf.float32)
            chosen = tf.einsum("qn,qtn->qt", scores, tf.gather(self.directions, rows))
            # The last chunk is as short as it is, for every row costs a forward pass; its answers alone are padded.
            padded = tf.pad(chosen, [[0, chunk - tf.shape(queue)[0]], [0, 0]])
            return index + 1, kept.write(index, tf.ensure_shape(padded, [chunk, classes]))

        kept = tf.TensorArray(tf.float32, size=chunks, element_shape=[chunk, classes])
        _, kept = tf.while_loop(
            lambda index, _: index < chunks, step, (0, kept), parallel_iterations=1, name="rescoring"
        )
        answers = tf.reshape(tf.reshape(kept.stack(), [-1, classes])[:total], [images, count, classes])
        return tf.reshape(tf.transpose(answers, [0, 2, 1]), [images * classes, count])


def upsample(maps: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Resize maps `[n,*grid]` linearly, pixel centres at halves, to `[n,*size]`."""
    for axis, length in enumerate(size, start=1):
        weights = tf.constant(interpolation(maps.shape[axis], length), maps.dtype)
        maps = tf.tensordot(maps, weights, [[axis], [1]])
        rank = maps.shape.rank
        maps = tf.transpose(maps, [*range(axis), rank - 1, *range(axis, rank - 1)])
    return maps


def interpolation(count: int, length: int) -> np.ndarray[Any, Any]:
    """Return the matrix `[length,count]` of linear interpolation with pixel centres at halves, the edges held."""
    places = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(count)[None, :]))


def scaled(maps: tf.Tensor) -> tf.Tensor:
    """Bring each map `[n,*size]` to 0..1 by its own minimum and maximum; a flat one becomes zeros."""
    axes = list(range(1, maps.shape.rank))
    low = tf.reduce_min(maps, axis=axes, keepdims=True)
    high = tf.reduce_max(maps, axis=axes, keepdims=True)
    return tf.math.divide_no_nan(maps - low, high - low)
