"""The sum that most methods end in."""

from __future__ import annotations

import tensorflow as tf


def weigh_channels(features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return `sum_k w_k A_k` of each image, `[B,P]`.

    Args:
        features: A, `[B,P,K]`.
        weights: w, `[B,K]`.
    """
    return tf.einsum("bpk,bk->bp", features, weights)
