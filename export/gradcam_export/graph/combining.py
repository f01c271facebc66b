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
_BITS = tf.int32
"""As what a table keeps the values of all types."""

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
            (packed,) = _one_at_a_time(turn, rows, self._name)
        return self._answers.unpack(packed[0])

    def _turn(self, turn: tf.Tensor, keys: tf.Tensor, *rows: tf.Tensor) -> list[tf.Tensor]:
        """Return the packed answers to `rows`, as `[1,B,...]`: a batch of one request."""
        answers = self._answers
        known = answers.find(keys)
        with tf.control_dependencies([known]):
            # Rows leave in the order they came: behind these, the queue no longer holds any of this request.
            before = waiting = self._waiting()
            if self._timeout:
                idle = answers.lack(known) & (before < self._sizes[-1])
                with tf.control_dependencies([tf.cond(idle, lambda: self._wait(turn), lambda: turn)]):
                    waiting = self._waiting()
        alone = tf.equal(waiting, tf.size(keys)) & ~tf.reduce_any(answers.there(known))
        alone &= tf.reduce_any(tf.equal(waiting, self._sizes))
        packed = tf.cond(
            alone, lambda: self._compute_alone(waiting, rows), lambda: self._combine(known, before, keys, rows)
        )
        return [tf.expand_dims(packed, 0)]

    def _compute_alone(self, count: tf.Tensor, rows: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the packed answers to `rows` where no others wait, without a detour over queue and table.

        Should the queue hold not these rows, which were lost, but as many of another request that came since, then
        those are lost now, and computed when it is their turn.
        """
        with tf.control_dependencies(self._dequeue(count)):
            return tf.identity(self._answer(rows))

    def _combine(self, known: tf.Tensor, before: tf.Tensor, keys: tf.Tensor, rows: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the packed answers to `rows`, once all are there: with each batch that is computed more are."""
        answers = self._answers

        def batch(known: tf.Tensor, before: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            taken, *inputs = tf.cond(before > 0, self._take, lambda: self._missing(known, [keys, *rows]))
            taken.set_shape([None])
            with tf.control_dependencies([answers.put(taken, self._compute(tf.size(taken), inputs))]):
                return answers.find(keys), before - tf.size(taken)

        known, _ = tf.while_loop(lambda known, _: answers.lack(known), batch, [known, before], parallel_iterations=1)
        with tf.control_dependencies([answers.forget(keys, after=known)]):
            return tf.identity(known)

    def _waiting(self) -> tf.Tensor:
        """Return how many rows the queue holds."""
        return tf.raw_ops.QueueSizeV2(handle=self._queue())

    def _dequeue(self, count: tf.Tensor) -> list[tf.Tensor]:
        """Take so many keys and rows out of the queue."""
        types = [tf.int64, *(one.dtype for one in self._given.values())]
        return tf.raw_ops.QueueDequeueManyV2(handle=self._queue(), n=count, component_types=types)

    def _take(self) -> list[tf.Tensor]:
        """Return keys and rows of the next batch."""
        return self._dequeue(tf.minimum(self._waiting(), self._sizes[-1]))

    def _missing(self, known: tf.Tensor, rows: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return as many of a request's own rows without answer as one batch holds."""
        positions = tf.where(~self._answers.there(known))[: self._sizes[-1], 0]
        return [tf.gather(one, positions) for one in rows]

    def _compute(self, count: tf.Tensor, rows: list[tf.Tensor]) -> tf.Tensor:
        """Return the packed answers to `count` rows."""
        place = tf.raw_ops.LowerBound(sorted_inputs=[self._sizes], values=tf.reshape(count, [1, 1]))
        size = tf.reshape(tf.gather(self._sizes, place), [])

        def padded() -> list[tf.Tensor]:
            positions = tf.minimum(tf.range(size), count - 1)
            return [tf.gather(one, positions) for one in rows]

        return self._answer(tf.cond(size > count, padded, lambda: rows))[:count]

    def _answer(self, rows: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the packed answers to as many rows as a batch may have."""
        for spec, one in zip(self._given.values(), rows, strict=True):
            one.set_shape(spec.shape)
        return self._answers.pack(self._core(dict(zip(self._given, rows, strict=True))))

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
    """Answers that wait for their requests, in a table: each row's values packed into one vector of their bits.

    Before them stands a one, where there is an answer.
    """

    specs: Mapping[str, tf.TensorSpec]
    """Of the core's outputs, `[B,...]`, of types as wide as `_BITS`."""
    name: str

    def pack(self, values: Tensors) -> tf.Tensor:
        """Return the outputs as `find` returns them."""
        first = next(iter(values.values()))
        columns = [tf.ones([tf.shape(first)[0], 1], _BITS)]
        for name, width in zip(self.specs, self._widths(), strict=True):
            columns.append(tf.reshape(tf.bitcast(values[name], _BITS), [-1, width]))
        return tf.concat(columns, axis=1)

    def unpack(self, packed: tf.Tensor) -> Tensors:
        """Return the outputs by name."""
        _, *columns = tf.split(packed, [1, *self._widths()], axis=1)
        values = {}
        for (name, spec), column in zip(self.specs.items(), columns, strict=True):
            values[name] = tf.reshape(tf.bitcast(column, spec.dtype), [-1, *spec.shape[1:]])
        return values

    def there(self, packed: tf.Tensor) -> tf.Tensor:
        """Tell which rows have their answer, bool `[B]`."""
        return packed[:, 0] > 0

    def lack(self, packed: tf.Tensor) -> tf.Tensor:
        """Tell whether a row has no answer."""
        return ~tf.reduce_all(self.there(packed))

    def put(self, keys: tf.Tensor, packed: tf.Tensor) -> tf.Operation:
        """Keep `packed` `[B,...]` under `keys` `[B]`."""
        room = max(1, _ABANDONED_BYTES // (self._row_width() * _BITS.size))
        full = tf.raw_ops.LookupTableSizeV2(table_handle=self._table()) > room
        # Whoever still waits for an answer that goes with the abandoned ones computes it again.
        return tf.cond(
            full,
            lambda: tf.raw_ops.LookupTableImportV2(table_handle=self._table(), keys=keys, values=packed),
            lambda: tf.raw_ops.LookupTableInsertV2(table_handle=self._table(), keys=keys, values=packed),
        )

    def find(self, keys: tf.Tensor) -> tf.Tensor:
        """Return the packed answers to the rows of `keys`, zeros where there is none."""
        missing = tf.zeros([self._row_width()], _BITS)
        found = tf.raw_ops.LookupTableFindV2(table_handle=self._table(), keys=keys, default_value=missing)
        found.set_shape([None, self._row_width()])
        return found

    def forget(self, keys: tf.Tensor, after: tf.Tensor) -> tf.Operation:
        """Keep the answers to the rows of `keys` no longer, when there is `after`."""
        with tf.control_dependencies([after]):
            return tf.raw_ops.LookupTableRemoveV2(table_handle=self._table(), keys=keys)

    def _table(self) -> tf.Tensor:
        return tf.raw_ops.MutableHashTableOfTensorsV2(
            key_dtype=tf.int64, value_dtype=_BITS, value_shape=[self._row_width()], shared_name=f"{self.name}-answers"
        )

    def _row_width(self) -> int:
        return 1 + sum(self._widths())

    def _widths(self) -> list[int]:
        """Return how many values a row has of each output."""
        return [spec.shape[1:].num_elements() for spec in self.specs.values()]


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
