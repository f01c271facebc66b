"""Static shapes of a graph's tensors, the batch among them."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Container

_BATCHES = (240, 480)
"""Two batch sizes that divide well: shape inference refuses a `Reshape` that does not come out even."""

Size = tuple[int, int]
"""An axis's size in a batch of the one and of the other size: equal numbers where it does not depend on the batch."""


class BatchShapes:
    """Shapes of all tensors of a graph as functions of the batch size.

    TensorFlow's shape inference forgets which of several unknown sizes are the same one. So it runs twice, each time
    with another batch size in place of the unknown one: axes that agree both times are the same axis.
    """

    def __init__(self, graph_def: Any, weights: Container[str]) -> None:
        """Infer nothing yet: that is done for all tensors when the first one is asked for.

        Args:
            graph_def: a graph whose inputs are placeholders with the batch as their first axis.
            weights: names of the placeholders that are no inputs.
        """
        self._graph_def, self._weights = graph_def, weights

    @functools.cached_property
    def _graphs(self) -> list[Any]:
        return [_with_batch(self._graph_def, self._weights, size) for size in _BATCHES]

    def of(self, tensor: str) -> tuple[Size, ...] | None:
        """Return the shape of `tensor`, or `None` where not all of it is static."""
        first, second = self._both(tensor)
        if not (first.is_fully_defined() and second.is_fully_defined() and first.rank == second.rank):
            return None
        return tuple(zip(first.as_list(), second.as_list(), strict=True))

    def rank(self, tensor: str) -> int | None:
        """Return the number of axes of `tensor`, or `None` where that is not static."""
        first, second = self._both(tensor)
        return first.rank if first.rank == second.rank else None

    def _both(self, tensor: str) -> list[tf.TensorShape]:
        name = tensor if ":" in tensor else f"{tensor}:0"
        return [graph.get_tensor_by_name(name).shape for graph in self._graphs]


def count(sizes: tuple[Size, ...]) -> int | None:
    """Return the number of elements, or `None` where it depends on the batch."""
    return math.prod(first for first, _ in sizes) if all(first == second for first, second in sizes) else None


def _with_batch(graph_def: Any, weights: Container[str], size: int) -> Any:
    bound = type(graph_def)()
    bound.CopyFrom(graph_def)
    for node in bound.node:
        shape = node.attr["shape"].shape if node.op == "Placeholder" and node.name not in weights else None
        if shape is not None and shape.dim and shape.dim[0].size == -1:
            shape.dim[0].size = size
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(bound, name="")
    return graph
