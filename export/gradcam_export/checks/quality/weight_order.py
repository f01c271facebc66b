"""Which weights of a graph come last on the way from the input to the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_CALLS: Final = frozenset({"PartitionedCall", "StatefulPartitionedCall", "BatchFunction"})


@dataclass(frozen=True)
class _Flow:
    """What reaches a tensor.

    Attributes:
        depth: operations from the input to it; 0 where no input reaches it.
        weights: the variables it is made of, where no input reaches it.
    """

    depth: int = 0
    weights: frozenset[str] = frozenset()


class WeightDepths:
    """Finds how deep each variable meets what comes from the input, through all functions.

    Args:
        graph_def: a GraphDef with its library of functions.
    """

    def __init__(self, graph_def: Any) -> None:
        self._nodes = {node.name: node for node in graph_def.node}
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._depths: dict[str, int] = {}

    def of(self, outputs: Iterable[str]) -> dict[str, int]:
        """Return variable → operations from the input to its first use, of those that `outputs` depend on.

        Args:
            outputs: tensor names.
        """
        self._depths = {}
        self._flow(self._nodes, {}, list(outputs))
        return self._depths

    def _flow(self, nodes: Mapping[str, Any], arguments: Mapping[str, _Flow], wanted: Sequence[str]) -> _Flow:
        """Return what reaches the tensors `wanted` of one graph, joined."""
        known = dict(arguments)
        # A stack of our own: networks are deeper than Python's.
        waiting = [_producer(name) for name in wanted]
        while waiting:
            name = waiting[-1]
            if name in known:
                waiting.pop()
                continue
            inputs = [_producer(one) for one in nodes[name].input if not one.startswith("^")]
            unknown = [one for one in inputs if one not in known]
            if unknown:
                waiting += unknown
                continue
            known[name] = self._pass(nodes[name], [known[one] for one in inputs])
        return _joined([known[_producer(name)] for name in wanted])

    def _pass(self, node: Any, inputs: Sequence[_Flow]) -> _Flow:
        """Return what comes out of one node."""
        if node.op == "VarHandleOp":
            return _Flow(weights=frozenset({node.name}))
        if node.op == "Placeholder":
            return _Flow(depth=1)
        if node.op in _CALLS:
            function = self._functions[node.attr["f"].func.name]
            names = [argument.name for argument in function.signature.input_arg]
            body = {inner.name: inner for inner in function.node_def}
            return self._flow(body, dict(zip(names, inputs, strict=True)), list(function.ret.values()))
        joined = _joined(inputs)
        if not joined.depth:
            return joined
        for weight in joined.weights:
            self._depths[weight] = min(joined.depth, self._depths.get(weight, joined.depth))
        return _Flow(depth=joined.depth + 1)


def _joined(flows: Sequence[_Flow]) -> _Flow:
    weights = frozenset[str]().union(*(flow.weights for flow in flows))
    return _Flow(depth=max((flow.depth for flow in flows), default=0), weights=weights)


def _producer(tensor: str) -> str:
    return tensor.partition(":")[0]
