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


def optimize(graph_def: Any, keep: Iterable[str], passes: Sequence[str]) -> Any:
    """Return `graph_def` after grappler's `passes`, in their order.

    Args:
        graph_def: a GraphDef.
        keep: names of operations that must survive; what they do not need is pruned.
        passes: names of grappler optimizers.

    Raises:
        tf.errors.OpError: an optimizer failed.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
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
    return tf_optimizer.OptimizeGraph(config, meta_graph, verbose=False, cluster=machine)
