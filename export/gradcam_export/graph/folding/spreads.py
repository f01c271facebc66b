"""How a gradient was spread over positions, read backwards one operation at a time.

Where it comes out of linear operations, their means are known beforehand: a dense layer on the flattened feature map,
or a convolution that crops nothing, becomes a small one with an averaged kernel, `mean_p(g @ W_p^T) = g @ (mean_p
W_p)^T`; and the gradient of max or average pooling sums over the larger grid to what it sums to over the smaller one,
since each window hands on all it gets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gradcam_export.graph.folding.shapes import count

if TYPE_CHECKING:
    from gradcam_export.graph.folding.editing import EditableGraph
    from gradcam_export.graph.folding.shapes import BatchShapes, Size

INT32 = tf.int32.as_datatype_enum

_POOLING = {"MaxPoolGrad": 2, "MaxPool3DGrad": 2, "AvgPoolGrad": 1, "AvgPool3DGrad": 1}
"""Which input is the gradient that comes in."""
_CONVOLUTION = ("Conv2DBackpropInput", "Conv3DBackpropInputV2")
SPREADING = (*_POOLING, *_CONVOLUTION, "MatMul", "BroadcastTo", "Tile")
"""Operations that are worth going back through."""

_Emit = Callable[[str, str], str]
"""Adds, under a name, the operation on means `[B,K]` that stands for one on positions; returns the result's name."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A tensor seen as `[B,P,K]`, whatever axes it has after the batch."""

    tensor: str
    element_type: int
    positions: int
    channels: int
    scale: Fraction = Fraction(1)
    """What the mean over these positions is still to be multiplied by."""
    emits: tuple[_Emit, ...] = ()
    """What follows that, last first."""
    worth: bool = False
    """Whether an operation that spreads over positions has been gone back through."""


class Way:
    """The way back in one graph, for tensors of one batch size."""

    def __init__(self, graph: EditableGraph, shapes: BatchShapes, batch: Size) -> None:
        """Start a way.

        Args:
            graph: to look at, and to add averaged kernels and operations on means to.
            shapes: of the graph's tensors.
            batch: the first axis of all tensors on the way.
        """
        self._graph = graph
        self._shapes = shapes
        self._batch = batch
        self._rules: dict[str, Callable[[Any, Spread], Spread | None]] = {
            **dict.fromkeys(("Identity", "Reshape", "Squeeze", "ExpandDims"), self._source),
            "Cast": self._cast,
            **dict.fromkeys(("Mul", "RealDiv"), self._scaled),
            **dict.fromkeys(("BroadcastTo", "Tile"), self._repeated),
            **dict.fromkeys(_POOLING, self._pooled),
            "MatMul": self._dense,
            **dict.fromkeys(_CONVOLUTION, self._convolved),
        }

    def before(self, spread: Spread) -> Spread | None:
        """Return the tensor one operation earlier, with the same mean once its scale and operations are applied.

        `None` where the operation mixes positions, channels or images, or is not known not to.
        """
        node = self._graph.producer(spread.tensor)
        rule = None if self._graph.is_kept(node) else self._rules.get(node.op)
        return rule(node, spread) if rule is not None else None

    def _source(self, node: Any, spread: Spread) -> Spread | None:
        """Go back through what keeps elements in their order: the view `[B,P,K]` of them stays the same."""
        shape = self._shapes.of(node.input[0])
        return replace(spread, tensor=node.input[0]) if shape and shape[0] == self._batch else None

    def _cast(self, node: Any, spread: Spread) -> Spread | None:
        source = self._source(node, spread)
        types = {name: node.attr[name].type for name in ("SrcT", "DstT")}
        if source is None or not all(tf.as_dtype(number).is_floating for number in types.values()):
            return None
        return replace(
            source,
            element_type=types["SrcT"],
            emits=(*spread.emits, lambda mean, name: self._graph.add_operation(name, "Cast", [mean], **types)),
        )

    def _scaled(self, node: Any, spread: Spread) -> Spread | None:
        """Go back through a factor that is the same at all positions."""
        whole = self._shapes.of(spread.tensor)
        for index in (0, 1) if node.op == "Mul" else (0,):
            tensor, factor = node.input[index], node.input[1 - index]
            shape = self._shapes.of(factor)
            alike = shape == () or (shape is not None and shape == self._channel_axis(spread))
            if alike and whole is not None and self._shapes.of(tensor) == whole:
                return replace(spread, tensor=tensor, emits=(*spread.emits, self._emit_scaled(node, factor)))
        return None

    def _emit_scaled(self, node: Any, factor: str) -> _Emit:
        return lambda mean, name: self._graph.add_operation(name, node.op, [mean, factor], T=node.attr["T"].type)

    def _repeated(self, node: Any, spread: Spread) -> Spread | None:
        """Go back through copies over positions, which have the mean of what they are copies of."""
        positions = self._other_grid(spread, node.input[0])
        return replace(spread, tensor=node.input[0], positions=positions, worth=True) if positions else None

    def _pooled(self, node: Any, spread: Spread) -> Spread | None:
        tensor, windows = node.input[_POOLING[node.op]], node.attr["ksize"].list.i
        positions = self._other_grid(spread, tensor)
        if not positions or not _channels_last(node) or windows[0] != 1 or windows[-1] != 1:
            return None
        scale = spread.scale * Fraction(positions, spread.positions)
        return replace(spread, tensor=tensor, positions=positions, scale=scale, worth=True)

    def _dense(self, node: Any, spread: Spread) -> Spread | None:
        """Go back through the gradient of a dense layer on `P*K` values: the mean over P of its kernel `[P*K,M]`."""
        kernel = self._graph.producer(node.input[1])
        value = self._graph.value(kernel)
        wanted = not node.attr["transpose_a"].b and node.attr["transpose_b"].b
        if not wanted or value is None or self._source(node, spread) is None:
            return None
        taps = value.reshape(spread.positions, spread.channels, -1)
        return self._through(spread, node, kernel, taps, tensor=node.input[0], positions=1)

    def _convolved(self, node: Any, spread: Spread) -> Spread | None:
        """Go back through the gradient of a convolution whose windows all lie inside: the sum of its kernel."""
        kernel, shape = self._graph.producer(node.input[1]), self._shapes.of(node.input[2])
        value = self._graph.value(kernel)
        if value is None or shape is None or shape[0] != self._batch or not _channels_last(node):
            return None
        padding = node.attr["padding"].s
        inside = padding == b"VALID" or (padding == b"SAME" and math.prod(value.shape[:-2]) == 1)
        positions = count(shape[1:-1])
        # Fewer channels in the kernel than in the feature map: a grouped convolution.
        if not inside or positions is None or self._channel_axis(spread) != ((value.shape[-2],) * 2,):
            return None
        taps = value.reshape(-1, *value.shape[-2:])
        return self._through(spread, node, kernel, taps, tensor=node.input[2], positions=positions)

    def _through(self, spread: Spread, node: Any, kernel: Any, taps: Any, *, tensor: str, positions: int) -> Spread:
        """Go back through `taps` `[n,K,M]`: a gradient `[B,M]` at one position gives its product with their sum."""
        factor = spread.scale * Fraction(positions, spread.positions)
        name = f"{kernel.name}/sum_of_{len(taps)}_times_{factor.numerator}_by_{factor.denominator}"
        if not self._graph.has(name):
            total = taps.sum(axis=0, dtype=np.float64) * float(factor)
            self._graph.add_weight(name, total.astype(taps.dtype))

        def emit(mean: str, result: str) -> str:
            types = {"T": node.attr["T"].type, "transpose_a": False, "transpose_b": True}
            return self._graph.add_operation(result, "MatMul", [mean, name], **types)

        return Spread(
            tensor=tensor,
            element_type=node.attr["T"].type,
            positions=positions,
            channels=taps.shape[-1],
            emits=(*spread.emits, emit),
            worth=True,
        )

    def _channel_axis(self, spread: Spread) -> tuple[Size, ...] | None:
        """Return the last axis of the tensor if that is the channels, as a shape."""
        shape = self._shapes.of(spread.tensor)
        return shape[-1:] if shape is not None and shape[-1] == (spread.channels, spread.channels) else None

    def _other_grid(self, spread: Spread, tensor: str) -> int | None:
        """Return the number of positions of `tensor` if batch and channels are the first and last axis of both."""
        own, shape = self._shapes.of(spread.tensor), self._shapes.of(tensor)
        if own is None or shape is None or len(shape) != len(own) or self._channel_axis(spread) != shape[-1:]:
            return None
        return count(shape[1:-1]) if own[0] == shape[0] == self._batch else None


def _channels_last(node: Any) -> bool:
    return bool(node.attr["data_format"].s in (b"", b"NHWC", b"NDHWC"))
