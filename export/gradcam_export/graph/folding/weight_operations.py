"""Do once, at export, what the graph would do to a weight on every call.

Half-precision policies cast every float32 variable each time a layer is called; one-dimensional convolutions give
their kernel a further axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph


def fold_weight_operations(graph: EditableGraph) -> int:
    """Put the results of `Cast` and `ExpandDims` of weights in their place; return how many."""
    done: dict[tuple[str, ...], str] = {}
    total = 0
    while count := sum(_fold_weight_operation(graph, node, done) for node in graph.nodes("Cast", "ExpandDims")):
        total += count
    return total


def drop_round_trips(graph: EditableGraph) -> int:
    """Let readers of a value that was widened and narrowed back, which changes nothing, read it; return how many."""
    return sum(_drop_round_trip(graph, node) for node in graph.nodes("Cast"))


def widens(cast: Any) -> bool:
    """Whether a `Cast` between floating types keeps every value."""
    source, destination = (tf.as_dtype(cast.attr[name].type) for name in ("SrcT", "DstT"))
    return bool(source.is_floating and destination.is_floating and source.size < destination.size)


def _fold_weight_operation(graph: EditableGraph, node: Any, done: dict[tuple[str, ...], str]) -> bool:
    source = graph.producer(node.input[0])
    if source.name not in graph.weights or not tf.as_dtype(graph.weights[source.name].dtype).is_floating:
        return False  # a quantised kernel stays small
    result = _cast(graph, node, source) if node.op == "Cast" else _expand(graph, node, source)
    if result is None:
        return False
    value, unrounded = result
    key = (source.name, str(value.dtype), str(value.shape))
    if key in done:
        graph.set_operation(node, "Identity", [done[key]], T=tf.as_dtype(value.dtype).as_datatype_enum)
        return True
    done[key] = node.name
    graph.bind(node, value)
    if unrounded is not None:
        graph.unrounded[node.name] = unrounded
    return True


def _cast(graph: EditableGraph, node: Any, source: Any) -> tuple[Any, Any] | None:
    """Return the rounded weight and what it was before, if that was wider."""
    destination = tf.as_dtype(node.attr["DstT"].type)
    if not destination.is_floating or node.attr["Truncate"].b:
        return None
    weight = graph.weights[source.name]
    return weight.astype(destination.as_numpy_dtype), None if widens(node) else weight


def _expand(graph: EditableGraph, node: Any, source: Any) -> tuple[Any, Any] | None:
    axis = graph.value(graph.producer(node.input[1]))
    if axis is None:
        return None
    unrounded = graph.unrounded.get(source.name)
    value = np.expand_dims(graph.weights[source.name], int(axis))
    return value, None if unrounded is None else np.expand_dims(unrounded, int(axis))


def _drop_round_trip(graph: EditableGraph, narrowing: Any) -> bool:
    before = graph.producer(narrowing.input[0])
    while before.op == "Identity" and not graph.is_kept(before):
        before = graph.producer(before.input[0])
    if before.op != "Cast" or not widens(before) or graph.is_kept(before):
        return False
    if before.attr["SrcT"].type != narrowing.attr["DstT"].type:
        return False
    graph.set_operation(narrowing, "Identity", [before.input[0]], T=before.attr["SrcT"].type)
    return True
