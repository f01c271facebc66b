"""The operations between the input and the class score, and the tensors that all paths cross."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tensorflow as tf

CONTRACTIONS = frozenset(
    (
        *("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "XlaDotV2"),
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
    )
)
"""What sums over an axis with weights, or with another tensor."""
_LOOKUPS = frozenset(("GatherV2", "ResourceGather"))
LOOPS = frozenset(("While", "StatelessWhile"))
OPAQUE_CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
"""Calls of functions that were finished before tracing."""
_MEASURES = frozenset(("Shape", "ShapeN", "Size", "Rank"))
_SELECTIONS = frozenset(("StridedSlice", "Slice", "GatherV2", "Split", "SplitV", "Unpack"))


class Cone:
    """The operations on floating paths from `start` to `end`, in the order in which they run."""

    def __init__(self, start: tf.Tensor, end: tf.Tensor) -> None:
        self.operations = _operations_between(start, end)
        """In the order of creation, which is topological."""
        self._position = {operation: index for index, operation in enumerate(self.operations)}

    def precedes(self, tensor: tf.Tensor, other: tf.Tensor) -> bool:
        """Whether both lie in the cone, or `other` at least, and `tensor` comes before it."""
        first, second = (self._position.get(one.op, -1) for one in (tensor, other))
        return 0 <= first < second

    def learned_cuts(self) -> list[tf.Tensor]:
        """Return the tensors that every path crosses after something learned: before it there is only the input."""
        return self._learned_cuts

    @cached_property
    def _learned_cuts(self) -> list[tf.Tensor]:
        return list(self._cuts())

    def _cuts(self) -> Iterator[tf.Tensor]:
        """Yield the cuts in order: operations that no edge from an earlier one reaches past."""
        farthest = scattered = 0
        learned = False
        for index, operation in enumerate(self.operations):
            # Dilated convolutions lay blocks of the image along the batch, where rows are no longer images.
            scattered += {"SpaceToBatchND": 1, "BatchToSpaceND": -1}.get(operation.type, 0)
            learned = learned or operation.type in CONTRACTIONS | _LOOKUPS | LOOPS
            used = [(tensor, found) for tensor in operation.outputs if (found := self._readers(tensor))]
            if farthest <= index and len(used) == 1 and learned and not scattered:
                yield used[0][0]
            farthest = max([farthest, *(reader for _, readers in used for reader in readers)])

    def _readers(self, tensor: tf.Tensor) -> list[int]:
        return [self._position[reader] for reader in tensor.consumers() if reader in self._position]

    def reads_one_of(self, count: int, tensor: tf.Tensor) -> bool:
        """Whether one of the `count` rows of `tensor` `[B,count,K]` is all that is read of them before they mix."""
        after = self.operations[self._position.get(tensor.op, len(self.operations)) + 1 :]
        for operation in after:
            if self._mixes(operation):
                return False
            if operation.type in _SELECTIONS and _takes_one_of(count, operation):
                return True
        return False

    def _mixes(self, operation: tf.Operation) -> bool:
        """Whether it sums over positions with weights that the input itself gives, as attention does, or loops."""
        inside = [tensor for tensor in operation.inputs if tensor.op in self._position]
        return operation.type in LOOPS or (operation.type in CONTRACTIONS and len(inside) > 1)


def _takes_one_of(count: int, operation: tf.Operation) -> bool:
    before, after = operation.inputs[0].shape, operation.outputs[0].shape
    if before.rank != 3 or before[1] != count or count < 2:
        return False
    return bool(after.rank == 2 or (after.rank == 3 and after[1] == 1))


def _operations_between(start: tf.Tensor, end: tf.Tensor) -> list[tf.Operation]:
    forward: set[tf.Operation] = set()
    frontier = list(start.consumers())
    while frontier:
        operation = frontier.pop()
        if operation not in forward:
            forward.add(operation)
            onward = [tensor for tensor in operation.outputs if _carries(tensor, start)]
            frontier += [user for tensor in onward for user in tensor.consumers()]
    backward: set[tf.Operation] = set()
    frontier = [end.op]
    while frontier:
        operation = frontier.pop()
        if operation in forward and operation not in backward:
            backward.add(operation)
            frontier += [tensor.op for tensor in operation.inputs]
    return [operation for operation in end.graph.get_operations() if operation in backward]


def reaches(start: tf.Tensor, end: tf.Tensor) -> bool:
    """Whether `end` depends on `start` in any way, differentiable or not."""
    seen: set[tf.Operation] = set()
    frontier = [end.op]
    while frontier:
        operation = frontier.pop()
        if operation is start.op:
            return True
        if operation not in seen:
            seen.add(operation)
            frontier += [tensor.op for tensor in operation.inputs]
    return False


def _carries(tensor: tf.Tensor, start: tf.Tensor) -> bool:
    """Whether values of the input flow on: floats, spectra, the lists of loops, tokens until they are floats."""
    if tensor.dtype.is_integer:
        return bool(start.dtype.is_integer and tensor.op.type not in _MEASURES)
    return bool(tensor.dtype.is_floating or tensor.dtype.is_complex or tensor.dtype.name == "variant")
