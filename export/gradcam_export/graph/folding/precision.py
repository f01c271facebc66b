"""Let the layers of a float32 graph compute in half precision, with the casts in the graph.

What a server is told plays no part then. The rounding that a classifier bears well is that of its layers' products,
whose sums the kernels keep in float32 (Micikevicius et al.: Mixed Precision Training, 1710.03740); averages, norms,
softmaxes, the last layer with the class scores, and the map stay float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from gradcam_export.errors import OptionError
from gradcam_export.graph.folding.editing import producer_name, set_placeholder

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from gradcam_export.graph.folding.editing import EditableGraph

_LAYERS = frozenset(
    (
        *("Conv2D", "DepthwiseConv2dNative", "Conv3D", "MatMul", "BatchMatMulV2", "Einsum"),
        *("Conv2DBackpropInput", "DepthwiseConv2dNativeBackpropInput", "Conv3DBackpropInputV2"),
    )
)
"""What multiplies with a weight, in the forward pass and for gradients."""

_FOLLOWING = frozenset(
    (
        *("BatchMatMulV2", "Einsum", "BiasAdd", "AddV2", "Sub", "Mul", "Maximum", "Minimum"),
        *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Erf"),
        *("ReluGrad", "Relu6Grad", "LeakyReluGrad", "EluGrad", "SeluGrad", "SigmoidGrad", "TanhGrad"),
        *("MaxPool", "AvgPool", "MaxPoolGrad", "AvgPoolGrad", "MaxPool3D", "AvgPool3D"),
        *("Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose", "Pad", "PadV2", "MirrorPad", "SelectV2"),
        *("ConcatV2", "Split", "SplitV", "Pack", "Unpack", "Slice", "StridedSlice", "Tile", "BroadcastTo"),
        *("SpaceToDepth", "DepthToSpace", "SpaceToBatchND", "BatchToSpaceND"),
    )
)
"""What rounds no more than a layer does, element by element, and would otherwise have to be cast for."""

_MOVING = frozenset(("Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose"))
_ELEMENT_TYPE = {"GatherV2": "Tparams"}
"""Attribute that holds an operation's type where it is not `T`."""


def compute_in_half(graph: EditableGraph, precision: str, predictions: str) -> int:
    """Let layers, and what lies between them, compute in `precision`, and store every float32 weight in it.

    Args:
        graph: a folded graph.
        precision: `bfloat16` or `float16`.
        predictions: the tensor `[B,N]`; the layers that lead straight to it stay float32.

    Returns:
        How many layers compute in `precision` now.

    Raises:
        OptionError: no layer but the last is float32.
    """
    plan = _Plan(graph, predictions)
    if not plan.layers:
        raise OptionError(
            f"precision={precision!r} is for classifiers with layers in float32 before the last; this one has "
            f"{'layers in ' + ', '.join(plan.types) if plan.types else 'none'}. Build it with precision='float32', "
            "which leaves it as it is."
        )
    _Casts(graph, plan, tf.as_dtype(precision)).apply()
    return len(plan.layers)


class _Plan:
    """Which operations compute in half precision."""

    def __init__(self, graph: EditableGraph, predictions: str) -> None:
        self._graph = graph
        imported = tf.Graph()
        with imported.as_default():
            tf.graph_util.import_graph_def(graph.graph_def, name="")
        self.operations = imported.get_operations()
        """In topological order, with the types of all tensors."""
        weighted = {one: weight for one in self.operations if (weight := self._weight_of(one)) is not None}
        head, before_head = _head(imported.get_operation_by_name(producer_name(predictions)), weighted)
        kept = {weighted[one] for one in head}
        inner = [one for one, weight in weighted.items() if weight not in kept]
        self.types = sorted({one.outputs[0].dtype.name for one in inner})
        """Of the layers before the last."""
        self.layers = frozenset(one for one in inner if one.outputs[0].dtype == tf.float32)
        computing = self.layers | self._following(before_head)
        self.halved = frozenset(one.name for one in (*computing, *self._taking_either(computing)))
        """Names of all operations that take half precision."""

    def _weight_of(self, operation: tf.Operation) -> str | None:
        """Return the weight, or constant, that a layer multiplies with."""
        for tensor in operation.inputs if operation.type in _LAYERS else ():
            source = tensor.op
            while source.type in _MOVING:
                source = source.inputs[0].op
            if tensor.dtype.is_floating and self._is_known(source):
                return str(source.name)
        return None

    def _is_known(self, operation: tf.Operation) -> bool:
        return operation.type == "Const" or operation.name in self._graph.weights

    def _taking_either(self, computing: Container[tf.Operation]) -> Iterator[tf.Operation]:
        """Yield what need not be cast for: measures of a shape, and lookups of rows of a weight as it is stored."""
        for one in self.operations:
            if one.type == "Shape" and one.inputs[0].op in computing:
                yield one
            stored = one.type == "GatherV2" and one.inputs[0].op.name in self._graph.weights
            if stored and one.inputs[0].dtype == tf.float32:
                yield one

    def _following(self, before_head: set[tf.Operation]) -> set[tf.Operation]:
        """Return what gets half precision alone, and passes it on to a layer or belongs to what leads to the last."""
        fed: set[tf.Operation] = set()
        for one in self.operations:
            given = [tensor for tensor in one.inputs if tensor.dtype.is_floating and not self._is_known(tensor.op)]
            halved = [tensor.op in self.layers or tensor.op in fed for tensor in given]
            if one.type in _FOLLOWING and one not in self.layers and halved and all(halved):
                fed.add(one)
        needed: set[tf.Operation] = set()
        for one in reversed(self.operations):
            readers = [reader for tensor in one.outputs for reader in tensor.consumers()]
            if one in fed and (one in before_head or any(to in self.layers or to in needed for to in readers)):
                needed.add(one)
        return needed


def _head(end: tf.Operation, weighted: dict[tf.Operation, str]) -> tuple[set[tf.Operation], set[tf.Operation]]:
    """Return the layers that lead to `end` without another in between, and all that leads to those."""
    head: set[tf.Operation] = set()
    seen, frontier = {end}, [end]
    while frontier:
        one = frontier.pop()
        if one in weighted:
            head.add(one)
            continue
        new = {tensor.op for tensor in one.inputs} - seen
        seen |= new
        frontier += new
    before: set[tf.Operation] = set()
    frontier = [tensor.op for one in head for tensor in one.inputs]
    while frontier:
        one = frontier.pop()
        if one not in before:
            before.add(one)
            frontier += [tensor.op for tensor in one.inputs]
    return head, before


class _Casts:
    """Carries a plan out: types of operations, stored weights, and one cast for all readers of a tensor."""

    def __init__(self, graph: EditableGraph, plan: _Plan, half: tf.DType) -> None:
        self._graph, self._plan, self._half = graph, plan, half
        self._made: dict[tuple[str, tf.DType], str] = {}

    def apply(self) -> None:
        """Edit the graph."""
        stored = {name for name, value in self._graph.weights.items() if value.dtype == "float32"}
        for one in self._plan.operations:
            wanted = self._half if one.name in self._plan.halved else tf.float32
            node = self._graph.producer(one.name)
            if wanted == self._half:
                node.attr[_ELEMENT_TYPE.get(one.type, "T")].type = self._half.as_datatype_enum
            for index, tensor in enumerate(one.inputs):
                is_half = tensor.op.name in self._plan.halved or tensor.op.name in stored
                found = self._half if is_half else tf.float32
                if tensor.dtype == tf.float32 and found != wanted:
                    self._graph.set_input(node, index, self._cast(node.input[index], found, wanted))
        for name in stored:
            value = self._graph.weights[name].astype(self._half.as_numpy_dtype)
            set_placeholder(self._graph.producer(name), value)
            self._graph.weights[name] = value

    def _cast(self, tensor: str, found: tf.DType, wanted: tf.DType) -> str:
        if (tensor, wanted) not in self._made:
            name = f"{tensor.replace(':', '_')}/{wanted.name}"
            types = {"SrcT": found.as_datatype_enum, "DstT": wanted.as_datatype_enum}
            self._made[tensor, wanted] = self._graph.add_operation(name, "Cast", [tensor], **types)
        return self._made[tensor, wanted]
