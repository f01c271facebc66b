"""Functions of a SavedModel are told what their variables look like: wherever it is true, and nowhere else."""

import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.savedmodel.variable_shapes import tell_variable_shapes
from tensorflow.core.protobuf import saved_model_pb2


class Sums(tf.Module):
    """Calls functions of variables in every way that a graph can."""

    def __init__(self):
        super().__init__()
        self.long = tf.Variable(np.arange(6, dtype=np.float32))
        self.other = tf.Variable(np.arange(6, dtype=np.float32) * 10)
        self.short = tf.Variable(np.arange(2, dtype=np.float32))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def signature(self, x):
        @tf.function(autograph=False)
        def inner(x):
            return x + tf.reduce_sum(self.long)

        looped = tf.while_loop(lambda y: y < 100.0, inner, [x])[0]
        branched = tf.cond(x > 0, lambda: inner(x), lambda: x + tf.reduce_sum(self.short))
        chosen = tf.switch_case(tf.cast(x, tf.int32), [lambda: tf.reduce_sum(self.other), lambda: x])
        return {"y": tf.stack([looped, branched, chosen])}


@pytest.fixture
def written(tmp_path):
    module = Sums()
    tf.saved_model.save(module, str(tmp_path), signatures=module.signature)
    return tmp_path


def graph_of(directory):
    return saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def


def resources(function):
    """Return each argument that is a variable, with the shapes its attributes tell."""
    for place, argument in enumerate(function.signature.input_arg):
        if argument.type == tf.resource.as_datatype_enum:
            told = function.arg_attr[place].attr
            assert list(told["_handle_dtypes"].list.type) in ([], [tf.float32.as_datatype_enum])
            yield argument.name, [[dim.size for dim in shape.dim] for shape in told["_handle_shapes"].list.shape]


def test_calls_loops_and_branches_are_followed(written):
    tell_variable_shapes(written)
    functions = {function.signature.name: function for function in graph_of(written).library.function}
    kinds = {"signature", "inner", "while_body", "cond_true", "cond_false", "switch_case"}
    seen = set()
    for name, function in functions.items():
        for _, shapes in resources(function):
            if "restore" not in name and "save" not in name:
                assert shapes in ([[6]], [[2]])
                seen |= {kind for kind in kinds if kind in name}
    assert seen == kinds


def test_the_answers_stay(written):
    tell_variable_shapes(written)
    with LoadedVersion.load(written) as version:
        np.testing.assert_array_equal(version.run("serving_default", {"x": np.float32(1)})["y"], [106, 16, 1])
    loaded = tf.saved_model.load(str(written)).signatures["serving_default"]
    np.testing.assert_array_equal(loaded(tf.constant(1.0))["y"], [106, 16, 1])


def test_an_argument_that_is_not_always_the_same_is_left_untold(written):
    """Two calls of one function, with variables of different shapes: none of them may be told of both."""
    path = written / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = saved_model.meta_graphs[0].graph_def
    (short,) = [n.name for n in graph.node if n.op == "VarHandleOp" and n.attr["shape"].shape.dim[0].size == 2]
    (call,) = [n for n in graph.node if n.op == "StatefulPartitionedCall" and "signature" in n.attr["f"].func.name]
    again = graph.node.add()
    again.CopyFrom(call)
    again.name = "again"
    again.input[1] = short
    path.write_bytes(saved_model.SerializeToString())
    tell_variable_shapes(written)
    (function,) = [one for one in graph_of(written).library.function if one.signature.name == call.attr["f"].func.name]
    assert [shapes for _, shapes in resources(function)].count([]) == 1
