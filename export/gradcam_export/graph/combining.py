"""Let one request compute for all that wait, so that none can fail another's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Tensors = dict[str, tf.Tensor]

_WAITING_REQUESTS = 10_000
"""Beyond them a server answers UNAVAILABLE."""
_ABANDONED_BYTES = 2**24
"""What answers may take that nobody fetches, because their callers gave up."""


class Combiner:
    """Flat combining (Hendler, Incze, Shavit, Tzafrir: Flat Combining and the Synchronization-Parallelism Tradeoff).

    A request lays its rows into a queue and takes a turn. In its turn it finds its rows answered by an earlier one, or
    else computes all that wait, its own among them, and leaves the others' answers in a table. One whose rows were
    lost, because the request that had taken them failed, computes them itself.

    So a batch belongs to one request and fails with that one alone. Merging requests in the `BatchFunction` itself
    would run the batch under the last of them: its deadline would cancel all the others (2.20).
    """

    def __init__(self, core: Any, name: str, allowed_batch_sizes: Sequence[int], timeout_micros: int) -> None:
        """Build what the turns share.

        Args:
            core: a concrete function of a dictionary of tensors `[B,...]`, row by row, to such a dictionary.
            name: no other in the process may have it, or rows would mix.
            allowed_batch_sizes: ascending; a batch is padded to the next of them, and holds no more rows than the last.
            timeout_micros: how long a request waits for others before it computes.
        """
        self._core, self._name, self._sizes, self._timeout = core, name, allowed_batch_sizes, timeout_micros
        (self._given,), _ = core.structured_input_signature
        self._answers = _Answers(core.structured_outputs, name)

    def answer(self, keys: tf.Tensor, inputs: Tensors) -> Tensors:
        """Return what the core answers to the rows of `inputs`.

        Args:
            keys: int64 `[B]`, of no other row.
            inputs: `[B,...]` by name.
        """
        rows = [keys, *(inputs[name] for name in self._given)]
        enqueued = tf.raw_ops.QueueEnqueueManyV2(handle=self._queue(), components=rows)
        turn = tf.function(self._turn, autograph=False).get_concrete_function(
            tf.TensorSpec([None], tf.bool), tf.TensorSpec([None], tf.int64), *self._given.values()
        )
        with tf.control_dependencies([enqueued]):
            packed = _one_at_a_time(turn, rows, self._name)
        return self._answers.unpack(one[0] for one in packed)

    def _turn(self, turn: tf.Tensor, keys: tf.Tensor, *rows: tf.Tensor) -> list[tf.Tensor]:
        """Return the packed answers to `rows`, each as `[1,B,...]`: a batch of one request."""
        answers = self._answers
        done = answers.done(keys)
        with tf.control_dependencies([done]):
            # Rows leave in the order they came: behind these, the queue no longer holds any of this request.
            before = tf.raw_ops.QueueSizeV2(handle=self._queue())
            if self._timeout:
                full = tf.reduce_all(done) | (before >= self._sizes[-1])
                waited = tf.cond(full, lambda: turn, lambda: self._wait(turn))
                with tf.control_dependencies([waited]):
                    before = tf.identity(before)

        def batch(done: tf.Tensor, before: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            taken, *inputs = tf.cond(before > 0, self._take, lambda: self._missing(done, [keys, *rows]))
            taken.set_shape([None])
            with tf.control_dependencies([answers.put(taken, self._compute(inputs))]):
                return answers.done(keys), before - tf.size(taken)

        done, _ = tf.while_loop(lambda done, _: ~tf.reduce_all(done), batch, [done, before], parallel_iterations=1)
        with tf.control_dependencies([done]):
            return [one[tf.newaxis] for one in answers.fetch(keys)]

    def _take(self) -> list[tf.Tensor]:
        """Return keys and rows of the next batch."""
        queue = self._queue()
        count = tf.minimum(tf.raw_ops.QueueSizeV2(handle=queue), self._sizes[-1])
        types = [tf.int64, *(one.dtype for one in self._given.values())]
        return tf.raw_ops.QueueDequeueManyV2(handle=queue, n=count, component_types=types)

    def _missing(self, done: tf.Tensor, rows: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return as many of a request's own rows without answer as one batch holds."""
        positions = tf.where(~done)[: self._sizes[-1], 0]
        return [tf.gather(one, positions) for one in rows]

    def _compute(self, rows: list[tf.Tensor]) -> Tensors:
        count = tf.shape(rows[0])[0]
        size = tf.gather(self._sizes, tf.searchsorted(self._sizes, [count])[0])
        padded = tf.minimum(tf.range(size), count - 1)
        rows = tf.cond(
            size > count,
            lambda: [tf.gather(one, padded) for one in rows],
            lambda: [tf.identity(one) for one in rows],
        )
        given = {}
        for (name, spec), one in zip(self._given.items(), rows, strict=True):
            given[name] = tf.ensure_shape(one, spec.shape)
        return {name: value[:count] for name, value in self._core(given).items()}

    def _wait(self, turn: tf.Tensor) -> tf.Tensor:
        """Let time pass; no graph has a timer, but a batch waits for a second row that never comes."""
        identity = tf.function(tf.identity, autograph=False).get_concrete_function(tf.TensorSpec([None], tf.bool))
        return _batch_function(identity, turn, [], f"{self._name}-timer", size=2, timeout_micros=self._timeout)[0]

    def _queue(self) -> tf.Tensor:
        # Looked up where it is used: handles that cross into a loop lose what they point to (2.20).
        specs = self._given.values()
        return tf.raw_ops.FIFOQueueV2(
            component_types=[tf.int64, *(one.dtype for one in specs)],
            shapes=[[], *(one.shape[1:] for one in specs)],
            shared_name=f"{self._name}-rows",
        )


@dataclass(frozen=True)
class _Answers:
    """Answers that wait for their requests, by row: one table for each type, its values packed into one vector."""

    specs: Mapping[str, tf.TensorSpec]
    """Of the core's outputs, `[B,...]`."""
    name: str

    def put(self, keys: tf.Tensor, values: Tensors) -> tf.Operation:
        """Keep `values` `[B,...]` under `keys` `[B]`."""
        kept: list[tf.Operation] = []
        packed = self._pack(values)
        for dtype, rows in packed.items():
            # The types one after the other: who finds the last finds all.
            with tf.control_dependencies(kept):
                kept = [self._put(dtype, keys, rows)]
        return kept[0]

    def done(self, keys: tf.Tensor) -> tf.Tensor:
        """Tell which rows have their answer, bool `[B]`."""
        return self._find(tf.int32, keys)[:, 0] > 0

    def fetch(self, keys: tf.Tensor) -> list[tf.Tensor]:
        """Return the packed answers, and keep them no longer."""
        found = [self._find(dtype, keys) for dtype in self._widths()]
        with tf.control_dependencies(found):
            gone = [
                tf.raw_ops.LookupTableRemoveV2(table_handle=self._table(dtype), keys=keys) for dtype in self._widths()
            ]
        with tf.control_dependencies(gone):
            return [tf.identity(one) for one in found]

    def unpack(self, packed: Any) -> Tensors:
        """Return the outputs by name."""
        columns = dict(zip(self._widths(), packed, strict=True))
        columns[tf.int32] = columns[tf.int32][:, 1:]
        values = {}
        for name, spec in self.specs.items():
            width = spec.shape[1:].num_elements()
            shape = tf.concat([tf.shape(columns[spec.dtype])[:1], spec.shape[1:]], axis=0)
            values[name] = tf.ensure_shape(tf.reshape(columns[spec.dtype][:, :width], shape), spec.shape)
            columns[spec.dtype] = columns[spec.dtype][:, width:]
        return values

    def _pack(self, values: Tensors) -> dict[tf.DType, tf.Tensor]:
        rows = tf.shape(next(iter(values.values())))[0]
        columns: dict[tf.DType, list[tf.Tensor]] = {dtype: [] for dtype in self._widths()}
        columns[tf.int32].append(tf.ones([rows, 1], tf.int32))
        for name, value in values.items():
            columns[value.dtype].append(tf.reshape(value, [rows, self.specs[name].shape[1:].num_elements()]))
        return {dtype: tf.concat(parts, axis=1) for dtype, parts in columns.items()}

    def _widths(self) -> dict[tf.DType, int]:
        """Return how many values of each type a row has; int32, last, has one more that says: done."""
        widths = {spec.dtype: 0 for spec in self.specs.values() if spec.dtype != tf.int32} | {tf.int32: 1}
        for spec in self.specs.values():
            widths[spec.dtype] += spec.shape[1:].num_elements()
        return widths

    def _put(self, dtype: tf.DType, keys: tf.Tensor, rows: tf.Tensor) -> tf.Operation:
        table, width = self._table(dtype), self._widths()[dtype]
        size = tf.raw_ops.LookupTableSizeV2(table_handle=table)
        full = size > max(1, _ABANDONED_BYTES // (width * dtype.size))
        # Whoever still waits for an answer that goes with the abandoned ones computes it again.
        return tf.cond(
            full,
            lambda: tf.raw_ops.LookupTableImportV2(table_handle=self._table(dtype), keys=keys, values=rows),
            lambda: tf.raw_ops.LookupTableInsertV2(table_handle=self._table(dtype), keys=keys, values=rows),
        )

    def _find(self, dtype: tf.DType, keys: tf.Tensor) -> tf.Tensor:
        width = self._widths()[dtype]
        missing = tf.zeros([width], dtype)
        found = tf.raw_ops.LookupTableFindV2(table_handle=self._table(dtype), keys=keys, default_value=missing)
        return tf.ensure_shape(found, [None, width])

    def _table(self, dtype: tf.DType) -> tf.Tensor:
        return tf.raw_ops.MutableHashTableOfTensorsV2(
            key_dtype=tf.int64,
            value_dtype=dtype,
            value_shape=[self._widths()[dtype]],
            shared_name=f"{self.name}-{dtype.name}",
        )


def _one_at_a_time(function: Any, arguments: Sequence[tf.Tensor], name: str) -> Any:
    """Call `function` when all calls before have returned: its batches have room for one request, and one thread."""
    turn = tf.zeros([1], tf.bool)
    return _batch_function(function, turn, arguments, name, size=1, timeout_micros=0)


def _batch_function(
    function: Any, row: tf.Tensor, arguments: Sequence[tf.Tensor], name: str, *, size: int, timeout_micros: int
) -> Any:
    # Queue and tables live there, whatever device the core runs on.
    with tf.device("/device:CPU:0"):
        return tf.raw_ops.BatchFunction(
            in_tensors=[row],
            captured_tensors=[*arguments, *function.captured_inputs],
            f=function,
            num_batch_threads=1,
            max_batch_size=size,
            batch_timeout_micros=timeout_micros,
            max_enqueued_batches=_WAITING_REQUESTS,
            shared_name=name,
            batching_queue=name,
            Tout=[output.dtype for output in function.outputs],
        )
