"""Merge the rows of concurrent requests inside the graph, so that the server needs no flags for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Tensors = Mapping[str, tf.Tensor]


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

    def run(self, function: Callable[[Tensors], dict[str, tf.Tensor]], inputs: Tensors, name: str) -> dict[str, Any]:
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

        concrete = tf.function(together, autograph=False).get_concrete_function(*specs.values())
        queue = f"{name}-{self.identity}"
        answers = tf.raw_ops.BatchFunction(
            in_tensors=[*inputs.values()],
            captured_tensors=concrete.captured_inputs,
            f=concrete,
            num_batch_threads=self.threads,
            # The most rows of a request; those of a batch are the last allowed size (2.20).
            max_batch_size=_REQUEST_ROWS,
            batch_timeout_micros=self.timeout_micros,
            allowed_batch_sizes=list(self.allowed_batch_sizes),
            max_enqueued_batches=_ENQUEUED,
            enable_large_batch_splitting=True,
            shared_name=queue,
            batching_queue=queue,
            Tout=[output.dtype for output in concrete.outputs],
        )
        rows = tf.shape(next(iter(inputs.values())))[0]
        # Of no rows it answers without any shape (2.20).
        shaped = [
            tf.reshape(answer, [rows, *output.shape[1:]])
            for answer, output in zip(answers, concrete.outputs, strict=True)
        ]
        return dict(zip(names, shaped, strict=True))


_REQUEST_ROWS = 2**20
_ENQUEUED = 1000
"""Batches that may wait; beyond them the server answers UNAVAILABLE."""
