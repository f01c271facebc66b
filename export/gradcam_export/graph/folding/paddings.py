"""Let convolutions pad their own input: zeros that a layer lays around it cost a copy of all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcam_export.graph.folding.shapes import BatchShapes

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph

_CONVOLUTIONS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative")
_CHANNELS_LAST = (b"", b"NHWC", b"NDHWC")


def fold_paddings(graph: EditableGraph) -> int:
    """Let convolutions of a padded input pad it as `SAME`, where that lays on the same zeros; return how many.

    Networks pad by a layer of their own before each stride of 2. Where `SAME` pads otherwise, the layer stays: the
    runtime joins it with a convolution, though not with a depthwise one (2.20).
    """
    padded = [node for node in graph.nodes(*_CONVOLUTIONS) if graph.producer(node.input[0]).op == "Pad"]
    shapes = BatchShapes(graph.graph_def, graph.weights)
    return sum(_fold_padding(graph, shapes, node) for node in padded)


def _fold_padding(graph: EditableGraph, shapes: BatchShapes, convolution: Any) -> bool:
    padding = graph.producer(convolution.input[0])
    zeros = graph.value(graph.producer(padding.input[1]))
    shape, kernel = shapes.of(padding.input[0]), shapes.of(convolution.input[1])
    if convolution.attr["padding"].s != b"VALID" or convolution.attr["data_format"].s not in _CHANNELS_LAST:
        return False
    if zeros is None or shape is None or kernel is None:
        return False
    strides = convolution.attr["strides"].list.i
    dilations = convolution.attr["dilations"].list.i or [1] * len(strides)
    same = [(0, 0)] * len(shape)
    for axis in range(1, len(shape) - 1):
        window = (kernel[axis - 1][0] - 1) * dilations[axis] + 1
        same[axis] = _same_padding(shape[axis][0], window, strides[axis])
    if zeros.tolist() != [list(ends) for ends in same]:
        return False
    convolution.attr["padding"].s = b"SAME"
    graph.set_input(convolution, 0, padding.input[0])
    return True


def _same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Return how many zeros `SAME` lays before and after an axis."""
    total = max(0, (-(-size // stride) - 1) * stride + window - size)
    return total // 2, total - total // 2
