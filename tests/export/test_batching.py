"""Requests that are merged inside the graph: nothing that one caller sends reaches another's answer."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from classifiers import CLASSES, FAMILIES, photographs
from deployment import parse
from gradcam_export import OptionError, export_classifier
from gradcam_export.options import ExportOptions
from gradcam_export.savedmodel.session import LoadedVersion

THREADS = 16
REQUESTS = 1600


@pytest.fixture(scope="module")
def model():
    return FAMILIES["functional"].model()


@pytest.fixture(scope="module")
def merged(model, tmp_path_factory):
    """A version that merges up to 8 rows, each first one waiting 2 ms for others."""
    base = tmp_path_factory.mktemp("merged") / "functional"
    published = export_classifier(
        model, base, max_batch_size=8, batch_timeout_micros=2000, method=("gradcam", "hirescam")
    )
    with LoadedVersion.load(published.path) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def alone(model, tmp_path_factory):
    """The same without merging."""
    base = tmp_path_factory.mktemp("alone") / "functional"
    published = export_classifier(model, base, batching="none", method=("gradcam", "hirescam"))
    with LoadedVersion.load(published.path) as loaded:
        yield loaded


def together(work, count=REQUESTS):
    """Run `work(number)` from many threads that start at once; return the results in order."""
    start = threading.Barrier(THREADS)

    def one(numbers):
        start.wait()
        return [work(number) for number in numbers]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(one, [range(first, count, THREADS) for first in range(THREADS)]))
    results = [None] * count
    for first, part in enumerate(parts):
        results[first::THREADS] = part
    return results


def test_bad_requests_fail_alone(merged, alone):
    images = photographs(24)
    wanted = {
        signature: [
            alone.run(signature, {"images": images[[row]], "class_index": np.array([row % CLASSES], np.int32)})
            for row in range(24)
        ]
        for signature in ("explain", "explain_hirescam")
    }

    def work(number):
        row, signature = number % 24, ("explain", "explain_hirescam")[number % 2]
        asked = np.array([CLASSES + number if number % 10 == 3 else row % CLASSES], np.int32)
        try:
            return signature, row, merged.run(signature, {"images": images[[row]], "class_index": asked})
        except tf.errors.InvalidArgumentError as error:
            return signature, row, error

    for number, (signature, row, found) in enumerate(together(work)):
        if number % 10 == 3:
            assert "class_index must be 0..4" in found.message
            assert str(CLASSES + number) in found.message
        else:
            for name in ("predictions", "heatmap", "score", "heatmap_peak"):
                np.testing.assert_allclose(found[name], wanted[signature][row][name], rtol=1e-5, atol=1e-5)
            assert found["label"].tolist() == wanted[signature][row]["label"].tolist()


def test_requests_of_any_size_get_their_own_rows(merged, alone):
    images = photographs(24)
    whole = alone.run("serving_default", {"images": images})

    def work(number):
        rows = slice(number % 20, number % 20 + number % 23)
        return rows, merged.run("serving_default", {"images": images[rows]})

    for rows, found in together(work, 320):
        for name in ("predictions", "heatmap", "score"):
            np.testing.assert_allclose(found[name], whole[name][rows], rtol=1e-5, atol=1e-5)


def test_two_models_in_one_process_never_share_rows(merged, tmp_path):
    other = FAMILIES["nested"].model()
    published = export_classifier(other, tmp_path / "functional", max_batch_size=8, batch_timeout_micros=2000)
    images = photographs(8)
    with LoadedVersion.load(published.path) as second:
        versions = (merged, second)
        wanted = [[version.run("predict", {"images": images[[row]]}) for row in range(8)] for version in versions]
        found = together(lambda n: versions[n % 2].run("predict", {"images": images[[n // 2 % 8]]}), 640)
    for number, answer in enumerate(found):
        np.testing.assert_allclose(
            answer["predictions"], wanted[number % 2][number // 2 % 8]["predictions"], rtol=0, atol=1e-5
        )


def test_impatient_callers_take_nothing_from_patient_ones(merged):
    images = photographs(4)

    def work(number):
        patient = number % 4 > 0
        try:
            answer = merged.run("serving_default", {"images": images}, timeout_ms=20_000 if patient else 1)
        except tf.errors.DeadlineExceededError as error:
            return patient, error
        return patient, answer

    for patient, found in together(work, 320):
        if patient:
            assert found["predictions"].shape == (4, CLASSES)


@pytest.mark.parametrize("signature", ["serving_default", "explain", "explain_hirescam", "top_k", "predict"])
def test_no_rows_answer_no_rows(merged, alone, signature):
    inputs = {"images": photographs(2)[:0]}
    if signature.startswith("explain"):
        inputs["class_index"] = np.zeros(0, np.int32)
    one = {name: np.zeros((1, *value.shape[1:]), value.dtype) for name, value in inputs.items()}
    for version in (merged, alone):
        found, shapes = version.run(signature, inputs), version.run(signature, one)
        assert {name: value.shape for name, value in found.items()} == {
            name: (0, *value.shape[1:]) for name, value in shapes.items()
        }


def test_every_signature_has_a_queue_of_its_own(merged):
    queues = [
        node.attr["shared_name"].s
        for function in merged._session.graph.as_graph_def().library.function
        for node in function.node_def
        if node.op == "BatchFunction"
    ]
    turns = [name for name in queues if not name.endswith(b"-timer")]
    assert len(queues) == len(set(queues)) == 14
    assert len(turns) == 7


def test_the_server_can_merge_instead(model, tmp_path):
    published = export_classifier(model, tmp_path / "m", batching="server", max_batch_size=6, batch_threads=2)
    text = (published.path / "batching_params.pbtxt").read_text()
    parameters = parse("BatchingParameters", text)
    assert parameters.max_batch_size.value == 6
    assert parameters.num_batch_threads.value == 2
    assert list(parameters.allowed_batch_sizes) == published.manifest.batching["allowed_batch_sizes"] == [1, 2, 4, 6]
    assert "BatchFunction" not in {
        node.op
        for function in LoadedVersion.load(published.path)._session.graph.as_graph_def().library.function
        for node in function.node_def
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allowed_batch_sizes": (1, 4, 2)}, r"allowed_batch_sizes must ascend from 1 up to max_batch_size 16"),
        ({"allowed_batch_sizes": (1, 2), "max_batch_size": 4}, r"up to max_batch_size 4; got \(1, 2\)"),
        ({"allowed_batch_sizes": ()}, r"got \(\)"),
        ({"max_batch_size": 0}, "max_batch_size must be a number from 1 up; got 0"),
        ({"batch_threads": 0}, "batch_threads must be a number from 1 up; got 0"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be a number from 0 up; got -1"),
        ({"batching": "always"}, "batching must be one of in-graph, server, none; got 'always'"),
    ],
)
def test_batches_that_cannot_be_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        ExportOptions(**options)


def test_batches_are_padded_to_the_next_power_of_two():
    assert ExportOptions().batch_sizes == (1, 2, 4, 8, 16)
    assert ExportOptions(max_batch_size=5).batch_sizes == (1, 2, 4, 5)
    assert ExportOptions(max_batch_size=1).batch_sizes == (1,)
