"""Fold the explained graph: constants, scales and additions, without ever putting the kernels into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_export import contract
from gradcam_export.errors import OptionError
from gradcam_export.graph.folding.averages import average_kernels
from gradcam_export.graph.folding.editing import EditableGraph, producer_name, set_constant, set_placeholder
from gradcam_export.graph.folding.grappler import optimize
from gradcam_export.graph.folding.input_channels import fold_input_channels
from gradcam_export.graph.folding.one_hot import select_columns
from gradcam_export.graph.folding.paddings import fold_paddings
from gradcam_export.graph.folding.precision import compute_in_half
from gradcam_export.graph.folding.scales import fold_scales, merge_additions
from gradcam_export.graph.folding.shared_sums import part_activations, part_sums
from gradcam_export.graph.folding.slices import standard_slice_updates
from gradcam_export.graph.folding.weight_operations import drop_round_trips, fold_weight_operations

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from gradcam_export.graph.explain import ExplainedClassifier
    from gradcam_export.options import Precision, WeightStorage

SMALL_WEIGHT = 8192
"""Elements up to which a weight lies in the graph while it is folded: biases and statistics do, kernels do not."""

VARIABLE_BYTES, VARIABLE_VECTOR_BYTES = 256, 2**14
"""Constants above this size become variables again, so that all signatures share them.

Vectors, biases above all, may be longer: to hand a variable to each function takes longer than to read them.
"""

GRAPH_LIMIT = 2**31 - 1
"""Bytes a protobuf message, and so a graph with its constants, can have."""


@dataclass(frozen=True, kw_only=True)
class FoldedClassifier:
    """The finished graph, by the contract's names, and the weights its placeholders stand for."""

    graph_def: Any
    inputs: dict[str, str]
    """Input → tensor name."""
    outputs: dict[str, str]
    """Output → tensor name."""
    weights: Mapping[str, np.ndarray[Any, Any]]
    """Placeholder's name → value; empty where the weights are constants of the graph."""
    nodes: tuple[int, int]
    """Number of graph nodes before and after folding."""

    @property
    def ops(self) -> list[str]:
        """Operation types in use, sorted."""
        return sorted({node.op for node in self.graph_def.node})


def fold(
    explained: ExplainedClassifier, storage: WeightStorage = "variables", precision: Precision = "float32"
) -> FoldedClassifier:
    """Fold `explained`, with its weights left as variables or put in as constants.

    Raises:
        OptionError: the weights are too large to be constants of a graph, or no layer can compute in `precision`.
    """
    inputs = {name: tensor.name for name, tensor in explained.inputs.items()}
    outputs = {name: tensor.name for name, tensor in explained.outputs.items()}
    kept = [producer_name(tensor) for tensor in (*inputs.values(), *outputs.values())]
    graph_def = explained.traced.graph.as_graph_def()
    before = len(graph_def.node)
    weights = dict(explained.traced.weights)
    _bind_small_weights(graph_def, weights)
    _drop_custom_gradients(graph_def)
    graph_def = optimize(graph_def, kept, ["function", "constfold", "arithmetic", "constfold", "dependency"])
    graph = EditableGraph(graph_def, weights, kept)
    standard_slice_updates(graph)
    fold_weight_operations(graph)
    average_kernels(graph)
    while fold_scales(graph) + merge_additions(graph) + drop_round_trips(graph):
        pass
    select_columns(graph)
    fold_paddings(graph)
    fold_input_channels(graph)
    if precision != "float32":
        compute_in_half(graph, precision, outputs[contract.PREDICTIONS])
    # Who reads what is seen only once equals are one, as the runtime will make them.
    graph_def = optimize(graph.graph_def, kept, ["constfold", "common_subgraph_elimination", "dependency"])
    _part_sums(EditableGraph(graph_def, weights, kept))
    _drop_unread_weights(graph_def, weights)
    if storage == "variables":
        _take_out_constants(graph_def, weights)
    else:
        _put_in_constants(graph_def, weights)
        weights = {}
    return FoldedClassifier(
        graph_def=graph_def,
        inputs=inputs,
        outputs=outputs,
        weights=weights,
        nodes=(before, len(graph_def.node)),
    )


def _part_sums(graph: EditableGraph) -> None:
    part_sums(graph)
    part_activations(graph)


def _bind_small_weights(graph_def: Any, weights: dict[str, np.ndarray[Any, Any]]) -> None:
    """Turn small weights into constants, and reads of captured raw variables into what they read."""
    for node in graph_def.node:
        if node.op == "ReadVariableOp" and producer_name(node.input[0]) in weights:
            value = weights[producer_name(node.input[0])]
            set_placeholder(node, value)
            weights[node.name] = value
    for node in graph_def.node:
        small = node.op == "Placeholder" and node.name in weights and weights[node.name].size <= SMALL_WEIGHT
        if small and node.attr["dtype"].type != tf.resource.as_datatype_enum:
            set_constant(node, weights.pop(node.name))


def _drop_custom_gradients(graph_def: Any) -> None:
    """Let readers of an `IdentityN` read what it passes on.

    It carries a custom gradient (swish), taken by now, which hides the tensors from every optimiser and
    makes saving fail with "Found invalid capture" (2.20).
    """
    passed_on = {node.name: list(node.input) for node in graph_def.node if node.op == "IdentityN"}
    for node in graph_def.node:
        for index in range(len(node.input)):
            while not node.input[index].startswith("^") and producer_name(node.input[index]) in passed_on:
                name, _, position = node.input[index].partition(":")
                node.input[index] = passed_on[name][int(position or 0)]


def _drop_unread_weights(graph_def: Any, weights: dict[str, np.ndarray[Any, Any]]) -> None:
    """Remove placeholders that nothing reads: the optimiser takes each for an input and keeps it."""
    read = {producer_name(tensor) for node in graph_def.node for tensor in node.input}
    for node in [node for node in graph_def.node if node.name in weights and node.name not in read]:
        graph_def.node.remove(node)
    for name in weights.keys() - read:
        del weights[name]


def _take_out_constants(graph_def: Any, weights: dict[str, np.ndarray[Any, Any]]) -> None:
    for node in graph_def.node:
        # A value that repeats is written once, and takes no room whatever its shape.
        size = node.attr["value"].tensor.ByteSize() if node.op == "Const" else 0
        if size <= VARIABLE_BYTES or not tf.as_dtype(node.attr["dtype"].type).is_floating:
            continue
        value = tf.make_ndarray(node.attr["value"].tensor)
        is_vector = max(value.shape) == value.size
        if size > VARIABLE_VECTOR_BYTES or not is_vector:
            set_placeholder(node, value)
            weights[node.name] = value


def _put_in_constants(graph_def: Any, weights: dict[str, np.ndarray[Any, Any]]) -> None:
    size = graph_def.ByteSize() + sum(value.nbytes for value in weights.values())
    if size > GRAPH_LIMIT:
        raise OptionError(
            f"weights='constants' would make a graph of {size / 2**30:.1f} GiB; a graph can have 2 GiB. "
            "Use weights='variables'."
        )
    for node in graph_def.node:
        if node.op == "Placeholder" and node.name in weights:
            set_constant(node, weights[node.name])
