"""Keep kernels from fusing with sums where the runtime does that wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export.graph.folding.editing import producer_name
from gradcam_export.graph.folding.shapes import BatchShapes

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph

_ACTIVATIONS = ("Relu", "Relu6", "Elu", "LeakyRelu", "Sigmoid", "Tanh")
_KERNELS = frozenset(("Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul"))
_SUMS = ("AddV2", "AddN")
_SAME_MEMORY = frozenset(("Identity", "Reshape", "Squeeze", "ExpandDims", "EnsureShape", "Placeholder"))
"""What comes out of these may lie where others read it."""


def part_activations(graph: EditableGraph) -> int:
    """Put an operation that passes everything on between shared sums and their activations; return how many.

    Where such a sum is that of a convolution and a shortcut, the runtime's optimiser fuses it with the activation
    alone, finds another reader without what it read, and gives up: "remapper failed … missing node" in the log, and no
    kernel of the whole graph is fused (2.20; Xception).
    """
    return _part(
        graph,
        [
            (reader, 0)
            for total in graph.nodes(*_SUMS)
            if not graph.used_once(total) and any(graph.producer(one).op == "BiasAdd" for one in total.input)
            for reader in graph.readers(total)
            if reader.op in _ACTIVATIONS
        ],
    )


def part_sums(graph: EditableGraph) -> int:
    """Put such an operation between convolutions and sums with what others may still read; return how many.

    A fused kernel adds into the memory of the other summand. Where that is still needed it makes a copy first, by
    objects that all calls share: two requests in it at once mix up their values, or end the process (oneDNN in 2.20;
    NASNet). So only those sums may fuse whose other summand has been read by all its other readers by then.
    """
    return _part(
        graph,
        [
            (total, index)
            for total in graph.nodes(*_SUMS)
            if len(total.input) == 2
            for index, (one, other) in enumerate(zip(total.input, reversed(total.input), strict=True))
            if _may_fuse(graph, graph.producer(one)) and not _is_free(graph, graph.producer(other), total, one)
        ],
    )


def _may_fuse(graph: EditableGraph, biased: Any) -> bool:
    """Whether a node is a kernel's answer with its bias, which nothing but one sum reads."""
    if biased.op not in ("BiasAdd", "AddV2") or not graph.used_once(biased):
        return False
    added = [graph.producer(one) for one in biased.input]
    return any(one.op in _KERNELS for one in added) and any(graph.is_known(one) for one in added)


def _is_free(graph: EditableGraph, summand: Any, total: Any, one: str) -> bool:
    """Whether nothing but `total` can still read `summand` once the tensor `one` is there."""
    if graph.is_known(summand) or graph.is_kept(summand) or summand.op in _SAME_MEMORY:
        return False
    others = [reader.name for reader in graph.readers(summand) if reader.name != total.name]
    return not others or set(others) <= _ancestors(graph, one)


def _ancestors(graph: EditableGraph, tensor: str) -> set[str]:
    """Return the names of all nodes that have run when `tensor` is there."""
    found: set[str] = set()
    waiting = [producer_name(tensor)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(producer_name(one) for one in graph.producer(name).input)
    return found


def _part(graph: EditableGraph, places: list[tuple[Any, int]]) -> int:
    """Part each of these nodes from the input of that number; return how many."""
    shapes = BatchShapes(graph.graph_def, graph.weights)
    return sum(_apart(graph, shapes, reader, index) for reader, index in places)


def _apart(graph: EditableGraph, shapes: BatchShapes, reader: Any, index: int) -> bool:
    read = reader.input[index]
    rank = shapes.rank(read)
    if rank is None:
        return False
    # An identity would be removed, as would whatever stops gradients.
    name = graph.add_operation(f"{reader.name}/apart_{index}", "EnsureShape", [read], T=reader.attr["T"].type)
    graph.producer(name).attr["shape"].shape.CopyFrom(tf.TensorShape([None] * rank).as_proto())
    graph.set_input(reader, index, name)
    return True
