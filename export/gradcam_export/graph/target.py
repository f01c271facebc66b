"""Choose the feature map to explain: a cut of the graph between the image and the class score."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcam_export.errors import ExplanationError, LayerNotFound, NoFeatureMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import tensorflow as tf

    from gradcam_export.graph.trace import ForwardPass

# What only moves, drops or repeats positions of a map that stands before it, or passes it on.
_POSITIONAL_OPS = frozenset(
    (
        *("MaxPool", "AvgPool", "Pad", "PadV2", "MirrorPad", "ResizeBilinear", "ResizeNearestNeighbor"),
        *("Identity", "Reshape", "Transpose", "Cast"),
    )
)


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """A spatial tensor `[B,h,w,K]` on the road from the image to the class score."""

    name: str
    """The Keras layer's path `outer/inner`, or the operation's name where no layer returns it."""
    tensor: tf.Tensor
    from_layer: bool
    """Whether a layer returns it; batch normalisation, for one, has maps inside that none does."""
    positional: bool
    """Made by pooling, padding or resizing: the map before it shows the same, or more."""

    @property
    def grid(self) -> tuple[int, int]:
        """`(h, w)`."""
        _, height, width, _ = self.tensor.shape
        return height, width

    @property
    def channels(self) -> int:
        """K."""
        return self.tensor.shape[-1]


@dataclass(frozen=True, kw_only=True)
class Target:
    """The chosen feature map, and why."""

    feature_map: FeatureMap
    reason: str


def candidates(forward: ForwardPass) -> tuple[FeatureMap, ...]:
    """Return the feature maps that every path from the image to the predictions crosses, in order."""
    names: dict[int, str] = {}
    for output in forward.outputs:
        names.setdefault(id(output.tensor), output.path)
    return tuple(
        FeatureMap(
            name=names.get(id(tensor), tensor.op.name),
            tensor=tensor,
            from_layer=id(tensor) in names,
            positional=tensor.op.type in _POSITIONAL_OPS,
        )
        for tensor in _cuts(forward.images, forward.predictions)
        if _is_spatial(tensor)
    )


def choose(forward: ForwardPass, layer: str | None = None) -> Target:
    """Choose the feature map to explain.

    Args:
        forward: the traced classifier.
        layer: a Keras layer, nested as `outer/inner` (the last part alone where it is unique);
            `None` takes the last feature map before pooling or flattening.

    Raises:
        LayerNotFound: there is no such layer.
        ExplanationError: the layer's output is no feature map, or it was called several times.
        NoFeatureMap: there is none to choose.
    """
    if layer is not None:
        return Target(feature_map=_by_name(forward, layer), reason="asked for by name")
    found = candidates(forward)
    for feature_map in reversed(found):
        if not feature_map.positional:
            reason = "the last feature map that every path from the image to the class score crosses, before pooling"
            return Target(feature_map=feature_map, reason=reason)
    raise NoFeatureMap(
        "Between the image and the class score no feature map [B,h,w,K] of more than one position was found "
        f"that every path crosses. {_spatial_layers(forward)}"
    )


def _is_spatial(tensor: tf.Tensor) -> bool:
    shape = tensor.shape
    return bool(tensor.dtype.is_floating and shape.rank == 4 and None not in shape[1:] and shape[1] * shape[2] > 1)


def _by_name(forward: ForwardPass, layer: str) -> FeatureMap:
    for feature_map in candidates(forward):
        if layer == feature_map.name and not feature_map.from_layer:
            return feature_map
    paths = Counter(output.path for output in forward.outputs)
    matches = [layer] if layer in paths else [path for path in paths if path.endswith(f"/{layer}")]
    if not matches:
        close = difflib.get_close_matches(layer, paths, n=5, cutoff=0.4)
        hint = f"Close names: {', '.join(close)}." if close else _spatial_layers(forward)
        raise LayerNotFound(f"No layer named {layer!r} was called. {hint}")
    if len(matches) > 1:
        raise ExplanationError(f"Several layers are named {layer!r}: {', '.join(matches)}. Give one of these in full.")
    if paths[matches[0]] > 1:
        raise ExplanationError(
            f"Layer {matches[0]!r} is called {paths[matches[0]]} times, so its output is not one feature map. "
            f"{_spatial_layers(forward)}"
        )
    tensor = next(output.tensor for output in forward.outputs if output.path == matches[0])
    if not _is_spatial(tensor):
        raise ExplanationError(
            f"Layer {matches[0]!r} returns {tensor.shape}, not a feature map [B,h,w,K] of more than one position. "
            f"{_spatial_layers(forward)}"
        )
    return FeatureMap(name=matches[0], tensor=tensor, from_layer=True, positional=tensor.op.type in _POSITIONAL_OPS)


def _spatial_layers(forward: ForwardPass) -> str:
    spatial = list(dict.fromkeys(output.path for output in forward.outputs if _is_spatial(output.tensor)))
    if not spatial:
        return "No layer of this model returns one: Grad-CAM needs convolutional features."
    shown = ", ".join(spatial[-8:])
    return f"Layers with a [B,h,w,K] output{' (the last 8)' if len(spatial) > 8 else ''}: {shown}."


def _cuts(images: tf.Tensor, predictions: tf.Tensor) -> Iterator[tf.Tensor]:
    """Yield the tensors that every floating path from `images` to `predictions` crosses, in graph order.

    Walking operations in creation order, which is topological, an operation is a cut where no edge from an
    earlier one reaches past it.
    """
    cone = _operations_between(images, predictions)
    position = {operation: index for index, operation in enumerate(cone)}
    farthest = 0
    for index, operation in enumerate(cone):
        carriers = [
            (tensor, [position[consumer] for consumer in tensor.consumers() if consumer in position])
            for tensor in operation.outputs
        ]
        used = [(tensor, consumers) for tensor, consumers in carriers if consumers]
        if farthest <= index and len(used) == 1:
            yield used[0][0]
        farthest = max([farthest, *(consumer for _, consumers in used for consumer in consumers)])


def _operations_between(start: tf.Tensor, end: tf.Tensor) -> Sequence[tf.Operation]:
    forward: set[tf.Operation] = set()
    frontier = list(start.consumers())
    while frontier:
        operation = frontier.pop()
        if operation not in forward:
            forward.add(operation)
            frontier += [
                user for tensor in operation.outputs if tensor.dtype.is_floating for user in tensor.consumers()
            ]
    backward: set[tf.Operation] = set()
    frontier = [end.op]
    while frontier:
        operation = frontier.pop()
        if operation in forward and operation not in backward:
            backward.add(operation)
            frontier += [tensor.op for tensor in operation.inputs]
    return [operation for operation in end.graph.get_operations() if operation in backward]
