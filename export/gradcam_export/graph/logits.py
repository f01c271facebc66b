"""Find the class score at the end of the graph, and the rules that go with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tensorflow as tf

from gradcam_export.errors import UnsupportedHead
from gradcam_export.graph.cuts import CONTRACTIONS, LOOPS, Cone

if TYPE_CHECKING:
    from gradcam_export.options import ScoreKind

Activation = Literal["softmax", "log_softmax", "sigmoid", "linear"]

_ACTIVATIONS: dict[str, Activation] = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
}
_LINEAR_OPS = frozenset(("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "Transpose", "BiasAdd", "AddV2"))
_TRANSPARENT_OPS = frozenset(("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "StopGradient"))


_INNER = (
    "A {} ({}) lies inside the graph, but {} ({}) comes after it, so there is no logit to explain. Explain the model "
    "before that operation, or ask for the probability with --score probability."
)


@dataclass(frozen=True, kw_only=True)
class Head:
    """The end of the classifier: its class scores and what each class index means."""

    predictions: tf.Tensor
    """float32 `[B,N]`: what the model returns."""
    explained: tf.Tensor
    """`[B,N]`: the scores that the heatmap explains; logits, unless probabilities were asked for."""
    activation: Activation

    @property
    def binary(self) -> bool:
        """Whether one sigmoid unit stands for two classes: index 1 for it, index 0 against it."""
        return self.activation == "sigmoid" and self.predictions.shape[-1] == 1

    @property
    def classes(self) -> int:
        """Number of classes, which a single sigmoid unit has two of."""
        return 2 if self.binary else self.predictions.shape[-1]

    def predicted_class(self) -> tf.Tensor:
        """Return the index of the highest score of each image: int32 `[B]`."""
        if self.binary:
            return tf.cast(self.predictions[:, 0] > 0.5, tf.int32)
        return tf.argmax(self.predictions, axis=-1, output_type=tf.int32)

    def best_classes(self, count: int) -> tf.Tensor:
        """Return the indices of the `count` highest scores of each image, best first: int32 `[B,count]`.

        Of equal scores the lower index comes first.
        """
        if self.binary:
            predicted = self.predicted_class()
            return tf.stack([predicted, 1 - predicted], axis=1)[:, :count]
        return tf.math.top_k(self.predictions, count, index_type=tf.int32).indices

    def score(self, class_index: tf.Tensor) -> tf.Tensor:
        """Return the model's output for `class_index` `[B]`, float32 `[B]`."""
        if self.binary:
            return tf.where(class_index == 1, self.predictions[:, 0], 1.0 - self.predictions[:, 0])
        return tf.gather(self.predictions, class_index, axis=1, batch_dims=1)

    def direction(self, class_index: tf.Tensor) -> tf.Tensor:
        """Return what to multiply the explained scores by, `[B,N]`, for the evidence for `class_index` `[B]`.

        One-hot rows: as the gradient's starting value they give each image the gradient of its own class score.
        """
        if self.binary:
            return tf.cast(2 * class_index - 1, self.explained.dtype)[:, tf.newaxis]
        return tf.one_hot(class_index, self.classes, dtype=self.explained.dtype)


def find_head(predictions: tf.Tensor, kind: ScoreKind = "logit") -> Head:
    """Walk back from `predictions` `[B,N]` to the logits.

    Args:
        predictions: the model's output.
        kind: explain the logit, or the model's output itself.

    Raises:
        UnsupportedHead: a softmax over the classes lies in the graph, but not at its end.
    """
    tensor = predictions
    while tensor.op.type in _TRANSPARENT_OPS:
        tensor = tensor.op.inputs[0]
    activation = _ACTIVATIONS.get(tensor.op.type, "linear")
    outputs = tf.cast(predictions, tf.float32)
    if kind == "probability":
        return Head(predictions=outputs, explained=predictions, activation=activation)
    if activation == "linear":
        _refuse_inner_softmax(predictions)
        return Head(predictions=outputs, explained=predictions, activation=activation)
    logits = tensor.op.inputs[0]
    if logits.shape.rank != 2:
        logits = tf.reshape(logits, [-1, predictions.shape[-1]])
    return Head(predictions=outputs, explained=logits, activation=activation)


def _refuse_inner_softmax(predictions: tf.Tensor) -> None:
    """Refuse a softmax over the N classes, or a sigmoid, somewhere before the end, as in averaged ensembles.

    A softmax behind a further layer is another matter: attention over as many positions as there are classes, for one.
    """
    classes, end = predictions.shape[-1], predictions.op
    seen: set[tf.Operation] = set()
    frontier = [end]
    unsquashed, squashed = False, None
    while frontier:
        operation = frontier.pop()
        if operation in seen:
            continue
        seen.add(operation)
        if operation.type in CONTRACTIONS | LOOPS:
            unsquashed = True
            continue
        if operation.type == "Sigmoid":
            squashed = operation
            continue
        if operation.type in ("Softmax", "LogSoftmax") and operation.outputs[0].shape[-1] == classes > 1:
            raise UnsupportedHead(
                _INNER.format(f"softmax over the {classes} classes", operation.name, end.type, end.name)
            )
        frontier += [tensor.op for tensor in operation.inputs]
    # A gate or a swish leaves a way from the last layer to the end without a sigmoid; averaged sigmoids leave none.
    if squashed is not None and not unsquashed:
        raise UnsupportedHead(_INNER.format("sigmoid", squashed.name, end.type, end.name))


def pooled_head_flaw(features: tf.Tensor, channels: int, explained: tf.Tensor) -> str | None:
    """Say what keeps the head from being global average pooling and one linear layer; `None` if it is that.

    Args:
        features: the feature map to explain.
        channels: K.
        explained: `[B,N]`, the scores that are explained.
    """
    cone = Cone(features, explained)
    linear = pooled = 0
    for operation in cone.operations:
        if operation.type in ("MatMul", "Conv2D"):
            linear += 1
        elif operation.type == "Mean" and not linear:
            pooled += 1
            if math.prod(size or 1 for size in operation.outputs[0].shape[1:]) != channels:
                return f"{operation.type} ({operation.name}) averages over some positions alone"
        elif operation.type not in _LINEAR_OPS:
            return f"{operation.type} ({operation.name}) stands between the feature map and the class score"
    if not pooled:
        return "no global average pooling comes before the linear layer"
    if linear != 1:
        return f"{linear} linear layers follow the pooling"
    return None
