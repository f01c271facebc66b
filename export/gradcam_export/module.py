"""The served object: signature bodies around one folded graph, nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export import contract
from gradcam_export.graph.core import FoldedCore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gradcam_export.graph.explain import Choice
    from gradcam_export.graph.fold import FoldedClassifier
    from gradcam_export.keras_model.inputs import ClassifierInputs

    Answer = dict[str, tf.Tensor]


class ExplainableClassifier(tf.Module):
    """A classifier that answers with its predictions and the heatmap that explains them.

    `serving_default`, `explain`, `top_k`, `predict`, `describe` and one `explain_<method>` for each further method are
    the signatures of the contract; every input and output has the batch as its first axis, and row i of any output
    depends on row i of the inputs alone.
    """

    def __init__(
        self,
        folded: FoldedClassifier,
        choice: Choice,
        inputs: ClassifierInputs,
        *,
        labels: Sequence[str],
        description: str | Path,
        chunk: int,
    ) -> None:
        """Build the signatures.

        Args:
            folded: the graph and its weights.
            choice: what it explains.
            inputs: what it takes.
            labels: N class names.
            description: file of `key<TAB>JSON` lines that `describe` answers from.
            chunk: how many altered inputs a method that asks again sends through the classifier at once.
        """
        super().__init__(name="explainable_classifier")
        self.weights = [tf.Variable(value, trainable=False, name=name) for name, value in folded.weights.items()]
        self._core = FoldedCore(folded, choice, inputs.main, chunk)
        self._methods = choice.methods
        self._labels = tf.constant(labels)
        self._facts = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(str(description), tf.string, 0, tf.string, 1, delimiter="\t"),
            default_value="",
        )
        self._specs = {one.name: tf.TensorSpec([None, *one.shape], one.dtype, name=one.name) for one in inputs}
        self._signatures = dict(self._functions())

    def signatures(self) -> dict[str, Any]:
        """Return the concrete functions by signature name."""
        return dict(self._signatures)

    def _functions(self) -> Iterator[tuple[str, Any]]:
        given = self._specs
        chosen = given | {contract.CLASS_INDEX: tf.TensorSpec([None], tf.int32, name=contract.CLASS_INDEX)}
        key = {contract.KEY: tf.TensorSpec([None], tf.string, name=contract.KEY)}
        yield contract.SERVING_DEFAULT, _concrete(self._serving_default, given)
        yield contract.EXPLAIN, _concrete(partial(self._explain, self._methods[0]), chosen)
        yield contract.TOP_K, _concrete(self._top_k, given)
        yield contract.PREDICT, _concrete(self._predict, given)
        yield contract.DESCRIBE, _concrete(self._describe, key)
        for method in self._methods[1:]:
            yield contract.explain_signature(method), _concrete(partial(self._explain, method), chosen)

    def _serving_default(self, inputs: Answer) -> Answer:
        return self._labelled(self._core.explain(self._weights(), _of_predicted_class(inputs), self._methods[0]))

    def _explain(self, method: str, inputs: Answer) -> Answer:
        asked = inputs | {contract.CLASS_INDEX: self._in_range(inputs[contract.CLASS_INDEX])}
        return self._labelled(self._core.explain(self._weights(), asked, method))

    def _top_k(self, inputs: Answer) -> Answer:
        return self._labelled(self._core.top_k(self._weights(), _of_predicted_class(inputs), self._methods[0]))

    def _predict(self, inputs: Answer) -> Answer:
        return self._labelled(self._core.predict(self._weights(), _of_predicted_class(inputs)))

    def _describe(self, inputs: Answer) -> Answer:
        value = self._facts.lookup(inputs[contract.KEY])
        known = tf.debugging.Assert(
            tf.reduce_all(value != ""),
            [f"{contract.KEY} must be {contract.DESCRIBE_MANIFEST} or {contract.DESCRIBE_LABELS}"],
        )
        with tf.control_dependencies([known]):
            return {contract.VALUE: tf.identity(value)}

    def _labelled(self, answer: Mapping[str, tf.Tensor]) -> Answer:
        return {**answer, contract.LABEL: tf.gather(self._labels, answer[contract.CLASS_INDEX])}

    def _weights(self) -> list[tf.Tensor]:
        # In a scope of their own, or the reads' Identity takes an output's name (2.20).
        with tf.name_scope("weights"):
            return [weight.read_value() for weight in self.weights]

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


def _concrete(body: Callable[[Answer], Answer], specs: Mapping[str, tf.TensorSpec]) -> Any:
    """Return `body` as a function of keywords, which a signature's inputs are."""

    def signature(**inputs: tf.Tensor) -> Answer:
        return body(inputs)

    return tf.function(signature, autograph=False).get_concrete_function(**specs)


def _of_predicted_class(inputs: Answer) -> Answer:
    rows = tf.shape(next(iter(inputs.values())))[0]
    return inputs | {contract.CLASS_INDEX: tf.fill([rows], contract.PREDICTED_CLASS)}
