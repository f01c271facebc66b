"""Which weights of a graph come last on the way from the input to the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_CALLS: Final = {
    **dict.fromkeys(("PartitionedCall", "StatefulPartitionedCall", "BatchFunction"), ("f", 0)),
    **dict.fromkeys(("While", "StatelessWhile"), ("body", 0)),
    **dict.fromkeys(("If", "StatelessIf"), ("then_branch", 1)),
    **dict.fromkeys(("Case", "StatelessCase"), ("branches", 1)),
}
"""Operation → where it names the functions it calls, and the first input that these take. Of the two branches of a
condition the first: the second is what happens where there is nothing to compute."""
_INPUTS: Final = frozenset({"Placeholder", "QueueDequeueManyV2"})
"""Where rows come in: with the request, or from the queue that merges those of several."""


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

    def _flow(
        self, nodes: Mapping[str, Any], arguments: Mapping[str, _Flow], wanted: Sequence[str], also: Iterable[str] = ()
    ) -> _Flow:
        """Return what reaches the tensors `wanted` of one graph, joined; look at the nodes `also` as well."""
        known = dict(arguments)
        # A stack of our own: networks are deeper than Python's.
        waiting = [*also, *(_producer(name) for name in wanted)]
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
        if node.op in _INPUTS:
            return _Flow(depth=1)
        if node.op in _CALLS:
            attribute, first = _CALLS[node.op]
            called = node.attr[attribute]
            names = [one.name for one in called.list.func] or [called.func.name]
            return _joined([self._inside(self._functions[name], inputs[first:]) for name in names])
        joined = _joined(inputs)
        if not joined.depth:
            return joined
        for weight in joined.weights:
            self._depths[weight] = min(joined.depth, self._depths.get(weight, joined.depth))
        return _Flow(depth=joined.depth + 1)

    def _inside(self, function: Any, inputs: Sequence[_Flow]) -> _Flow:
        names = [argument.name for argument in function.signature.input_arg]
        body = {inner.name: inner for inner in function.node_def}
        # Every node: what merges requests computes into a table, out of which no tensor leads to its answers.
        return self._flow(body, dict(zip(names, inputs, strict=True)), list(function.ret.values()), also=body)


def _joined(flows: Sequence[_Flow]) -> _Flow:
    weights = frozenset[str]().union(*(flow.weights for flow in flows))
    return _Flow(depth=max((flow.depth for flow in flows), default=0), weights=weights)


def _producer(tensor: str) -> str:
    return tensor.partition(":")[0]
