"""Fold what is done to each channel before a convolution into its kernel: an image is then not rewritten for it.

Preprocessing is such work: scales, and channels in reverse order (BGR) for a kernel that would as well be reversed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import tensorflow as tf

from gradcam_export.graph.folding.editing import producer_name
from gradcam_export.graph.folding.shapes import BatchShapes

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph

    Array = np.ndarray[Any, np.dtype[Any]]

_COMBINING = ("AddV2", "Sub", "BiasAdd", "Mul")
_MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
_WIDE = (tf.float32.as_datatype_enum, tf.float64.as_datatype_enum)


@dataclass(frozen=True)
class _Known:
    """An input of an operation whose value is known."""

    node: Any
    index: int
    value: Array


class _Change(ABC):
    """What is done to the channels of a tensor, and would as well be done later."""

    def fits(self, channels: int) -> bool:  # noqa: ARG002 - for changes of so many
        """Whether it can be done to a tensor of so many channels."""
        return True

    @abstractmethod
    def addend(self, constant: Array) -> Array:
        """Return what to add before, `[C]` or one value, for `constant` to be added after the change."""

    @abstractmethod
    def factor(self, constant: Array) -> Array:
        """Return what to multiply with before, likewise."""

    @abstractmethod
    def kernel(self, value: Array) -> Array:
        """Return the kernel `[kh,kw,C,M]` that makes of the unchanged tensor what `value` makes of the changed one."""


@final
@dataclass(frozen=True)
class _Scale(_Change):
    factors: Array
    """`[C]` or `[]`, none of them 0."""

    def fits(self, channels: int) -> bool:
        return self.factors.size in (1, channels)

    def addend(self, constant: Array) -> Array:
        return constant / self.factors

    def factor(self, constant: Array) -> Array:
        return constant

    def kernel(self, value: Array) -> Array:
        return value * self.factors[..., np.newaxis]


@final
class _Reverse(_Change):
    def addend(self, constant: Array) -> Array:
        return constant[::-1] if constant.ndim else constant

    def factor(self, constant: Array) -> Array:
        return self.addend(constant)

    def kernel(self, value: Array) -> Array:
        return value[:, :, ::-1]


def fold_input_channels(graph: EditableGraph) -> int:
    """Fold scales and reversals of channels into the convolution that comes after them; return how many."""
    changing = [node for node in graph.nodes("Mul", "StridedSlice", "ReverseV2") if _change(graph, node) is not None]
    shapes = BatchShapes(graph.graph_def, graph.weights)
    # The last first: then none lies in another's way.
    return sum(_fold_change(graph, shapes, node) for node in reversed(changing))


def _fold_change(graph: EditableGraph, shapes: BatchShapes, node: Any) -> bool:
    found = _change(graph, node)
    path, kernel = _path_to_kernel(graph, node)
    if found is None or kernel is None:
        return False
    tensor, change = found
    shape, channels = shapes.of(tensor), kernel.value.shape[2]
    constants = [known for one in path if (known := _combined(graph, one)) is not None]
    # Of one channel, the tensor might be spread over as many as the constants have.
    if shape is None or shape[-1][0] != channels or any(one.value.size not in (1, channels) for one in constants):
        return False
    if not change.fits(channels):
        return False
    for one in constants:
        moved = change.factor(one.value) if one.node.op == "Mul" else change.addend(one.value)
        name = graph.add_constant(f"{node.name}/{one.node.name}/moved", np.ascontiguousarray(moved, one.value.dtype))
        graph.set_input(one.node, one.index, name)
    graph.set_weight(kernel.node, kernel.index, np.ascontiguousarray(change.kernel(kernel.value), kernel.value.dtype))
    graph.set_operation(node, "Identity", [tensor])
    return True


def _change(graph: EditableGraph, node: Any) -> tuple[str, _Change] | None:
    """Return what `node` changes, and how."""
    if node.op != "Mul":
        return (node.input[0], _Reverse()) if _reverses_channels(graph, node) else None
    factors = _combined(graph, node)
    if factors is None or node.attr["T"].type not in _WIDE or not np.all(factors.value != 0):
        return None
    return node.input[1 - factors.index], _Scale(factors.value)


def _reverses_channels(graph: EditableGraph, node: Any) -> bool:
    """Whether `node` reverses the last of four axes, and does nothing else."""
    inputs = [graph.value(graph.producer(name)) for name in node.input[1:]]
    last = inputs[-1]
    if last is None or any(one is None for one in inputs):
        return False
    if node.op == "ReverseV2":
        return last.tolist() in ([-1], [3])
    begin, end, ellipsis, *cuts = (node.attr[f"{name}_mask"].i for name in _MASKS)
    every = 2**last.size - 1
    backwards = last.tolist() == [1] * (last.size - 1) + [-1]
    return backwards and (ellipsis > 0 or last.size == 4) and (begin & end | ellipsis) == every and not any(cuts)


def _path_to_kernel(graph: EditableGraph, start: Any) -> tuple[list[Any], _Known | None]:
    """Return what lies between `start` and the one convolution that it is made for, and that one's kernel."""
    path: list[Any] = []
    node = start
    while graph.used_once(node) and not graph.is_kept(node):
        (reader,) = graph.readers(node)
        if reader.op == "Conv2D" and producer_name(reader.input[0]) == node.name:
            return path, _kernel(graph, reader)
        if not _leaves_channels_apart(graph, reader):
            break
        path.append(reader)
        node = reader
    return path, None


def _leaves_channels_apart(graph: EditableGraph, node: Any) -> bool:
    if node.op == "Pad":
        zeros = graph.value(graph.producer(node.input[1]))
        return zeros is not None and not zeros[-1].any()
    return node.op == "Identity" or (node.op in _COMBINING and _combined(graph, node) is not None)


def _kernel(graph: EditableGraph, convolution: Any) -> _Known | None:
    """Return the kernel, where it is a weight of this convolution alone, or small, and takes the channels last."""
    source = graph.producer(convolution.input[1])
    value = graph.value(source)
    own = source.op == "Const" or graph.used_once(source)
    if value is None or not own or convolution.attr["data_format"].s not in (b"", b"NHWC"):
        return None
    return _Known(convolution, 1, value)


def _combined(graph: EditableGraph, node: Any) -> _Known | None:
    """Return the constant that `node` combines a tensor with, `[C]` or `[]`."""
    for index, tensor in enumerate(node.input):
        producer = graph.producer(tensor)
        value = graph.value(producer) if producer.op == "Const" else None
        if value is not None and value.size == (value.shape[-1] if value.ndim else 1):
            return _Known(node, index, value.reshape(-1) if value.size > 1 else value.reshape(()))
    return None
