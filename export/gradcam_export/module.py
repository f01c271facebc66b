"""The served object: signature bodies around one folded graph, nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export import contract
from gradcam_export.graph.core import FoldedCore
from gradcam_export.graph.decoding import decode_images
from gradcam_export.graph.headers import ImageLimits
from gradcam_export.graph.overlay import colour_table, overlay_jpeg
from gradcam_export.manifest import file_signatures
from gradcam_export.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gradcam_export.graph.batching import BatchQueue
    from gradcam_export.graph.explain import Choice
    from gradcam_export.graph.fold import FoldedClassifier
    from gradcam_export.keras_model.inputs import ClassifierInputs
    from gradcam_export.options import ExportOptions

    Answer = dict[str, tf.Tensor]


OVERLAY_COLORMAP, OVERLAY_ALPHA = "jet", 0.4


class _Shared:
    """Functions that several signatures call, traced once; what a `tf.Module` holds itself it would save by itself."""

    def __init__(self) -> None:
        self._functions: dict[str, Any] = {}

    def __call__(self, name: str, trace: Callable[[], Any]) -> Any:
        """Return the function `name`; `trace` makes it the first time."""
        if name not in self._functions:
            self._functions[name] = trace()
        return self._functions[name]


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
        options: ExportOptions,
        queue: BatchQueue | None,
    ) -> None:
        """Build the signatures.

        Args:
            folded: the graph and its weights.
            choice: what it explains.
            inputs: what it takes.
            labels: N class names.
            description: file of `key<TAB>JSON` lines that `describe` answers from.
            options: limits of encoded images, and of what passes at once.
            queue: merges the rows of concurrent requests; `None` leaves that to the server.
        """
        super().__init__(name="explainable_classifier")
        self.weights = [tf.Variable(value, trainable=False, name=name) for name, value in folded.weights.items()]
        self._core = FoldedCore(folded, choice, inputs.main, options.chunk)
        self._inputs, self._methods, self._queue = inputs, choice.methods, queue
        self._shared = _Shared()
        self._grid = choice.layout.grid
        self._limits = ImageLimits(max_bytes=options.max_image_bytes, max_pixels=options.max_image_pixels)
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

    def costly(self) -> list[str]:
        """Return the signatures whose method asks the classifier again, for every channel."""
        first, *further = self._methods
        every = dict.fromkeys(self._signatures, METHODS[first])
        every |= {contract.explain_signature(name): METHODS[name] for name in further}
        return [name for name in every if every[name].alters and name not in (contract.PREDICT, contract.DESCRIBE)]

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
        encoded = {contract.IMAGE_BYTES: tf.TensorSpec([None], tf.string, name=contract.IMAGE_BYTES)}
        encoded[contract.CLASS_INDEX] = chosen[contract.CLASS_INDEX]
        of_files: dict[str, Callable[[Answer], Answer]] = {
            contract.EXPLAIN_BYTES: partial(self._explain_bytes, contract.EXPLAIN_BYTES),
            contract.OVERLAY: self._overlay,
        }
        takes_files = self._inputs.takes_pictures and self._limits.max_bytes > 0
        for name in file_signatures(encoded=takes_files, size=self._inputs.main.size, grid=self._grid):
            yield name, _concrete(of_files[name], encoded)

    def _serving_default(self, inputs: Answer) -> Answer:
        return self._answered(contract.SERVING_DEFAULT, self._methods[0], _of_predicted_class(inputs))

    def _explain(self, method: str, inputs: Answer) -> Answer:
        signature = contract.EXPLAIN if method == self._methods[0] else contract.explain_signature(method)
        return self._answered(signature, method, self._chosen(inputs))

    def _explain_bytes(self, signature: str, inputs: Answer) -> Answer:
        decode = self._shared(contract.IMAGE_BYTES, self._decoder)
        images = decode(inputs[contract.IMAGE_BYTES])
        asked = {contract.IMAGES: images, contract.CLASS_INDEX: inputs[contract.CLASS_INDEX]}
        return self._answered(signature, self._methods[0], self._chosen(asked))

    def _overlay(self, inputs: Answer) -> Answer:
        answer = self._explain_bytes(contract.OVERLAY, inputs)
        encoded, heatmap = inputs[contract.IMAGE_BYTES], answer[contract.HEATMAP]
        picture = overlay_jpeg(encoded, heatmap, colour_table(OVERLAY_COLORMAP), OVERLAY_ALPHA, self._limits)
        shown = {name: answer[name] for name in (contract.CLASS_INDEX, contract.LABEL, contract.SCORE)}
        return shown | {contract.OVERLAY_BYTES: picture}

    def _top_k(self, inputs: Answer) -> Answer:
        return self._answered(contract.TOP_K, contract.TOP_K, _of_predicted_class(inputs))

    def _predict(self, inputs: Answer) -> Answer:
        return self._answered(contract.PREDICT, contract.PREDICT, _of_predicted_class(inputs))

    def _answered(self, signature: str, kind: str, asked: Answer) -> Answer:
        """Return what the classifier answers, with labels; `kind`: `predict`, `top_k`, or explained by that method.

        Methods that ask again fill batches of their own, row by row: merging requests would gain them nothing.
        """
        method = self._methods[0] if kind == contract.TOP_K else kind
        core = partial(self._compute, kind)
        if self._queue and not (method in METHODS and METHODS[method].alters):
            merging = self._shared(kind, partial(self._queue.merging, core, asked))
            found = self._queue.run(merging, asked, signature)
        else:
            given, rows = _at_least_one_row(asked)
            found = {name: value[:rows] for name, value in core(given).items()}
        return {**found, contract.LABEL: tf.gather(self._labels, found[contract.CLASS_INDEX])}

    def _compute(self, kind: str, rows: Answer) -> Answer:
        if kind == contract.PREDICT:
            return self._core.predict(self._weights(), rows)
        if kind == contract.TOP_K:
            return self._core.top_k(self._weights(), rows, method=self._methods[0])
        return self._core.explain(self._weights(), rows, method=kind)

    def _describe(self, inputs: Answer) -> Answer:
        value = self._facts.lookup(inputs[contract.KEY])
        known = tf.debugging.Assert(
            tf.reduce_all(value != ""),
            [f"{contract.KEY} must be {contract.DESCRIBE_MANIFEST} or {contract.DESCRIBE_LABELS}"],
        )
        with tf.control_dependencies([known]):
            return {contract.VALUE: tf.identity(value)}

    def _weights(self) -> list[tf.Tensor]:
        # In a scope of their own, or the reads' Identity takes an output's name (2.20).
        with tf.name_scope("weights"):
            return [weight.read_value() for weight in self.weights]

    def _decoder(self) -> Any:
        height, width, channels = self._inputs.main.shape
        decode = partial(decode_images, shape=(height, width, channels), limits=self._limits)
        return tf.function(decode, autograph=False).get_concrete_function(tf.TensorSpec([None], tf.string))

    def _chosen(self, inputs: Answer) -> Answer:
        return inputs | {contract.CLASS_INDEX: self._in_range(inputs[contract.CLASS_INDEX])}

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
        return body({name: _of_shape(tensor, specs[name].shape) for name, tensor in inputs.items()})

    return tf.function(signature, autograph=False).get_concrete_function(**specs)


def _at_least_one_row(inputs: Answer) -> tuple[Answer, tf.Tensor]:
    """Return the inputs, or one row of zeros where there is none, and how many rows there are.

    Kernels of oneDNN answer no rows in a wrong shape (2.20), and a batch of none in no shape at all.
    """
    rows = tf.shape(next(iter(inputs.values())))[0]
    given = {}
    for name, tensor in inputs.items():
        one = tf.zeros([1, *tensor.shape[1:]], tensor.dtype)
        given[name] = tf.cond(rows > 0, lambda tensor=tensor: tf.identity(tensor), lambda one=one: one)
        given[name].set_shape(tensor.shape)
    return given, rows


def _of_shape(tensor: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Check the shape when a request comes: a server feeds what it got, and a wrong one would fail its whole batch."""
    # Without a static shape, or the optimiser would find the check to be true before anything was sent.
    open_shape = tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=tf.TensorShape(None))
    return tf.ensure_shape(open_shape, shape)


def _of_predicted_class(inputs: Answer) -> Answer:
    rows = tf.shape(next(iter(inputs.values())))[0]
    return inputs | {contract.CLASS_INDEX: tf.fill([rows], contract.PREDICTED_CLASS)}
