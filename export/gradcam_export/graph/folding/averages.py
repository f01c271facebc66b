"""Take the mean of a gradient over positions before the operations that spread it over them, not after.

What Grad-CAM reads of a gradient is its mean over the positions. For VGG16 this saves a second pass over the 411 MB of
its first dense kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gradcam_export.graph.folding.shapes import BatchShapes, count
from gradcam_export.graph.folding.spreads import INT32, SPREADING, Spread, Way

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph


def average_kernels(graph: EditableGraph) -> int:
    """Rewrite means over positions, each exactly; return how many."""
    if not graph.nodes(*SPREADING):
        return 0
    shapes = BatchShapes(graph.graph_def, graph.weights)
    return sum(_rewrite(graph, shapes, mean) for mean in graph.nodes("Mean"))


def _rewrite(graph: EditableGraph, shapes: BatchShapes, mean: Any) -> bool:
    shape = shapes.of(mean.input[0])
    axes = graph.value(graph.producer(mean.input[1]))
    positions = count(shape[1:-1]) if shape is not None and len(shape) > 2 else None
    if shape is None or axes is None or positions is None or shape[-1][0] != shape[-1][1]:
        return False
    if sorted(int(axis) % len(shape) for axis in axes.ravel()) != list(range(1, len(shape) - 1)):
        return False
    way = Way(graph, shapes, shape[0])
    spread = Spread(tensor=mean.input[0], element_type=mean.attr["T"].type, positions=positions, channels=shape[-1][0])
    while spread.positions > 1 and (before := way.before(spread)) is not None:
        spread = before
    if not spread.worth:
        return False
    flat = len(shapes.of(spread.tensor) or ()) == 2 and spread.positions == 1
    result = _scaled(graph, spread, spread.tensor if flat else _mean_of_rest(graph, spread, mean.name), mean.name)
    for number, emit in enumerate(reversed(spread.emits)):
        result = emit(result, f"{mean.name}/{number}")
    sizes = [-1, *[1] * (len(shape) - 2), shape[-1][0]] if mean.attr["keep_dims"].b else [-1, shape[-1][0]]
    axes_kept = graph.add_constant(f"{mean.name}/shape", np.array(sizes, np.int32))
    graph.set_operation(mean, "Reshape", [result, axes_kept], Tshape=INT32)
    return True


def _mean_of_rest(graph: EditableGraph, spread: Spread, name: str) -> str:
    """Add the mean over the positions that are left: `[B,K]`, in the tensor's own type."""
    own = spread.element_type
    sizes = [-1, spread.positions, spread.channels] if spread.positions > 1 else [-1, spread.channels]
    shape = graph.add_constant(f"{name}/rest_shape", np.array(sizes, np.int32))
    result = graph.add_operation(f"{name}/rest", "Reshape", [spread.tensor, shape], T=own, Tshape=INT32)
    if spread.positions > 1:
        wide = own if tf.as_dtype(own).size > 2 else tf.float32.as_datatype_enum
        # Sums over positions are taken in float32 at least.
        result = graph.add_operation(f"{name}/rest_wide", "Cast", [result], SrcT=own, DstT=wide)
        axis = graph.add_constant(f"{name}/rest_axis", np.array([1], np.int32))
        result = graph.add_operation(f"{name}/rest_mean", "Mean", [result, axis], T=wide, Tidx=INT32)
        result = graph.add_operation(f"{name}/rest_own", "Cast", [result], SrcT=wide, DstT=own)
    return result


def _scaled(graph: EditableGraph, spread: Spread, mean: str, name: str) -> str:
    if spread.scale == 1:
        return mean
    value = np.array(float(spread.scale)).astype(tf.as_dtype(spread.element_type).as_numpy_dtype)
    scale = graph.add_constant(f"{name}/rest_scale", value)
    return graph.add_operation(f"{name}/rest_scaled", "Mul", [mean, scale], T=spread.element_type)
