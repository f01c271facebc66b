"""Merge the rows of concurrent requests inside the graph, so that the server needs no flags for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcam_export.manifest import Manifest
    from gradcam_export.options import ExportOptions

    Tensors = dict[str, tf.Tensor]


@dataclass(frozen=True, kw_only=True)
class BatchQueue:
    """How rows are merged."""

    timeout_micros: int
    """How long the first row waits for others."""
    threads: int
    allowed_batch_sizes: tuple[int, ...]
    """Ascending; a batch is padded to the next of them, and a request of more rows than the last is split."""
    identity: str
    """Tells the queue from those of other models and versions in one process: with one name they would mix rows."""

    def run(self, function: Callable[[Tensors], Tensors], inputs: Tensors, name: str) -> Tensors:
        """Return `function(inputs)`, computed together with the rows of other calls.

        Args:
            function: of tensors `[B,...]` by name, row by row.
            inputs: of one request.
            name: tells the queue from the others of the model.
        """
        specs = {key: tf.TensorSpec(tensor.shape, tensor.dtype, name=key) for key, tensor in inputs.items()}
        names: list[str] = []

        def together(*rows: tf.Tensor) -> list[tf.Tensor]:
            # Called, not inlined, it is optimised as a graph of its own: a batch function's own body is not, and its
            # kernels would stay unfused (2.20).
            answer = tf.function(function, autograph=False, experimental_attributes={"_noinline": True})(
                dict(zip(specs, rows, strict=True))
            )
            names.extend(answer)
            return list(answer.values())

        merged = tf.function(together, autograph=False).get_concrete_function(*specs.values())

        def enqueue(*tensors: tf.Tensor) -> list[tf.Tensor]:
            return self._batch(merged, tensors[: len(specs)], tensors[len(specs) :], f"{name}-{self.identity}")

        # A batch runs under the last request in it (2.20): cancelled with that one, it would fail all others. Called
        # from here it runs under no request at all.
        captured = [*merged.captured_inputs]
        arguments = [*specs.values(), *(tf.TensorSpec(one.shape, one.dtype) for one in captured)]
        detached = tf.function(enqueue, autograph=False).get_concrete_function(*arguments)
        answers = tf.raw_ops.RemoteCall(
            target=tf.constant("/device:CPU:0"),
            args=[*inputs.values(), *captured],
            Tout=[output.dtype for output in detached.outputs],
            f=detached,
        )
        for answer, output in zip(answers, merged.outputs, strict=True):
            answer.set_shape(output.shape)
        return dict(zip(names, answers, strict=True))

    def _batch(
        self, merged: Any, rows: Sequence[tf.Tensor], captured: Sequence[tf.Tensor], queue: str
    ) -> list[tf.Tensor]:
        return tf.raw_ops.BatchFunction(
            in_tensors=rows,
            captured_tensors=captured,
            f=merged,
            num_batch_threads=self.threads,
            # The most rows of a request; those of a batch are the last allowed size (2.20).
            max_batch_size=_REQUEST_ROWS,
            batch_timeout_micros=self.timeout_micros,
            allowed_batch_sizes=list(self.allowed_batch_sizes),
            max_enqueued_batches=_ENQUEUED,
            enable_large_batch_splitting=True,
            shared_name=queue,
            batching_queue=queue,
            Tout=[output.dtype for output in merged.outputs],
        )


_REQUEST_ROWS = 2**20
_ENQUEUED = 1000
"""Batches that may wait; beyond them the server answers UNAVAILABLE."""


def queue_of(options: ExportOptions, manifest: Manifest) -> BatchQueue | None:
    """Return how the graph merges rows; `None` where the server does, or nobody."""
    if options.batching != "in-graph":
        return None
    # Two models, or versions, under one name would read each other's rows; two exports of one model may share it.
    told = json.dumps([manifest.model["name"], manifest.model["digest"], manifest.input, manifest.explanation])
    return BatchQueue(
        timeout_micros=options.batch_timeout_micros,
        threads=options.batch_threads,
        allowed_batch_sizes=options.batch_sizes,
        identity=hashlib.sha256(told.encode()).hexdigest()[:16],
    )
