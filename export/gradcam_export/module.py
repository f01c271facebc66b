"""The served object: signature bodies around one folded graph, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export import contract

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gradcam_export.graph.fold import FoldedClassifier


class ExplainableClassifier(tf.Module):
    """A classifier that answers with its predictions and the heatmap that explains them.

    `serving_default`, `explain`, `predict` and `describe` are the signatures of the contract; every input and output
    has the batch as its first axis, and row i of any output depends on row i of the inputs alone.
    """

    def __init__(
        self,
        folded: FoldedClassifier,
        *,
        labels: Sequence[str],
        input_shape: tuple[int, int, int],
        description: str | Path,
    ) -> None:
        """Build the signatures.

        Args:
            folded: the graph and its weights.
            labels: N class names.
            input_shape: `(H, W, C)`.
            description: file of `key<TAB>JSON` lines that `describe` answers from.
        """
        super().__init__(name="explainable_classifier")
        self.weights = [tf.Variable(value, trainable=False, name=name) for name, value in folded.weights.items()]
        self._run = _import_graph(folded)
        self._labels = tf.constant(labels)
        self._facts = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(str(description), tf.string, 0, tf.string, 1, delimiter="\t"),
            default_value="",
        )
        images = tf.TensorSpec([None, *input_shape], tf.uint8, name=contract.IMAGES)
        class_index = tf.TensorSpec([None], tf.int32, name=contract.CLASS_INDEX)
        key = tf.TensorSpec([None], tf.string, name=contract.KEY)
        self.serving_default = tf.function(self._serving_default, input_signature=[images], autograph=False)
        self.explain = tf.function(self._explain, input_signature=[images, class_index], autograph=False)
        self.predict = tf.function(self._predict, input_signature=[images], autograph=False)
        self.describe = tf.function(self._describe, input_signature=[key], autograph=False)

    def signatures(self) -> dict[str, Any]:
        """Return the concrete functions by signature name."""
        return {
            name: getattr(self, name).get_concrete_function()
            for name in (contract.SERVING_DEFAULT, contract.EXPLAIN, contract.PREDICT, contract.DESCRIBE)
        }

    def _serving_default(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(images, _predicted_class(images))

    def _explain(self, images: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(images, self._in_range(class_index))

    def _predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = self._answer(images, _predicted_class(images))
        return {name: tensor for name, tensor in answer.items() if not name.startswith(contract.HEATMAP)}

    def _describe(self, key: tf.Tensor) -> dict[str, tf.Tensor]:
        value = self._facts.lookup(key)
        known = tf.debugging.Assert(
            tf.reduce_all(value != ""),
            [f"{contract.KEY} must be {contract.DESCRIBE_MANIFEST} or {contract.DESCRIBE_LABELS}"],
        )
        with tf.control_dependencies([known]):
            return {contract.VALUE: tf.identity(value)}

    def _answer(self, images: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = self._run(self.weights, images, class_index)
        answer[contract.LABEL] = tf.gather(self._labels, answer[contract.CLASS_INDEX])
        return answer

    def _in_range(self, class_index: tf.Tensor) -> tf.Tensor:
        last = len(self._labels) - 1
        within = (class_index >= contract.PREDICTED_CLASS) & (class_index <= last)
        known = tf.debugging.Assert(
            tf.reduce_all(within),
            [
                f"{contract.CLASS_INDEX} must be 0..{last}, or {contract.PREDICTED_CLASS} for the predicted class; got",
                class_index,
            ],
        )
        # Assertions hold nothing back by themselves once a Session has pruned the graph.
        with tf.control_dependencies([known]):
            return tf.identity(class_index)


def _predicted_class(images: tf.Tensor) -> tf.Tensor:
    return tf.fill([tf.shape(images)[0]], contract.PREDICTED_CLASS)


def _import_graph(folded: FoldedClassifier) -> Any:
    """Return `run(weights, images, class_index)` → outputs by the contract's names."""
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(folded.graph_def, name=""), [])
    element = imported.graph.as_graph_element
    core = imported.prune(
        [element(name) for name in (*folded.inputs.values(), *(f"{weight}:0" for weight in folded.weights))],
        [element(name) for name in folded.outputs.values()],
    )

    def run(weights: Sequence[tf.Variable], images: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
        # In a scope of their own, or the reads' Identity takes an output's name (2.20).
        with tf.name_scope("weights"):
            values = [weight.read_value() for weight in weights]
        inputs = {contract.IMAGES: images, contract.CLASS_INDEX: class_index}
        return dict(zip(folded.outputs, core(*(inputs[name] for name in folded.inputs), *values), strict=True))

    return run
