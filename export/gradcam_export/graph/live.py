"""What the live, unfolded model answers: the values that a written version must reproduce."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.graph.explain import class_gradients, make_choice
from gradcam_export.graph.trace import forward, images_spec, inlined

if TYPE_CHECKING:
    from pathlib import Path

    import keras

    from gradcam_export.graph.images import Preprocessing
    from gradcam_export.options import ScoreKind

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class ExpectedValues:
    """Answers of the live model, and what its heatmaps follow from."""

    images: Array
    """uint8 `[B,H,W,C]`."""
    asked: Array
    """int32 `[B]`: the classes asked for, -1 for the predicted one."""
    class_index: Array
    """int32 `[B]`: the classes answered for."""
    predictions: Array
    """float32 `[B,N]`."""
    features: Array
    """float32 `[B,h,w,K]`."""
    gradients: Array
    """float32 `[B,h,w,K]`."""

    def save(self, path: Path) -> None:
        """Write all values to an `.npz` file."""
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path) as values:
            return cls(**values)


def live_values(
    model: keras.Model,
    images: Array,
    preprocessing: Preprocessing,
    *,
    layer: str | None,
    score: ScoreKind,
) -> ExpectedValues:
    """Run the live model on `images`, once for the predicted classes and once for the second-best ones.

    Args:
        model: the classifier, its own variables in use.
        images: uint8 `[B,H,W,C]`.
        preprocessing: pixels → the model's input.
        layer: as for `choose`.
        score: what is explained.
    """

    @tf.function(input_signature=[images_spec(images.shape[1:]), tf.TensorSpec([None], tf.int32)], autograph=False)
    def explain(images: tf.Tensor, asked: tf.Tensor) -> dict[str, tf.Tensor]:
        choice = make_choice(forward(model, images, preprocessing), layer, score)
        found = class_gradients(choice, asked)
        return {
            "class_index": found.class_index,
            "predictions": choice.head.predictions,
            "features": found.features,
            "gradients": found.gradients,
        }

    with inlined():
        concrete = explain.get_concrete_function()

    def answers(asked: Array) -> dict[str, Array]:
        # One image at a time: the activations of a batch would be most of the memory an export needs.
        rows = [concrete(images[row : row + 1], asked[row : row + 1]) for row in range(len(images))]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    predicted = np.full(len(images), contract.PREDICTED_CLASS, np.int32)
    first = answers(predicted)
    other = _second_best(first["predictions"])
    second = answers(other)
    both = {name: np.concatenate([first[name], second[name]]) for name in first}
    return ExpectedValues(images=np.concatenate([images, images]), asked=np.concatenate([predicted, other]), **both)


def _second_best(predictions: Array) -> Array:
    """Return the class of the second-highest score; for a single unit the class that is not predicted."""
    if predictions.shape[-1] == 1:
        return (predictions[:, 0] <= 0.5).astype(np.int32)
    return np.argsort(predictions, axis=-1)[:, -2].astype(np.int32)
