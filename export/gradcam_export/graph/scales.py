"""Fold per-channel scales into the kernels before them, and the additions that remain into one `BiasAdd`.

Batch normalisation in inference mode is such a scale and addition. Grappler folds it into Conv2D without bias alone
(2.20): the biased convolutions of ResNet50 and the depthwise ones of MobileNetV2 keep their multiplication.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gradcam_export.graph.editing import EditableGraph

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_ADDITIONS = ("BiasAdd", "AddV2")


@dataclass(frozen=True)
class _Operand:
    """One tensor combined with a constant per channel."""

    node: Any
    """What makes the tensor."""
    tensor: str
    constant: np.ndarray[Any, Any]
    """`[K]`, or `[]` where it is the same for all channels."""


def fold_scales(graph: EditableGraph) -> int:
    """Fold multiplications by a constant per channel into Conv2D and depthwise kernels; return how many."""
    return sum(_fold_scale(graph, node) for node in graph.nodes("Mul"))


def merge_additions(graph: EditableGraph) -> int:
    """Merge additions of a constant per channel after a convolution into one `BiasAdd`; return how many.

    As `AddV2` of a variable they would not fuse with the convolution (2.20).
    """
    return sum(_merge_addition(graph, node) for node in graph.nodes("AddV2"))


def _fold_scale(graph: EditableGraph, multiplication: Any) -> bool:
    operand = _with_constant(graph, multiplication)
    if operand is None:
        return False
    addition = None
    convolution = operand.node
    if convolution.op in _ADDITIONS:
        addition = _with_constant(graph, convolution)
        if addition is None or not graph.used_once(convolution):
            return False
        convolution = addition.node
    if convolution.op not in _CONVOLUTIONS or not graph.used_once(convolution) or not _channels_last(convolution):
        return False
    if not _scale_kernel(graph, convolution, operand.constant):
        return False
    if addition is None:
        graph.set_operation(multiplication, "Identity", [convolution.name])
    else:
        _set_bias(graph, multiplication, convolution.name, addition.constant * operand.constant, convolution)
    return True


def _merge_addition(graph: EditableGraph, addition: Any) -> bool:
    operand = _with_constant(graph, addition)
    if operand is None:
        return False
    before, bias = operand.node, operand.constant
    while before.op == "Identity" and graph.used_once(before):
        before = graph.producer(before.input[0])
    if before.op == "BiasAdd" and graph.used_once(before):
        earlier = _with_constant(graph, before)
        if earlier is None:
            return False
        before, bias = earlier.node, bias + earlier.constant
    if before.op not in _CONVOLUTIONS or not _channels_last(before):
        return False
    _set_bias(graph, addition, before.name, bias, before)
    return True


def _with_constant(graph: EditableGraph, node: Any) -> _Operand | None:
    """Take `node` apart into a tensor and a constant per channel, in either order."""
    first, second = node.input[:2]
    for tensor, other in ((first, second), (second, first)):
        producer = graph.producer(other)
        constant = graph.value(producer) if producer.op == "Const" else None
        if constant is not None and constant.size in (1, constant.shape[-1] if constant.ndim else 1):
            flat = constant.reshape(-1)
            return _Operand(graph.producer(tensor), tensor, flat if flat.size > 1 else flat.reshape(()))
    return None


def _channels_last(convolution: Any) -> bool:
    return bool(convolution.attr["data_format"].s in (b"", b"NHWC"))


def _scale_kernel(graph: EditableGraph, convolution: Any, scale: np.ndarray[Any, Any]) -> bool:
    source = graph.producer(convolution.input[1])
    kernel = graph.value(source)
    if kernel is None:
        return False
    shape = _channel_axes(graph, convolution)
    if scale.size not in (1, math.prod(shape)):
        return False
    scaled = kernel * (scale.reshape(shape) if scale.size > 1 else scale)
    if source.name in graph.weights and graph.used_once(source):
        graph.weights[source.name] = scaled
    else:
        # Constants, and kernels that the gradient or a second layer reads too, stay as they are.
        graph.set_input(convolution, 1, graph.add_weight(f"{convolution.name}/scaled_kernel", scaled))
    return True


def _channel_axes(graph: EditableGraph, convolution: Any) -> tuple[int, ...]:
    """Sizes of the kernel's axes that number the channels made: `[kh,kw,C,M]` makes c * M + m where depthwise."""
    shape = graph.shape(graph.producer(convolution.input[1]))
    return shape[2:] if convolution.op == "DepthwiseConv2dNative" else shape[3:]


def _set_bias(graph: EditableGraph, node: Any, tensor: str, bias: np.ndarray[Any, Any], convolution: Any) -> None:
    vector = np.broadcast_to(bias, (math.prod(_channel_axes(graph, convolution)),)).astype(bias.dtype)
    graph.set_operation(node, "BiasAdd", [tensor, graph.add_constant(f"{node.name}/bias", vector)], data_format="NHWC")
