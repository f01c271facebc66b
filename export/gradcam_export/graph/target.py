"""Choose the feature map to explain: a cut of the graph between the input and the class score."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcam_export.errors import ExplanationError, LayerNotFound, NoFeatureMap
from gradcam_export.graph.cuts import OPAQUE_CALLS, Cone
from gradcam_export.graph.layout import Layout, spatial_layout, token_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tensorflow as tf

    from gradcam_export.graph.trace import ForwardPass

# What only moves, drops or repeats positions of a map that stands before it, or passes it on.
_POSITIONAL_OPS = frozenset(
    (
        *("MaxPool", "MaxPool3D", "AvgPool", "AvgPool3D", "Pad", "PadV2", "MirrorPad", "StridedSlice"),
        *(
            "ResizeBilinear",
            "ResizeNearestNeighbor",
            "Identity",
            "Reshape",
            "Transpose",
            "Cast",
            "ExpandDims",
            "Squeeze",
        ),
    )
)


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """A spatial tensor on the road from the input to the class score."""

    name: str
    """The Keras layer's path `outer/inner`, or the operation's name where no layer returns it."""
    tensor: tf.Tensor
    layout: Layout
    from_layer: bool
    """Whether a layer returns it; batch normalisation, for one, has maps inside that none does."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The chosen feature map, and why."""

    feature_map: FeatureMap
    reason: str


def candidates(forward: ForwardPass) -> tuple[FeatureMap, ...]:
    """Return the feature maps that every path from the input to the predictions crosses, in order."""
    return _FeatureMaps(forward).crossed


def spatial_outputs(forward: ForwardPass) -> dict[str, tf.Tensor]:
    """Return what layers return of more than one position, by the layers' paths, in order."""
    return _FeatureMaps(forward).spatial_outputs()


def choose(forward: ForwardPass, layer: str | None = None) -> Target:
    """Choose the feature map to explain.

    Args:
        forward: the traced classifier.
        layer: a Keras layer, nested as `outer/inner` (the last part alone where it is unique);
            `None` takes the last feature map before pooling or flattening.

    Raises:
        LayerNotFound: there is no such layer.
        ExplanationError: the layer's output is no feature map, it was called several times, or nothing reads its
            positions.
        NoFeatureMap: there is none to choose, or the model calls a graph that cannot be looked into.
    """
    maps = _FeatureMaps(forward)
    opaque = maps.opaque_call()
    if opaque is not None:
        raise NoFeatureMap(
            f"{forward.model_name!r} calls a finished graph ({opaque}), as TFSMLayer does, that cannot be looked into: "
            "export the Keras model it was saved from."
        )
    if layer is not None:
        return Target(feature_map=maps.by_name(layer), reason="asked for by name")
    for feature_map in reversed(maps.crossed):
        if not maps.shown_before(feature_map) and maps.positions_are_read(feature_map):
            what = "sequence of patches" if feature_map.layout.special_tokens else "feature map"
            return Target(
                feature_map=feature_map,
                reason=f"the last {what} that every path from the input to the class score crosses, before pooling",
            )
    raise NoFeatureMap(
        f"{forward.model_name!r} has no feature map of more than one position that every path from its input "
        f"{forward.main.name!r} to the class score crosses. {maps.spatial_layers()}"
    )


class _FeatureMaps:
    """The spatial tensors of a forward pass, by where they lie and by name."""

    def __init__(self, forward: ForwardPass) -> None:
        self._forward = forward
        self._cone = Cone(forward.start, forward.predictions)
        self._outputs = {id(output.tensor): output for output in reversed(forward.outputs)}
        self.crossed = tuple(self._crossed())

    def _crossed(self) -> Iterator[FeatureMap]:
        tensors = self._cone.learned_cuts()
        rank = self._forward.main.spatial_rank
        spatial = [tensor for tensor in tensors if self._layout(tensor, rank)]
        # Sequences along one axis of an image, as text recognition reads them, only where no map of it is left.
        ranks = (rank,) if rank and spatial else (3, 2, 1)
        for tensor in tensors:
            layout = next((found for one in ranks if (found := self._layout(tensor, one))), None)
            layout = layout or self._tokens(tensor, tensors)
            if layout is not None:
                yield self._feature_map(tensor, layout)

    def _layout(self, tensor: tf.Tensor, rank: int) -> Layout | None:
        if not tensor.dtype.is_floating or tensor.shape.rank != rank + 2:
            return None
        return spatial_layout(tensor.shape, channels_first=self._channels_first(tensor))

    def _channels_first(self, tensor: tf.Tensor) -> bool:
        """Whether the layer that returned `tensor`, or the last one before it, says so."""
        if id(tensor) in self._outputs:
            return self._outputs[id(tensor)].data_format == "channels_first"
        before = [one for one in self._forward.outputs if self._cone.precedes(one.tensor, tensor)]
        return bool(before) and before[-1].data_format == "channels_first"

    def _tokens(self, tensor: tf.Tensor, cuts: list[tf.Tensor]) -> Layout | None:
        if not tensor.dtype.is_floating or tensor.shape.rank != 3:
            return None
        rank, size = self._forward.main.spatial_rank, self._forward.main.size
        earlier = [self._layout(one, rank) for one in cuts if self._cone.precedes(one, tensor)]
        return token_layout(tensor.shape, [layout.grid for layout in reversed(earlier) if layout], size)

    def _feature_map(self, tensor: tf.Tensor, layout: Layout) -> FeatureMap:
        output = self._outputs.get(id(tensor))
        name = output.path if output else tensor.op.name
        return FeatureMap(name=name, tensor=tensor, layout=layout, from_layer=output is not None)

    def opaque_call(self) -> str | None:
        """Return the name of a call, on the way, of a function that was finished before tracing."""
        return next((one.name for one in self._cone.operations if one.type in OPAQUE_CALLS), None)

    def shown_before(self, feature_map: FeatureMap) -> bool:
        """Whether it is but pooled, padded or resized: a map that is crossed before it shows the same, or more."""
        crossed = {id(one.tensor) for one in self.crossed}
        tensor = feature_map.tensor
        while tensor.op.type in _POSITIONAL_OPS:
            tensor = tensor.op.inputs[0]
            if id(tensor) in crossed:
                return True
        return False

    def positions_are_read(self, feature_map: FeatureMap) -> bool:
        """Whether the class score sees more than one position of it, or mixes them before it drops the others.

        After the last attention only the class token of a Vision Transformer is read: the patches' gradients are zero.
        """
        count = feature_map.tensor.shape[1]
        return feature_map.tensor.shape.rank != 3 or not self._cone.reads_one_of(count, feature_map.tensor)

    def by_name(self, layer: str) -> FeatureMap:
        for feature_map in self.crossed:
            if layer == feature_map.name and not feature_map.from_layer:
                return feature_map
        paths = Counter(output.path for output in self._forward.outputs)
        matches = [layer] if layer in paths else [path for path in paths if path.endswith(f"/{layer}")]
        if not matches:
            close = difflib.get_close_matches(layer, paths, n=5, cutoff=0.4)
            hint = f"Close names: {', '.join(close)}." if close else self.spatial_layers()
            raise LayerNotFound(f"{self._forward.model_name!r} called no layer named {layer!r}. {hint}")
        if len(matches) > 1:
            named = ", ".join(matches)
            raise ExplanationError(f"Several layers are named {layer!r}: {named}. Give one of these in full.")
        if paths[matches[0]] > 1:
            raise ExplanationError(
                f"Layer {matches[0]!r} is called {paths[matches[0]]} times, so its output is not one feature map. "
                f"{self.spatial_layers()}"
            )
        return self._of_layer(matches[0])

    def _of_layer(self, path: str) -> FeatureMap:
        output = next(output for output in self._forward.outputs if output.path == path)
        tensor = output.tensor
        layout = self._any_layout(tensor)
        if layout is None:
            raise ExplanationError(
                f"Layer {path!r} returns {tensor.shape}, not a feature map of more than one position. "
                f"{self.spatial_layers()}"
            )
        feature_map = FeatureMap(name=path, tensor=tensor, layout=layout, from_layer=True)
        if not self.positions_are_read(feature_map):
            raise ExplanationError(
                f"Of what layer {path!r} returns the class score reads one token alone, so no patch has a gradient. "
                f"Choose a layer before the last attention. {self.spatial_layers()}"
            )
        return feature_map

    def _any_layout(self, tensor: tf.Tensor) -> Layout | None:
        rank = self._forward.main.spatial_rank
        tokens = self._tokens(tensor, self._cone.learned_cuts()) if rank != 1 else None
        return tokens or next((found for one in (3, 2, 1) if (found := self._layout(tensor, one))), None)

    def spatial_outputs(self) -> dict[str, tf.Tensor]:
        outputs = [output for output in self._forward.outputs if self._any_layout(output.tensor)]
        return {output.path: output.tensor for output in outputs}

    def spatial_layers(self) -> str:
        """Return a sentence that names the layers which could be explained."""
        spatial = list(self.spatial_outputs())
        if not spatial:
            return "No layer of this model returns one: Grad-CAM needs convolutional features, or tokens of patches."
        shown = ", ".join(spatial[-8:])
        return f"Layers that return one{' (the last 8)' if len(spatial) > 8 else ''}: {shown}."
