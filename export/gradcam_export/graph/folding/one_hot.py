"""Take the rows of a matrix that one-hot rows select, instead of multiplying with all of it.

The gradient starts from one-hot rows, so its first step through a dense layer reads the whole kernel for one column of
it: at batch size 1 that costs as much as the layer itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph

_INT32 = tf.int32.as_datatype_enum


def select_columns(graph: EditableGraph) -> int:
    """Replace `one_hot(i) @ transpose(W)` by the columns `W[:, i]`, which is the same exactly; return how many."""
    return sum(_select_columns(graph, node) for node in graph.nodes("MatMul"))


def _select_columns(graph: EditableGraph, product: Any) -> bool:
    rows = graph.producer(product.input[0])
    plain = not product.attr["transpose_a"].b and product.attr["transpose_b"].b
    if not plain or rows.op != "OneHot" or not _is_one_hot(graph, rows):
        return False
    element_type = product.attr["T"].type
    axis = graph.add_constant(f"{product.name}/axis", np.array(1, np.int32))
    columns = graph.add_operation(
        f"{product.name}/columns",
        "GatherV2",
        [product.input[1], rows.input[0], axis],  # [K, N] at [B] -> [K, B]
        Tparams=element_type,
        Tindices=rows.attr["TI"].type,
        Taxis=_INT32,
    )
    order = graph.add_constant(f"{product.name}/order", np.array([1, 0], np.int32))
    graph.set_operation(product, "Transpose", [columns, order], Tperm=_INT32)
    return True


def _is_one_hot(graph: EditableGraph, node: Any) -> bool:
    on, off = (graph.value(graph.producer(tensor)) for tensor in node.input[2:4])
    return node.attr["axis"].i == -1 and on is not None and off is not None and bool(on == 1 and off == 0)
