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

    Attributes:
        unrounded: wider values of those weights that were rounded to a half type; scaled like them, and rounded once.
    """

    def __init__(self, graph_def: Any, weights: dict[str, np.ndarray[Any, Any]], kept: Iterable[str]) -> None:
        self.graph_def = graph_def
        self.weights = weights
        self.unrounded: dict[str, np.ndarray[Any, Any]] = {}
        self._nodes = {node.name: node for node in graph_def.node}
        self._uses = Counter(producer_name(tensor) for node in graph_def.node for tensor in node.input)
        self._kept = frozenset(kept)
        self._uses.update(self._kept)

    def nodes(self, *ops: str) -> list[Any]:
        """Return the nodes of the given operation types, in graph order."""
        return [node for node in self.graph_def.node if node.op in ops]

    def has(self, name: str) -> bool:
        """Whether there is a node of this name."""
        return name in self._nodes

    def producer(self, tensor: str) -> Any:
        """Return the node that makes `tensor`."""
        return self._nodes[producer_name(tensor)]

    def readers(self, node: Any) -> list[Any]:
        """Return the nodes that read `node` and are needed themselves, in graph order."""
        needed = (reader for reader in self.graph_def.node if self._uses[reader.name] > 0)
        return [reader for reader in needed if node.name in map(producer_name, reader.input)]

    def used_once(self, node: Any) -> bool:
        """Whether exactly one place needs `node`."""
        return self._uses[node.name] == 1

    def is_kept(self, node: Any) -> bool:
        """Whether `node` is an input or output of the graph: its readers must go on reading it."""
        return node.name in self._kept

    def is_known(self, node: Any) -> bool:
        """Whether `node` always holds the same: a constant or a weight."""
        return node.op == "Const" or node.name in self.weights

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

    def bind(self, node: Any, value: np.ndarray[Any, Any]) -> None:
        """Make `node` a placeholder that stands for `value`."""
        before = list(node.input)
        set_placeholder(node, value)
        self.weights[node.name] = value
        self._release(before)

    def add_weight(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add a placeholder that stands for `value`; return its name."""
        set_placeholder(self._add(name, "Placeholder"), value)
        self.weights[name] = value
        return name

    def set_weight(
        self, node: Any, index: int, value: np.ndarray[Any, Any], unrounded: np.ndarray[Any, Any] | None = None
    ) -> None:
        """Let `node` read `value` as its input number `index`: in place of the weight there, if nothing else reads it.

        Constants, and weights that the gradient or a second layer reads too, stay as they are.
        """
        name = producer_name(node.input[index])
        if name in self.weights and self.used_once(self._nodes[name]):
            self.weights[name] = value
        else:
            name = self.add_weight(f"{node.name}/folded_kernel", value)
            self.set_input(node, index, name)
        if unrounded is not None:
            self.unrounded[name] = unrounded

    def add_constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add a constant; return its name."""
        set_constant(self._add(name, "Const"), value)
        return name

    def add_operation(self, name: str, op: str, inputs: list[str], **attributes: str | int | bool) -> str:
        """Add an operation; return its name."""
        node = self._add(name, op)
        node.input.extend(inputs)
        self._uses.update(producer_name(tensor) for tensor in inputs)
        _set_attributes(node, attributes)
        return name

    def set_operation(self, node: Any, op: str, inputs: list[str], **attributes: str | int | bool) -> None:
        """Make `node` another operation on other inputs; its name stays, and its element type if it has one."""
        element_type = node.attr["T"].type
        self._uses.update(producer_name(tensor) for tensor in inputs)
        before = list(node.input)
        node.op = op
        del node.input[:]
        node.input.extend(inputs)
        node.attr.clear()
        node.attr["T"].type = element_type
        _set_attributes(node, attributes)
        self._release(before)

    def set_input(self, node: Any, index: int, tensor: str) -> None:
        """Let `node` read `tensor` as its input number `index`."""
        self._uses[producer_name(tensor)] += 1
        before = node.input[index]
        node.input[index] = tensor
        self._release([before])

    def _release(self, tensors: list[str]) -> None:
        """Count one use less of each; what nothing needs any more needs nothing itself."""
        pending = list(tensors)
        while pending:
            name = producer_name(pending.pop())
            self._uses[name] -= 1
            if self._uses[name] == 0:
                pending += self._nodes[name].input

    def _add(self, name: str, op: str) -> Any:
        node = self.graph_def.node.add(name=name, op=op)
        self._nodes[name] = node
        return node


def _set_attributes(node: Any, attributes: dict[str, str | int | bool]) -> None:
    """Set strings, switches, and element types by their number."""
    for name, value in attributes.items():
        if isinstance(value, str):
            node.attr[name].s = value.encode()
        elif isinstance(value, bool):
            node.attr[name].b = value
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
