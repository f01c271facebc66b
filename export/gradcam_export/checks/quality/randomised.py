"""Sanity check by randomisation: does a map change when what the model has learned is destroyed?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np
import tensorflow as tf

from gradcam_export import contract
from gradcam_export.checks.quality.faithfulness import spearman
from gradcam_export.checks.quality.weight_order import WeightDepths
from gradcam_export.savedmodel.session import LoadedVersion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcam_export.checks.quality.explaining import ExplainingVersion

Array = np.ndarray[Any, Any]

_STAGES: Final = 4


class RandomisableVersion(LoadedVersion):
    """A version in a Session whose weights can be shuffled layer by layer, from the answer down.

    A layer is a variable of two or more axes, and what is added to its result. Weights that lie in the graph as
    constants stay as they are.
    """

    def __init__(self, session: Any, meta_graph: Any) -> None:
        super().__init__(session, meta_graph)
        depths = WeightDepths(meta_graph.graph_def)
        forward = depths.of(self._outputs(contract.PREDICT))
        explaining = set[str]().union(*(depths.of(self._outputs(name)) for name in self.signatures if _explains(name)))
        shapes = {
            node.name: node.attr["shape"].shape.dim for node in meta_graph.graph_def.node if node.op == "VarHandleOp"
        }
        starts = sorted({depth for name, depth in forward.items() if len(shapes[name]) > 1}, reverse=True)
        # Some gradients are taken with weights of their own, made of those of the head.
        self._layers = [
            [name for name, depth in forward.items() if start <= depth < end]
            for start, end in zip(starts, [1 << 60, *starts], strict=False)
        ]
        if self._layers:
            self._layers[0] += sorted(explaining - forward.keys())
        self._randomised = 0
        self._add_assignments()

    @property
    def layers(self) -> int:
        """How many layers can be randomised."""
        return len(self._layers)

    def randomise(self, layers: int) -> None:
        """Shuffle the values of each variable of the last `layers` layers, where that is not done yet.

        The order comes from the variable's name: the same version is randomised in the same way.
        """
        names = [name for layer in self._layers[self._randomised : layers] for name in layer]
        self._randomised = max(self._randomised, layers)
        values = self._session.run({name: self._reads[name] for name in names})
        given = {self._given[name]: _shuffled(name, value) for name, value in values.items()}
        self._session.run([self._assigns[name] for name in names], given)

    def _add_assignments(self) -> None:
        """Add all operations at once: each time that its graph grows, the Session prepares all of it anew."""
        graph = self._session.graph
        self._reads, self._given, self._assigns = {}, {}, {}
        with graph.as_default():
            for name in (name for layer in self._layers for name in layer):
                variable = graph.get_operation_by_name(name)
                handle, dtype = variable.outputs[0], variable.get_attr("dtype")
                self._reads[name] = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
                self._given[name] = tf.compat.v1.placeholder(dtype)
                self._assigns[name] = tf.raw_ops.AssignVariableOp(resource=handle, value=self._given[name])

    def _outputs(self, signature: str) -> list[str]:
        return [tensor.name for tensor in self.signatures[signature].outputs.values()]


def _shuffled(name: str, value: Array) -> Array:
    random = np.random.default_rng(crc32(name.encode()))
    return random.permutation(value.ravel()).reshape(value.shape)


def stages(layers: int) -> list[int]:
    """Return how many of the last layers to randomise in turn: the head alone, then a quarter more each time."""
    return sorted({1, *(-(-layers * quarter // _STAGES) for quarter in range(1, _STAGES + 1))}) if layers else []


def map_correlations(
    randomised: ExplainingVersion, images: Array, classes: Array, maps: Mapping[str, Array]
) -> dict[str, float]:
    """Return each method's mean Spearman correlation with the maps of the intact version (Adebayo, arXiv 1810.03292).

    Args:
        randomised: the version with weights destroyed.
        images: `[B,H,W,C]` uint8.
        classes: `[B]`, what the maps explain.
        maps: method → heatmaps `[B,h,w]` of the intact version.
    """
    return {
        method: float(
            np.mean(
                [
                    spearman(one, other)
                    for one, other in zip(before, randomised.explain(method, images, classes), strict=True)
                ]
            )
        )
        for method, before in maps.items()
    }


def _explains(signature: str) -> bool:
    plain = {contract.EXPLAIN_BYTES, contract.OVERLAY, contract.DESCRIBE, contract.TOP_K, contract.SERVING_DEFAULT}
    return signature.startswith(contract.EXPLAIN) and signature not in plain
