"""The folded graph as functions: explain, top-k, predict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export import contract
from gradcam_export.graph.explain import FEATURES, MODEL_INPUT, SCORES, output_of
from gradcam_export.graph.functions import renamed
from gradcam_export.graph.heatmaps import normalise
from gradcam_export.graph.rescoring import RescoredEvidence, Rescorer
from gradcam_export.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcam_export.graph.explain import Choice
    from gradcam_export.graph.fold import FoldedClassifier
    from gradcam_export.keras_model.inputs import ModelInput

    Tensors = Mapping[str, tf.Tensor]

_PREDICTION = (contract.PREDICTIONS, contract.CLASS_INDEX, contract.SCORE)


class FoldedCore:
    """Calls the folded graph, and asks it again where a method needs that.

    Args:
        folded: the graph.
        choice: what it explains.
        main: the input whose positions are explained.
        chunk: rows of altered inputs that pass at once.
    """

    def __init__(self, folded: FoldedClassifier, choice: Choice, main: ModelInput, chunk: int) -> None:
        self._folded, self._choice, self._main, self._chunk = folded, choice, main, chunk
        graph_def = renamed(folded.graph_def, "_folded")
        self._graph = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
        self._answer = self._pruned(folded.inputs, tuple(folded.outputs))
        if choice.asks_again:
            # Left out of line, each is optimised, and its kernels fused, as a graph of its own (2.20).
            self._from_input = self._half(MODEL_INPUT)
            self._from_features = self._half(FEATURES)

    def predict(self, weights: Sequence[tf.Tensor], inputs: Tensors) -> dict[str, tf.Tensor]:
        """Return the outputs of the contract that say what was predicted."""
        answer = self._run(weights, inputs)
        return {name: answer[name] for name in _PREDICTION}

    def explain(self, weights: Sequence[tf.Tensor], inputs: Tensors, method: str) -> dict[str, tf.Tensor]:
        """Return the outputs of `explain` but the label, by `method`."""
        answer = self._run(weights, inputs)
        maps = self._maps(weights, inputs, answer, answer[contract.CLASS_INDEX][:, tf.newaxis], method, method)
        explained = {name: answer[name] for name in _PREDICTION}
        if METHODS[method].alters:
            return explained | {name: value[:, 0] for name, value in maps.items()}
        return explained | maps

    def top_k(self, weights: Sequence[tf.Tensor], inputs: Tensors, method: str) -> dict[str, tf.Tensor]:
        """Return the outputs of `top_k` but the labels, by `method`."""
        answer = self._run(weights, inputs)
        best = answer[output_of(contract.CLASS_INDEX, contract.TOP_K)]
        return {
            contract.PREDICTIONS: answer[contract.PREDICTIONS],
            contract.CLASS_INDEX: best,
            contract.SCORE: answer[output_of(contract.SCORE, contract.TOP_K)],
            **self._maps(weights, inputs, answer, best, method, contract.TOP_K),
        }

    def _maps(
        self, weights: Sequence[tf.Tensor], inputs: Tensors, answer: Tensors, classes: tf.Tensor, method: str, kind: str
    ) -> dict[str, tf.Tensor]:
        """Return heatmap and peak: from the graph, or by asking it again, then `[B,T,...]` for `classes` `[B,T]`."""
        if not METHODS[method].alters:
            return {name: answer[output_of(name, kind)] for name in (contract.HEATMAP, contract.HEATMAP_PEAK)}
        given = {name: inputs[name] for name in self._folded.inputs if name != contract.CLASS_INDEX}
        known = {name: answer[name] for name in (MODEL_INPUT, FEATURES, SCORES)}
        # Inlined, its loop would half remain where a request does not ask for the map, and fail (2.20).
        ask_again = tf.function(
            partial(self._asked_again, method), autograph=False, experimental_attributes={"_noinline": True}
        )
        return ask_again(weights, given, known, classes)

    def _asked_again(
        self, method: str, weights: Sequence[tf.Tensor], given: Tensors, answer: Tensors, classes: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        count, layout = classes.shape[1], self._choice.layout
        signed = METHODS[method].combine(self._evidence(weights, given, answer, classes))
        heatmap, peak = normalise(signed)
        positions = signed.shape[-1]
        return {
            contract.HEATMAP: layout.unflatten(tf.reshape(heatmap, [-1, count, positions])),
            contract.HEATMAP_PEAK: tf.reshape(peak, [-1, count]),
        }

    def _evidence(
        self, weights: Sequence[tf.Tensor], given: Tensors, answer: Tensors, classes: tf.Tensor
    ) -> RescoredEvidence:
        head = self._choice.head
        directions = [tf.cast(head.direction(one), tf.float32) for one in tf.unstack(classes, axis=1)]
        rescorer = Rescorer(
            from_input=lambda altered, rows: self._from_input(altered, rows, weights),
            from_features=lambda altered, rows: self._from_features(altered, rows, weights),
            layout=self._choice.layout,
            main=self._main,
            chunk=self._chunk,
        )
        return RescoredEvidence(
            rescorer=rescorer,
            inputs=given,
            model_input=answer[MODEL_INPUT],
            feature_map=answer[FEATURES],
            scores=answer[SCORES],
            directions=tf.stack(directions, axis=1),
        )

    def _run(self, weights: Sequence[tf.Tensor], inputs: Tensors) -> dict[str, tf.Tensor]:
        values = self._answer(*(inputs[name] for name in self._folded.inputs), *weights)
        return dict(zip(self._folded.outputs, values, strict=True))

    def _half(self, start: str) -> Any:
        """Return `function(altered, rows, weights)` → explained scores, from the tensor `start` on."""
        cut = self._folded.outputs[start]
        beside = {name: tensor for name, tensor in self._folded.inputs.items() if tensor != cut}
        beside.pop(contract.CLASS_INDEX)
        inner = self._pruned({start: cut, **beside}, (SCORES,))

        def from_start(altered: tf.Tensor, rows: Tensors, weights: Sequence[tf.Tensor]) -> tf.Tensor:
            (scores,) = inner(altered, *(rows[name] for name in beside), *weights)
            return scores

        return tf.function(from_start, autograph=False, experimental_attributes={"_noinline": True})

    def _pruned(self, inputs: Mapping[str, str], outputs: Sequence[str]) -> Any:
        element = self._graph.graph.as_graph_element
        feeds = [element(name) for name in (*inputs.values(), *(f"{weight}:0" for weight in self._folded.weights))]
        return self._graph.prune(feeds, [element(self._folded.outputs[name]) for name in outputs])
