"""Graphs written by hand, to see what one rewrite does to one pattern."""

from collections import Counter

import numpy as np
import tensorflow as tf
from gradcam_export.graph.folding.editing import EditableGraph, producer_name
from gradcam_export.graph.folding.grappler import optimize


class HandBuilt:
    """A graph with its weights left out, as tracing makes it."""

    def __init__(self, dtype: str = "float64", seed: int = 0) -> None:
        self.dtype = tf.as_dtype(dtype)
        self.graph = tf.Graph()
        self.weights: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(seed)

    def input(self, *shape: int | None, name: str = "x"):
        """Add an input `[B, *shape]`."""
        return tf.compat.v1.placeholder(self.dtype, [None, *shape], name=name)

    def weight(self, *shape: int, dtype=None):
        """Add a weight drawn from a normal distribution."""
        value = self.random.normal(0, 0.5, shape).astype(tf.as_dtype(dtype or self.dtype).as_numpy_dtype)
        placeholder = tf.compat.v1.placeholder(value.dtype, shape, name=f"weight_{len(self.weights)}")
        self.weights[placeholder.op.name] = value
        return placeholder

    def constant(self, *shape: int, dtype=None):
        """Add a constant away from zero."""
        value = self.random.uniform(0.5, 1.5, shape)
        return tf.constant(value.astype(tf.as_dtype(dtype or self.dtype).as_numpy_dtype))

    def rewritten(self, outputs, *passes):
        """Return the result of `passes` in the order that folding has, as what `Rewritten` runs."""
        kept = [tensor.op.name for tensor in outputs]
        inputs = [
            node.name
            for node in self.graph.as_graph_def().node
            if node.op == "Placeholder" and node.name not in self.weights
        ]
        graph_def = optimize(self.graph.as_graph_def(), [*kept, *inputs], ["constfold", "arithmetic", "dependency"])
        graph = EditableGraph(graph_def, dict(self.weights), [*kept, *inputs])
        counts = [rewrite(graph) for rewrite in passes]
        final = optimize(graph.graph_def, [*kept, *inputs], ["constfold", "dependency"])
        return Rewritten(final, graph.weights, counts)

    def plain(self):
        """Return the graph as it was built."""
        return Rewritten(self.graph.as_graph_def(), self.weights, [])

    def both(self, outputs, feeds, *passes):
        """Return the rewritten graph, and the values of `outputs` before and after."""
        after = self.rewritten(outputs, *passes)
        names = [tensor.name for tensor in outputs]
        return after, self.plain().run(names, feeds), after.run(names, feeds)


class Rewritten:
    """A GraphDef with weights that can be run and looked at."""

    def __init__(self, graph_def, weights: dict[str, np.ndarray], counts: list[int]) -> None:
        self.graph_def, self.weights, self.counts = graph_def, weights, counts

    @property
    def ops(self) -> Counter:
        """How many operations of each type."""
        return Counter(node.op for node in self.graph_def.node)

    def read(self) -> set[str]:
        """Names of the weights that are read."""
        return self.weights.keys() & {producer_name(name) for node in self.graph_def.node for name in node.input}

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run it on `feeds`, by the inputs' names."""
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(self.graph_def, name="")
        present = {node.name for node in self.graph_def.node}
        values = {**self.weights, **feeds}
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run(names, {f"{name}:0": value for name, value in values.items() if name in present})
