"""Keep activations apart from sums that others read too.

Where such a sum is that of a convolution and a shortcut, the runtime's optimiser fuses it with the activation alone,
finds another reader without what it read, and gives up: "remapper failed … missing node" in the log, and no kernel of
the whole graph is fused (2.20; Xception).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export.graph.shapes import BatchShapes

if TYPE_CHECKING:
    from gradcam_export.graph.editing import EditableGraph

_ACTIVATIONS = ("Relu", "Relu6", "Elu", "LeakyRelu", "Sigmoid", "Tanh")


def part_activations(graph: EditableGraph) -> int:
    """Put an operation that passes everything on between shared sums and their activations; return how many."""
    shared = [
        (total, reader)
        for total in graph.nodes("AddV2", "AddN")
        if not graph.used_once(total) and any(graph.producer(one).op == "BiasAdd" for one in total.input)
        for reader in graph.readers(total)
        if reader.op in _ACTIVATIONS
    ]
    if not shared:
        return 0
    shapes = BatchShapes(graph.graph_def, graph.weights)
    return sum(_part(graph, shapes, total, activation) for total, activation in shared)


def _part(graph: EditableGraph, shapes: BatchShapes, total: Any, activation: Any) -> bool:
    shape = shapes.of(total.name)
    if shape is None:
        return False
    # An identity would be removed, as would whatever stops gradients.
    name = graph.add_operation(f"{activation.name}/apart", "EnsureShape", [total.name], T=total.attr["T"].type)
    graph.producer(name).attr["shape"].shape.CopyFrom(tf.TensorShape([None] * len(shape)).as_proto())
    graph.set_input(activation, 0, name)
    return True
