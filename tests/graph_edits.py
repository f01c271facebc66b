"""Edits of a written graph: what a stock TensorFlow Serving cannot run, and what it can."""

import tensorflow as tf
from gradcam_export.stock_ops import stock_server


def graph_of(saved_model):
    return saved_model.meta_graphs[0].graph_def


def node_of(saved_model, operation):
    """Return the first node of that operation, of the library's functions, where the work is, or of the graph."""
    functions = (node for function in graph_of(saved_model).library.function for node in function.node_def)
    return next(node for node in (*functions, *graph_of(saved_model).node) if node.op == operation)


def renamed_operation(saved_model):
    node_of(saved_model, "Conv2D").op = "ZeroOut"


def renamed_operation_of_the_graph(saved_model):
    node_of(saved_model, "RestoreV2").op = "ZeroOut"


def removed_operation(saved_model):
    node_of(saved_model, "Softplus").op = "BatchMatrixInverse"


def gpu_operation(saved_model):
    node_of(saved_model, "Softplus").op = "IRFFTND"


def newer_attribute(saved_model):
    node_of(saved_model, "Softplus").attr["grouping"].i = 3


def type_without_kernel(saved_model):
    node_of(saved_model, "Softplus").attr["T"].type = tf.complex64.as_datatype_enum


def newer_choice(saved_model):
    node_of(saved_model, "Conv2D").attr["padding"].s = b"REFLECT"


def newer_graph(saved_model):
    versions = graph_of(saved_model).versions
    versions.producer, versions.min_consumer = 9999, 9000


def mended_graph(saved_model):
    graph_of(saved_model).versions.bad_consumers.append(stock_server().graph_def_version)


def newer_producer(saved_model):
    graph_of(saved_model).versions.producer = 9999


def private_attribute(saved_model):
    node_of(saved_model, "Softplus").attr["_grouping"].i = 3


def function_called_by_its_name(saved_model):
    call = node_of(saved_model, "StatefulPartitionedCall")
    call.op = call.attr["f"].func.name
    call.attr.clear()
