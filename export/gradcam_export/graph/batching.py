"""Merge the rows of concurrent requests inside the graph, so that the server needs no flags for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export.graph.combining import Combiner

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcam_export.manifest import Manifest
    from gradcam_export.options import ExportOptions

    Tensors = dict[str, tf.Tensor]


@dataclass(frozen=True, kw_only=True)
class BatchQueue:
    """How rows are merged."""

    timeout_micros: int
    """How long a request waits for others before it computes."""
    threads: int
    """How many batches are computed at once."""
    allowed_batch_sizes: tuple[int, ...]
    """Ascending; a batch is padded to the next of them, and a request of more rows than the last is split."""
    identity: str
    """Tells the queue from those of other models and versions in one process: with one name they would mix rows."""

    def merging(self, function: Callable[[Tensors], Tensors], inputs: Tensors) -> Any:
        """Return `function` as what `run` calls.

        Args:
            function: of tensors `[B,...]` by name, row by row.
            inputs: such tensors.
        """
        specs = {key: tf.TensorSpec(tensor.shape, tensor.dtype, name=key) for key, tensor in inputs.items()}
        # Called, not inlined, it is optimised as a graph of its own: a batch function's own body is not, and its
        # kernels would stay unfused (2.20).
        apart = tf.function(function, autograph=False, experimental_attributes={"_noinline": True})
        return apart.get_concrete_function(specs)

    def run(self, core: Any, inputs: Tensors, name: str) -> Tensors:
        """Return what `core` answers to `inputs`, computed together with the rows of other calls.

        Args:
            core: from `merging`.
            inputs: of one request.
            name: tells the queue from the others of the model.
        """
        # Not beside the checks of the inputs, or it is handed to a thread that has to be woken.
        with tf.control_dependencies(list(inputs.values())):
            first = _random_key()
        keys = tf.add(first, tf.range(tf.shape(next(iter(inputs.values())), tf.int64)[0]), name="keys")
        lines = [
            Combiner(core, f"{name}-{self.identity}-{line}", self.allowed_batch_sizes, self.timeout_micros)
            for line in range(self.threads)
        ]
        if len(lines) == 1:
            return lines[0].answer(keys, inputs)
        line = tf.cast(first % len(lines), tf.int32)
        return tf.switch_case(line, [partial(one.answer, keys, inputs) for one in lines])


def _random_key() -> tf.Tensor:
    # Without the seeds that tf.random takes from its graph: two kernels of one seed would give out the same keys.
    return tf.raw_ops.RandomUniformInt(
        shape=tf.zeros([0], tf.int32),
        minval=tf.zeros([], tf.int64),
        maxval=tf.constant(2**62, tf.int64),
        seed=0,
        seed2=0,
    )


def queue_of(options: ExportOptions, manifest: Manifest, content: str) -> BatchQueue | None:
    """Return how the graph merges rows; `None` where the server does, or nobody.

    Args:
        options: of the export.
        manifest: of the version.
        content: tells what the queue's rows are computed with from everything else.
    """
    if options.batching != "in-graph":
        return None
    # Two models, or versions, under one name would read each other's rows; only where they compute the same, by the
    # same code and weights, may they share it. The weights of the source alone would not tell one preprocessing, or
    # one precision, from another.
    model = {name: manifest.model[name] for name in ("name", "digest")}
    told = json.dumps([content, json.loads(replace(manifest, model=model).to_json())])
    return BatchQueue(
        timeout_micros=options.batch_timeout_micros,
        threads=options.batch_threads,
        allowed_batch_sizes=options.batch_sizes,
        identity=hashlib.sha256(told.encode()).hexdigest()[:16],
    )
