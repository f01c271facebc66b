"""Tell the functions of a SavedModel the shapes of the variables that they are called with."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf
from tensorflow.core.framework import tensor_shape_pb2
from tensorflow.core.protobuf import saved_model_pb2

from gradcam_export.savedmodel.base_path import SAVED_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_FIRST_ARGUMENT = {
    **dict.fromkeys(("PartitionedCall", "StatefulPartitionedCall", "BatchFunction", "While", "StatelessWhile"), 0),
    **dict.fromkeys(("If", "StatelessIf", "Case", "StatelessCase"), 1),
}
"""Operation → the first of its inputs that the functions take which it calls."""


class _Variable(NamedTuple):
    dtype: int
    shape: bytes
    """A serialised `TensorShapeProto`."""


def tell_variable_shapes(directory: Path) -> None:
    """Rewrite the SavedModel in `directory`.

    A function that is optimised as a graph of its own, as that of a `BatchFunction` is, knows the shapes of its inputs
    but not those of its variables (TensorFlow 2.18 to 2.21): of no kernel, and so of no unpadded convolution. Sums
    of two stay operations of their own then, and activations behind them likewise, for such a sum might broadcast.
    What the attributes of an argument say of a variable is believed.
    """
    path = directory / SAVED_MODEL_FILE
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        _Calls(meta_graph.graph_def).tell()
    path.write_bytes(saved_model.SerializeToString())


class _Calls:
    """All calls of the functions of a graph."""

    def __init__(self, graph_def: Any) -> None:
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._given: dict[tuple[str, int], set[_Variable | None]] = defaultdict(set)
        """Function and place of the argument → what it is in any call."""
        self._seen: set[tuple[str, tuple[_Variable | None, ...]]] = set()
        variables = {}
        for node in graph_def.node:
            if node.op == "VarHandleOp":
                variables[node.name] = _Variable(node.attr["dtype"].type, node.attr["shape"].shape.SerializeToString())
        self._follow(graph_def.node, variables)

    def tell(self) -> None:
        """Write down what the arguments are that are the same in all calls."""
        for (name, place), given in self._given.items():
            (variable, *others) = given
            if variable is not None and not others:
                told = self._functions[name].arg_attr[place].attr
                told["_handle_dtypes"].list.type.append(variable.dtype)
                told["_handle_shapes"].list.shape.append(tensor_shape_pb2.TensorShapeProto.FromString(variable.shape))

    def _follow(self, nodes: Iterable[Any], variables: Mapping[str, _Variable]) -> None:
        for node in nodes:
            if node.op in _FIRST_ARGUMENT:
                inputs = [name.partition(":")[0] for name in node.input if not name.startswith("^")]
                given = tuple(variables.get(name) for name in inputs[_FIRST_ARGUMENT[node.op] :])
                for value in node.attr.values():
                    for called in (value.func, *value.list.func):
                        self._enter(called.name, given)

    def _enter(self, name: str, given: tuple[_Variable | None, ...]) -> None:
        if name not in self._functions or (name, given) in self._seen:
            return
        self._seen.add((name, given))
        arguments = {}
        function = self._functions[name]
        for place, (argument, variable) in enumerate(zip(function.signature.input_arg, given, strict=True)):
            if argument.type == tf.resource.as_datatype_enum:
                self._given[name, place].add(variable)
            if variable is not None:
                arguments[argument.name] = variable
        self._follow(function.node_def, arguments)
