"""Fold per-channel scales into the kernels before them, and the additions that remain into one `BiasAdd`.

Batch normalisation in inference mode is such a scale and addition. Grappler folds it into Conv2D without bias alone
(2.20): the biased convolutions of ResNet50 and the depthwise ones of MobileNetV2 keep their multiplication.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gradcam_export.graph.folding.weight_operations import widens

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph

_RANKS = {"Conv2D": 4, "Conv3D": 5, "DepthwiseConv2dNative": 4}
"""Number of axes of what each convolution makes."""
_ADDITIONS = ("BiasAdd", "AddV2")


@dataclass(frozen=True)
class _Operand:
    """One tensor combined with a constant per channel."""

    node: Any
    """What makes the tensor."""
    tensor: str
    constant: np.ndarray[Any, Any]
    """`[K]`, or `[]` where it is the same for all channels."""
    rank: int
    """Number of axes of the constant as it stands in the graph."""
    index: int
    """Which input the constant is."""


@dataclass
class _Chain:
    """A convolution and what its result goes through: nodes that leave the channels alone, one addition at most."""

    convolution: Any
    passed: list[Any]
    """From the end to the convolution's reader."""
    link: tuple[Any, int] | None
    """The convolution's reader and which of its inputs that is; `None` where nothing is passed."""
    added: _Operand | None
    """What the addition adds to, and what."""
    addition: Any
    alone: bool
    """Whether nothing else reads the convolution."""

    def element_type(self) -> Any:
        """Return the type number that the convolution computes in."""
        return self.convolution.attr["T"].type

    def fits(self, operand: _Operand, channels: int) -> bool:
        """Whether combining with `operand`'s constant keeps the shape."""
        squeezed = sum(len(node.attr["squeeze_dims"].list.i) for node in self.passed if node.op == "Squeeze")
        return operand.constant.size in (1, channels) and operand.rank <= _RANKS[self.convolution.op] - squeezed

    def passes(self, *ops: str) -> bool:
        """Whether an operation of these types is passed."""
        return any(node.op in ops for node in self.passed)


def fold_scales(graph: EditableGraph) -> int:
    """Fold multiplications by a constant per channel into convolution kernels; return how many."""
    return sum(_fold_scale(graph, node) for node in graph.nodes("Mul"))


def merge_additions(graph: EditableGraph) -> int:
    """Merge additions of a constant per channel after a convolution into one `BiasAdd`; return how many.

    As `AddV2` of a variable they would not fuse with the convolution (2.20).
    """
    return sum(_merge_addition(graph, node) for node in graph.nodes("AddV2"))


def _fold_scale(graph: EditableGraph, multiplication: Any) -> bool:
    operand = _with_constant(graph, multiplication)
    chain = _chain_before(graph, operand) if operand is not None else None
    if operand is None or chain is None or not chain.alone or not _scale_kernel(graph, chain, operand.constant):
        return False
    if chain.added is not None:
        scaled = _per_channel(graph, chain, chain.added.constant * operand.constant, chain.addition.attr["T"].type)
        graph.set_input(chain.addition, chain.added.index, graph.add_constant(f"{multiplication.name}/bias", scaled))
    graph.set_operation(multiplication, "Identity", [operand.tensor])
    return True


def _merge_addition(graph: EditableGraph, addition: Any) -> bool:
    operand = _with_constant(graph, addition)
    chain = _chain_before(graph, operand) if operand is not None else None
    if operand is None or chain is None:
        return operand is not None and _add_within_sum(graph, addition, operand)
    element_type = chain.element_type()
    # A sum that is rounded to the convolution's type before it is used is another sum, unless that comes next anyway.
    if chain.passes("Cast") and not _is_cast_to(graph, addition, element_type):
        return False
    bias = operand.constant + (chain.added.constant if chain.added is not None else 0)
    vector = graph.add_constant(f"{addition.name}/bias", _per_channel(graph, chain, bias, element_type))
    inputs = [chain.convolution.name, vector]
    if chain.link is None or not chain.passes("Cast", "Squeeze"):
        graph.set_operation(addition, "BiasAdd", inputs, data_format="NHWC")
        return True
    biased = graph.add_operation(f"{addition.name}/biased", "BiasAdd", inputs, T=element_type, data_format="NHWC")
    graph.set_input(*chain.link, biased)
    if chain.added is not None:
        graph.set_operation(chain.addition, "Identity", [chain.addition.input[1 - chain.added.index]])
    graph.set_operation(addition, "Identity", [operand.tensor])
    return True


def _add_within_sum(graph: EditableGraph, addition: Any, operand: _Operand) -> bool:
    """Add what is added to a sum to the convolution in that sum instead.

    Grappler joins a shortcut's addition with those of a norm the other way round (`AddOpsRewrite`, 2.20), and then the
    convolution fuses with neither.
    """
    total = operand.node
    if total.op not in ("AddN", "AddV2") or not graph.used_once(total):
        return False
    for index in range(len(total.input) - 1, -1, -1):
        part = total.input[index]
        if _chain_before(graph, replace(operand, node=graph.producer(part), tensor=part)) is None:
            continue
        inputs = [part, addition.input[operand.index]]
        inner = graph.add_operation(f"{addition.name}/within", "AddV2", inputs, T=total.attr["T"].type)
        graph.set_input(total, index, inner)
        if len(total.input) == 2:
            graph.set_operation(total, "AddV2", list(total.input))
        graph.set_operation(addition, "Identity", [operand.tensor])
        return True
    return False


def _with_constant(graph: EditableGraph, node: Any) -> _Operand | None:
    """Take `node` apart into a tensor and a constant per channel, in either order."""
    for index in (1, 0):
        producer = graph.producer(node.input[index])
        constant = graph.value(producer) if producer.op == "Const" else None
        if constant is not None and constant.size in (1, constant.shape[-1] if constant.ndim else 1):
            flat = constant.reshape(-1)
            tensor = node.input[1 - index]
            value = flat if flat.size > 1 else flat.reshape(())
            return _Operand(graph.producer(tensor), tensor, value, constant.ndim, index)
    return None


def _chain_before(graph: EditableGraph, operand: _Operand) -> _Chain | None:
    """Walk back from `operand`'s tensor to the convolution it comes from, while nothing else reads what is passed."""
    passed: list[Any] = []
    added, addition, link = None, None, None
    node = operand.node
    while node.op not in _RANKS:
        position = 0
        if node.op in _ADDITIONS and added is None:
            added, addition = _with_constant(graph, node), node
            if added is None:
                return None
            position = 1 - added.index
        elif not _leaves_channels_alone(node):
            return None
        if not graph.used_once(node):
            return None
        passed.append(node)
        link = (node, position)
        node = graph.producer(node.input[position])
    if not graph.is_known(graph.producer(node.input[1])):
        return None
    chain = _Chain(node, passed, link, added, addition, graph.used_once(node))
    channels = math.prod(_channel_axes(graph, node))
    fits = all(chain.fits(constant, channels) for constant in (operand, added) if constant is not None)
    return chain if fits and node.attr["data_format"].s in (b"", b"NHWC", b"NDHWC") else None


def _leaves_channels_alone(node: Any) -> bool:
    if node.op == "Squeeze":
        axes = node.attr["squeeze_dims"].list.i
        return bool(axes) and all(axis < -1 or 0 < axis < _RANKS["Conv2D"] - 1 for axis in axes)
    return node.op == "Identity" or (node.op == "Cast" and widens(node))


def _is_cast_to(graph: EditableGraph, node: Any, element_type: Any) -> bool:
    readers = graph.readers(node)
    alone = graph.used_once(node) and len(readers) == 1
    return alone and readers[0].op == "Cast" and readers[0].attr["DstT"].type == element_type


def _scale_kernel(graph: EditableGraph, chain: _Chain, scale: np.ndarray[Any, Any]) -> bool:
    convolution = chain.convolution
    source = graph.producer(convolution.input[1])
    kernel = graph.value(source)
    if kernel is None:
        return False
    wide = graph.unrounded.get(source.name, kernel)
    axes = _channel_axes(graph, convolution)
    wide = wide * (scale.reshape(axes) if scale.size > 1 else scale)
    if kernel.dtype == np.float16 and not _within_half(wide, axes):
        return False
    scaled = wide.astype(kernel.dtype, copy=False)
    graph.set_weight(convolution, 1, scaled, wide if wide.dtype != scaled.dtype else None)
    return True


def _within_half(kernel: np.ndarray[Any, Any], axes: tuple[int, ...]) -> bool:
    """Whether float16 keeps its precision in each channel: the largest value neither overflows nor is subnormal."""
    largest = np.abs(kernel).reshape(-1, math.prod(axes)).max(axis=0)
    limits = np.finfo(np.float16)
    return bool(np.all((largest == 0) | ((largest >= limits.smallest_normal) & (largest <= limits.max))))


def _channel_axes(graph: EditableGraph, convolution: Any) -> tuple[int, ...]:
    """Sizes of the kernel's axes that number the channels made: `[kh,kw,C,M]` makes c * M + m where depthwise."""
    shape = graph.shape(graph.producer(convolution.input[1]))
    return shape[2:] if convolution.op == "DepthwiseConv2dNative" else shape[-1:]


def _per_channel(graph: EditableGraph, chain: _Chain, value: np.ndarray[Any, Any], element_type: Any) -> Any:
    """Return `value` as a vector over the convolution's channels, of the type with this number."""
    channels = math.prod(_channel_axes(graph, chain.convolution))
    return np.broadcast_to(value, (channels,)).astype(tf.as_dtype(element_type).as_numpy_dtype)
