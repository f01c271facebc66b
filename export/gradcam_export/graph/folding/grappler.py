"""TensorFlow's own graph optimiser, called on a graph at hand; the one file that touches TensorFlow privates.

`tensorflow.python.grappler` has no public name (seen in 2.18 to 2.21).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, device_properties_pb2, meta_graph_pb2
from tensorflow.python.grappler import cluster, tf_optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CONTROL_FLOW = frozenset(("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"))


def optimize(graph_def: Any, keep: Iterable[str], passes: Sequence[str]) -> Any:
    """Return `graph_def` after grappler's `passes`, in their order.

    Args:
        graph_def: a GraphDef.
        keep: names of operations that must survive; what they do not need is pruned.
        passes: names of grappler optimizers.

    Raises:
        tf.errors.OpError: an optimizer failed.
    """
    unlowered = type(graph_def)()
    unlowered.CopyFrom(graph_def)
    lowered = _set_lowered(unlowered, wanted=False)
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(unlowered, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=unlowered, graph=graph)
    fetches = meta_graph_pb2.CollectionDef()
    fetches.node_list.value.extend(keep)
    meta_graph.collection_def["train_op"].CopyFrom(fetches)
    config = config_pb2.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.optimizers.extend(passes)
    rewrites.min_graph_nodes = -1  # small graphs too
    rewrites.fail_on_optimizer_errors = True
    # A described machine instead of this one: the same graph everywhere, and no session started to probe devices.
    cpu = device_properties_pb2.NamedDevice(name="/job:localhost/replica:0/task:0/device:CPU:0")
    cpu.properties.type = "CPU"
    machine = cluster.Cluster(devices=[cpu])
    optimized = tf_optimizer.OptimizeGraph(config, meta_graph, verbose=False, cluster=machine)
    if lowered:
        _set_lowered(optimized, wanted=True)
    return optimized


def _set_lowered(graph_def: Any, *, wanted: bool) -> bool:
    """Say whether loops and branches may be taken apart into `Enter`, `Switch` and the like; return if that is news.

    The runtime does that when it loads the graph. Until then their bodies stay functions: among nodes taken apart, a
    new constant would have to be told which loop it belongs to.
    """
    changed = False
    for nodes in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in nodes:
            if node.op in _CONTROL_FLOW and node.attr["_lower_using_switch_merge"].b != wanted:
                node.attr["_lower_using_switch_merge"].b = wanted
                changed = True
    return changed
