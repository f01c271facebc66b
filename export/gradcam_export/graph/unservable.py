"""Refuse, while it is traced, a classifier that no stock server can run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gradcam_export.errors import UnsupportedOperation
from gradcam_export.graph.folding.slices import SLICE_UPDATE
from gradcam_export.stock_ops import Obstacle, node_obstacles, say, stock_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import tensorflow as tf


def leading_to(tensor: tf.Tensor) -> list[Any]:
    """Return the operations that `tensor` is computed by: what else was traced is not written."""
    found, waiting = set(), [tensor.op]
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [*operation.control_inputs, *(one.op for one in operation.inputs)]
    return [operation for operation in tensor.graph.get_operations() if operation in found]


def refuse_unservable(model: Any, operations: Iterable[Any]) -> None:
    """Refuse a Keras model that is traced to operations which a stock server cannot run.

    Raises:
        UnsupportedOperation: says which operations, and in which layers.
    """
    names = {layer.name for layer in model._flatten_layers(include_self=False)}
    found = list(_obstacles(operations, names))
    if found:
        raise UnsupportedOperation(
            f"TensorFlow Serving {stock_server().server} cannot run all of {model.name!r}: {say(found)}."
        )


def _obstacles(operations: Iterable[Any], layers: set[str]) -> Iterator[Obstacle]:
    for operation in operations:
        if operation.type == SLICE_UPDATE:  # folding writes it with another
            continue
        for one in node_obstacles([operation.node_def], written=False):
            # Keras (3.15) opens a scope for each layer's call, numbered where it was called before.
            scopes = [re.sub(r"_\d+$", "", part) if part not in layers else part for part in one.place.split("/")[:-1]]
            layer = next((scope for scope in reversed(scopes) if scope in layers), None)
            yield Obstacle(one.place if layer is None else f"layer {layer!r}", one.what, one.remedy)
