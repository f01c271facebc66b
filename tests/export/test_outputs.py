"""What a request does not ask for is not computed, and what is wrong in it is refused whatever it asks for."""

import numpy as np
import pytest
import tensorflow as tf
from assembled import Folded
from classifiers import FAMILIES, photographs
from gradcam_export import contract
from kernels import profiled
from tensorflow.python.client import pywrap_tf_session

OUTPUTS = (
    contract.PREDICTIONS,
    contract.CLASS_INDEX,
    contract.LABEL,
    contract.SCORE,
    contract.HEATMAP,
    contract.HEATMAP_PEAK,
)


@pytest.fixture(scope="module", params=["in-graph", "server", "none"])
def version(request, tmp_path_factory):
    folded = Folded(FAMILIES["functional"].model(), method="scorecam", batching=request.param)
    return folded.served(tmp_path_factory.mktemp("served")).loaded


@pytest.fixture(scope="module")
def images():
    return photographs(2)


def test_without_its_heatmap_an_explanation_runs_what_a_prediction_runs(version, images, tmp_path):
    def convolutions(name, signature, outputs):
        version.run(signature, {contract.IMAGES: images}, outputs)
        with profiled(tmp_path / name) as kernels:
            version.run(signature, {contract.IMAGES: images}, outputs)
        return sum(count for (_, operation), count in kernels.runs.items() if "Conv" in operation)

    predicting = convolutions("predict", contract.PREDICT, ())
    assert predicting > 0
    assert convolutions("filtered", contract.SERVING_DEFAULT, [contract.PREDICTIONS, contract.LABEL]) == predicting
    assert convolutions("whole", contract.SERVING_DEFAULT, ()) > predicting


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_alone_is_what_it_is_among_the_others(version, images, output):
    asked = {contract.IMAGES: images, contract.CLASS_INDEX: np.array([1, -1], np.int32)}
    together = version.run(contract.EXPLAIN, asked)
    alone = version.run(contract.EXPLAIN, asked, [output])
    assert list(alone) == [output]
    if output in (contract.CLASS_INDEX, contract.LABEL):
        assert alone[output].tolist() == together[output].tolist()
    else:
        np.testing.assert_allclose(alone[output], together[output], atol=1e-6)


@pytest.mark.parametrize("output", OUTPUTS)
def test_whatever_is_asked_for_a_wrong_class_is_refused(version, images, output):
    asked = {contract.IMAGES: images, contract.CLASS_INDEX: np.array([1, 99], np.int32)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="class_index must be 0"):
        version.run(contract.EXPLAIN, asked, [output])


@pytest.mark.parametrize("output", OUTPUTS)
def test_whatever_is_asked_for_a_wrong_shape_is_refused(version, images, output):
    asked = {contract.IMAGES: images[:, 1:], contract.CLASS_INDEX: np.array([1, 2], np.int32)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
        run_unchecked(version, contract.EXPLAIN, asked, output)


def run_unchecked(version, signature, inputs, output):
    """Run it as a server does: `Session.run` of Python alone compares what it feeds with the placeholders."""
    definition, graph = version.signatures[signature], version._session.graph

    def place(info):
        return graph.get_tensor_by_name(info.name)._as_tf_output()

    feeds = {place(definition.inputs[name]): value for name, value in inputs.items()}
    fetches = [place(definition.outputs[output])]
    return pywrap_tf_session.TF_SessionRun_wrapper(version._session._session, None, feeds, fetches, [], None)
