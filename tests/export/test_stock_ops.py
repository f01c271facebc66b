"""What a stock TensorFlow Serving cannot run is refused by name; the runtime of its release agrees."""

import re

import make_stock_ops
import numpy as np
import pytest
import tensorflow as tf
from gradcam_export.checks.packaging import check_packaging
from gradcam_export.checks.stock_server import check_stock_server
from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.stock_ops import stock_server
from graph_edits import (
    function_called_by_its_name,
    gpu_operation,
    graph_of,
    mended_graph,
    newer_attribute,
    newer_choice,
    newer_graph,
    newer_producer,
    node_of,
    private_attribute,
    removed_operation,
    renamed_operation,
    renamed_operation_of_the_graph,
    type_without_kernel,
)
from tensorflow.core.protobuf import saved_model_pb2

SERVER_RELEASE = pytest.mark.skipif(
    not tf.__version__.startswith(f"{stock_server().server}."),
    reason=f"knows what TensorFlow {tf.__version__} can run, not what the server can",
)


class Scorer(tf.Module):
    """A convolution, a loop and a call: nodes of the graph and of its library."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(np.ones((2, 2, 1, 3), np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.float32, name="images")])
    def serve(self, images):
        maps = tf.nn.conv2d(images, self.kernel, 1, "SAME", name="convolution")
        _, maps = tf.while_loop(
            lambda step, _: step < 2,
            lambda step, values: (step + 1, tf.nn.softplus(values, name="inner")),
            [tf.constant(0), maps],
        )
        return {"scores": tf.reduce_mean(maps, [1, 2])}


IMAGES = np.ones((1, 4, 4, 1), np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a SavedModel's graph, and the directory that it lies in."""
    directory = tmp_path_factory.mktemp("stock") / "1"
    scorer = Scorer()
    tf.saved_model.save(scorer, str(directory), signatures=scorer.serve)
    return directory, (directory / "saved_model.pb").read_bytes()


@pytest.fixture
def edited(written):
    """Return what writes the SavedModel anew, changed by a function of its proto."""
    directory, original = written

    def write_edited(edit):
        saved_model = saved_model_pb2.SavedModel.FromString(original)
        edit(saved_model)
        (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString())
        return directory

    yield write_edited
    (directory / "saved_model.pb").write_bytes(original)


def runs(directory):
    """Load the version as the server does, and run it."""
    with LoadedVersion.load(directory) as loaded:
        return loaded.run("serving_default", {"images": IMAGES})


REFUSED = {
    renamed_operation: r"__inference_serve_\d+/convolution: ZeroOut is no operation that TensorFlow Serving 2\.20 can "
    r"run \(write it with operations of TensorFlow 2\.20, or link it into a server of your own\)",
    renamed_operation_of_the_graph: r"save/RestoreV2|RestoreV2.*: ZeroOut is no operation",
    removed_operation: r"/inner: BatchMatrixInverse is no operation that TensorFlow Serving 2\.20 can run",
    gpu_operation: r"/inner: IRFFTND has no kernel for CPUs \(export with CUDA_VISIBLE_DEVICES=-1",
    newer_attribute: r"/inner: Softplus has an attribute 'grouping', newer than TensorFlow Serving 2\.20, which "
    r"ignores it \(export with TensorFlow 2\.20\)",
    type_without_kernel: r"/inner: Softplus has no kernel for T=complex64 in TensorFlow Serving 2\.20 "
    r"\(of bfloat16, double, float, half, use one\)",
    newer_choice: r"/convolution: Conv2D has no kernel for padding=REFLECT .*\(of EXPLICIT, SAME, VALID, use one\)",
    newer_graph: r"the graph: is of version 9999 for readers of version 9000 or newer, and that server reads version "
    r"2288 \(export with TensorFlow 2\.20\)",
    mended_graph: r"the graph: is of version \d+ .* reads version 2288",
}


@pytest.mark.parametrize("edit", REFUSED, ids=lambda edit: edit.__name__)
def test_what_the_server_cannot_run_is_named(edited, edit):
    check = check_stock_server(edited(edit))
    assert not check.passed
    assert re.search(rf"TensorFlow Serving 2\.20 cannot run .*(?:{REFUSED[edit]})", check.message), check.message


@SERVER_RELEASE
@pytest.mark.parametrize(
    "edit", [edit for edit in REFUSED if edit is not newer_attribute], ids=lambda edit: edit.__name__
)
def test_the_runtime_of_the_servers_release_refuses_the_same(edited, edit):
    with pytest.raises((ValueError, RuntimeError, tf.errors.OpError)):
        runs(edited(edit))


@SERVER_RELEASE
def test_the_runtime_of_the_servers_release_answers_something_else_without_a_newer_attribute(edited):
    """It logs "Unknown attributes will be ignored" and computes what the operation was before."""
    np.testing.assert_array_equal(runs(edited(newer_attribute))["scores"], runs(edited(lambda _: None))["scores"])


@pytest.mark.parametrize("edit", [newer_producer, private_attribute, function_called_by_its_name, lambda _: None])
def test_what_the_server_runs_is_not_refused(edited, edit):
    assert check_stock_server(edited(edit)).passed


@SERVER_RELEASE
@pytest.mark.parametrize("edit", [newer_producer, private_attribute])
def test_the_runtime_of_the_servers_release_runs_it_too(edited, edit):
    np.testing.assert_allclose(runs(edited(edit))["scores"], runs(edited(lambda _: None))["scores"])


def test_every_meta_graph_is_read(edited):
    def second(saved_model):
        saved_model.meta_graphs.add().CopyFrom(saved_model.meta_graphs[0])
        saved_model.meta_graphs[1].graph_def.node.add(name="odd", op="ZeroOut")

    assert "odd: ZeroOut is no operation" in check_stock_server(edited(second)).message


def test_many_places_are_counted(edited):
    def everywhere(saved_model):
        for number in range(8):
            graph_of(saved_model).node.add(name=f"odd_{number}", op="ZeroOut")

    assert (
        "run odd_0, odd_1, odd_2, odd_3, odd_4 and 3 more: ZeroOut is" in check_stock_server(edited(everywhere)).message
    )


def test_functions_compiled_by_xla_are_refused(tmp_path):
    class Compiled(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x):
            return {"y": tf.function(lambda value: 2 * value, jit_compile=True)(x)}

    module = Compiled()
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    message = check_stock_server(tmp_path).message
    assert "PartitionedCall is compiled by XLA, which a stock server refuses (leave out jit_compile=True" in message
    assert re.search(r"__inference_<lambda>_\d+: the function is compiled by XLA", message)


def test_operations_compiled_by_xla_are_refused(edited):
    def jax(saved_model):
        node_of(saved_model, "Softplus").op = "XlaCallModule"

    assert "/inner: XlaCallModule is compiled by XLA" in check_stock_server(edited(jax)).message


def test_verification_stops_at_what_the_server_cannot_run(edited):
    (check,) = check_packaging(edited(renamed_operation), {})
    assert (check.name, check.largest_difference) == ("stock_server", float("inf"))


def test_operations_of_tensorflow_text_and_decision_forests_are_the_servers():
    known = stock_server().operations
    assert {"RegexSplitWithOffsets", "WordpieceTokenizeWithOffsets", "SimpleMLInferenceOpWithHandle"} <= known.keys()
    assert not {"PyFunc", "XlaCallModule", "CudnnRNNV3", "RpcCall", "BatchFFT"} & known.keys()


@SERVER_RELEASE
def test_the_servers_operations_are_those_of_its_release():
    found = make_stock_ops.stock_ops()
    shipped = stock_server()
    assert (found["server"], found["graph_def_version"]) == (shipped.server, shipped.graph_def_version)
    assert found["operations"] == shipped.operations
    assert found["gpu"] == shipped.gpu


@SERVER_RELEASE
def test_the_shipped_file_is_what_the_script_writes(tmp_path):
    make_stock_ops.write(tmp_path / "stock_ops.json")
    assert (tmp_path / "stock_ops.json").read_text() == make_stock_ops.STOCK_OPS.read_text()
