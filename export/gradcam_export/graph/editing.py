"""A GraphDef that can be looked at and edited by node."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np


def producer_name(tensor: str) -> str:
    """Return the name of the node that makes `tensor`: `^node`, `node`, or `node:index`."""
    return tensor.lstrip("^").split(":")[0]


class EditableGraph:
    """Nodes of a GraphDef by name, with the weights that its placeholders stand for.

    Edits are in place; nodes that nothing needs any more are left for the optimiser to prune.
    """

    def __init__(self, graph_def: Any, weights: dict[str, np.ndarray[Any, Any]], kept: Iterable[str]) -> None:
        self.graph_def = graph_def
        self.weights = weights
        self._nodes = {node.name: node for node in graph_def.node}
        self._uses = Counter(producer_name(tensor) for node in graph_def.node for tensor in node.input)
        self._uses.update(kept)

    def nodes(self, *ops: str) -> list[Any]:
        """Return the nodes of the given operation types, in graph order."""
        return [node for node in self.graph_def.node if node.op in ops]

    def producer(self, tensor: str) -> Any:
        """Return the node that makes `tensor`."""
        return self._nodes[producer_name(tensor)]

    def used_once(self, node: Any) -> bool:
        """Whether exactly one place needs `node`."""
        return self._uses[node.name] == 1

    def value(self, node: Any) -> np.ndarray[Any, Any] | None:
        """Return what `node` always holds, or `None` where that depends on the request."""
        if node.op == "Const":
            return tf.make_ndarray(node.attr["value"].tensor)
        return self.weights.get(node.name)

    def shape(self, node: Any) -> tuple[int, ...]:
        """Return the shape of a constant's or placeholder's value."""
        if node.op == "Const":
            return tuple(dim.size for dim in node.attr["value"].tensor.tensor_shape.dim)
        return tuple(dim.size for dim in node.attr["shape"].shape.dim)

    def add_weight(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add a placeholder that stands for `value`; return its name."""
        set_placeholder(self._add(name, "Placeholder"), value)
        self.weights[name] = value
        return name

    def add_constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add a constant; return its name."""
        set_constant(self._add(name, "Const"), value)
        return name

    def add_operation(self, name: str, op: str, inputs: list[str], **attributes: str | int) -> str:
        """Add an operation; return its name."""
        node = self._add(name, op)
        node.input.extend(inputs)
        self._uses.update(producer_name(tensor) for tensor in inputs)
        _set_attributes(node, attributes)
        return name

    def set_operation(self, node: Any, op: str, inputs: list[str], **attributes: str | int) -> None:
        """Make `node` another operation on other inputs; its name and element type stay."""
        element_type = node.attr["T"].type
        self._uses.subtract(producer_name(tensor) for tensor in node.input)
        self._uses.update(producer_name(tensor) for tensor in inputs)
        node.op = op
        del node.input[:]
        node.input.extend(inputs)
        node.attr.clear()
        node.attr["T"].type = element_type
        _set_attributes(node, attributes)

    def set_input(self, node: Any, index: int, tensor: str) -> None:
        """Let `node` read `tensor` as its input number `index`."""
        self._uses[producer_name(node.input[index])] -= 1
        self._uses[producer_name(tensor)] += 1
        node.input[index] = tensor

    def _add(self, name: str, op: str) -> Any:
        node = self.graph_def.node.add(name=name, op=op)
        self._nodes[name] = node
        return node


def _set_attributes(node: Any, attributes: dict[str, str | int]) -> None:
    """Set strings, and element types by their number."""
    for name, value in attributes.items():
        if isinstance(value, str):
            node.attr[name].s = value.encode()
        else:
            node.attr[name].type = value


def set_constant(node: Any, value: np.ndarray[Any, Any]) -> None:
    """Make `node` a constant."""
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def set_placeholder(node: Any, value: np.ndarray[Any, Any]) -> None:
    """Make `node` a placeholder of the type and shape of `value`."""
    name = node.name
    node.Clear()
    node.name, node.op = name, "Placeholder"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
