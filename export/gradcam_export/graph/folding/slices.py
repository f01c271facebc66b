"""Write slices that are replaced with an operation that a stock server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph

SLICE_UPDATE: Final = "XlaDynamicUpdateSlice"
"""What `keras.ops.slice_update` is traced to (Keras 3.15). Its kernel calls XLA, which is switched off in a server."""


def standard_slice_updates(graph: EditableGraph) -> int:
    """Let `TensorStridedSliceUpdate` do what XLA's operation does; return how often.

    XLA moves a slice that would reach beyond the tensor to where it fits: starts are clamped likewise.
    """
    found = graph.nodes(SLICE_UPDATE)
    for node in found:
        _standardise(graph, node)
    return len(found)


def _standardise(graph: EditableGraph, node: Any) -> None:
    tensor, update, start = node.input
    index = node.attr["Tindices"].type

    def computed(name: str, op: str, *inputs: str, **types: int) -> str:
        return graph.add_operation(f"{node.name}/{name}", op, list(inputs), **({"T": index} | types))

    def constant(name: str, value: int) -> str:
        return graph.add_constant(f"{node.name}/{name}", np.array(value, tf.as_dtype(index).as_numpy_dtype))

    element = node.attr["T"].type
    whole = computed("whole", "Shape", tensor, T=element, out_type=index)
    size = computed("size", "Shape", update, T=element, out_type=index)
    last = computed("last", "Sub", whole, size)
    fits = computed("fits", "Minimum", start, last)
    begin = computed("begin", "Maximum", fits, constant("zero", 0))
    end = computed("end", "AddV2", begin, size)
    strides = computed("strides", "OnesLike", size)
    graph.set_operation(node, "TensorStridedSliceUpdate", [tensor, begin, end, strides, update], Index=index)
