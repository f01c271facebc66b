"""Requests that are merged inside the graph: nothing that one caller sends reaches another's answer."""

import dataclasses
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from assembled import Folded, served
from classifiers import CLASSES, FAMILIES, photographs
from deployment import parse
from gradcam_export import export_classifier
from gradcam_export.graph import combining
from gradcam_export.savedmodel.session import LoadedVersion
from kernels import merges, profiled
from residual import postactivated, preactivated

THREADS = 16
REQUESTS = 1600


@pytest.fixture(scope="module")
def folded():
    return Folded(FAMILIES["functional"].model(), method=("gradcam", "hirescam"))


@pytest.fixture(scope="module")
def merge(folded, tmp_path_factory):
    """Write a version of the classifier that merges its requests as the options say."""
    others = folded.options

    def written(**options):
        asked = {"batching": "in-graph", "max_batch_size": 8, **options}
        folded.options = dataclasses.replace(others, **asked)
        return folded.served(tmp_path_factory.mktemp("merged")).loaded

    return written


@pytest.fixture(scope="module")
def merged(merge):
    return merge()


@pytest.fixture(scope="module")
def alone(merge):
    """The same without merging."""
    return merge(batching="none")


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
    images = photographs(8)
    other = served(FAMILIES["nested"].model(), tmp_path, batching="in-graph", max_batch_size=8)
    versions = (merged, other.loaded)
    wanted = [[version.run("predict", {"images": images[[row]]}) for row in range(8)] for version in versions]
    found = together(lambda n: versions[n % 2].run("predict", {"images": images[[n // 2 % 8]]}), 640)
    for number, answer in enumerate(found):
        np.testing.assert_allclose(
            answer["predictions"], wanted[number % 2][number // 2 % 8]["predictions"], rtol=0, atol=1e-5
        )


def test_inputs_of_any_kind_are_merged(tmp_path):
    """Several of them, of several types, and a method that asks again."""
    layers = keras.layers
    wave, age = keras.Input((40, 3), name="wave"), keras.Input((2,), dtype="int32", name="age")
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(6, 3, activation="relu")(wave))
    x = layers.Concatenate()([x, layers.Flatten()(layers.Embedding(9, 4)(age))])
    model = keras.Model([wave, age], layers.Dense(3)(x))
    random = np.random.default_rng(0)
    given = {
        "wave": random.normal(size=(24, 40, 3)).astype(np.float32),
        "age": random.integers(0, 9, (24, 2), np.int32),
    }
    version = served(model, tmp_path, batching="in-graph", max_batch_size=8, method=("gradcam", "ablationcam")).loaded
    whole = version.run("serving_default", given)
    found = together(lambda n: version.run("serving_default", {k: v[[n % 24]] for k, v in given.items()}), 320)
    for number, answer in enumerate(found):
        for name in ("predictions", "heatmap", "heatmap_peak"):
            np.testing.assert_allclose(answer[name], whole[name][[number % 24]], rtol=1e-5, atol=1e-5)
    asked = {**given, "class_index": np.zeros(24, np.int32)}
    assert version.run("explain_ablationcam", asked)["heatmap"].shape == whole["heatmap"].shape


@pytest.mark.parametrize("milliseconds", [1, 20])
def test_impatient_callers_take_nothing_from_patient_ones(merged, alone, milliseconds):
    """Their rows are computed, or not, and their answers forgotten; who waited for their batch computes it again."""
    images = photographs(24)
    whole = alone.run("serving_default", {"images": images})

    def work(number):
        patient, rows = number % 4 > 0, slice(number % 5, number % 5 + 1 + number % 19)
        try:
            answer = merged.run(
                "serving_default", {"images": images[rows]}, timeout_ms=20_000 if patient else milliseconds
            )
        except tf.errors.DeadlineExceededError as error:
            return patient, rows, error
        return patient, rows, answer

    found = together(work, 1600)
    for patient, rows, answer in found:
        if patient:
            for name in ("predictions", "heatmap", "score"):
                np.testing.assert_allclose(answer[name], whole[name][rows], rtol=1e-5, atol=1e-5)
    assert sum(isinstance(answer, tf.errors.OpError) for _, _, answer in found) > 100


@pytest.mark.parametrize("options", [{"batch_timeout_micros": 2000}, {"batch_threads": 2}])
def test_waiting_for_others_and_several_batches_at_once_change_no_answer(merge, alone, options):
    images = photographs(24)
    whole = alone.run("predict", {"images": images})
    version = merge(**options)
    for number, found in enumerate(together(lambda n: version.run("predict", {"images": images[[n % 24]]}), 480)):
        np.testing.assert_allclose(found["predictions"], whole["predictions"][[number % 24]], rtol=1e-5, atol=1e-5)


def test_a_request_waits_for_others_as_long_as_was_asked(merge):
    patient = merge(batch_timeout_micros=300_000)
    images = photographs(8)
    patient.run("predict", {"images": images})
    start = time.perf_counter()
    patient.run("predict", {"images": images[:1]})
    # No test asserts how fast a machine is, but a wait has a least length.
    assert time.perf_counter() - start >= 0.3


def test_rows_are_merged_and_kernels_stay_fused(merged, tmp_path):
    images = photographs(1)
    merged.run("predict", {"images": images})
    with profiled(tmp_path) as kernels:
        together(lambda _: merged.run("predict", {"images": images}), 320)
    assert 320 / kernels.batches() > 4
    assert {"_MklNativeFusedConv2D", "_FusedConv2D"} & kernels.operations()
    assert not {"BiasAdd", "Relu6"} & kernels.operations()


def test_a_lone_caller_takes_no_detour(merged, tmp_path):
    """Whether of one row or of many, a request that nobody waits with leaves no answers for others."""
    images = photographs(8)

    def left(name, work):
        with profiled(tmp_path / name) as kernels:
            work()
        return "LookupTableInsertV2" in kernels.operations()

    assert not left("alone", lambda: [merged.run("predict", {"images": images[:rows]}) for rows in (1, 2, 8)])
    assert left("together", lambda: together(lambda _: merged.run("predict", {"images": images[:1]}), 160))


@pytest.mark.parametrize("network", [preactivated, postactivated])
def test_rows_are_merged_into_the_kernels_that_compute_them_alone(network, tmp_path):
    """A network's sums too: their operands' shapes are known in the merging function only if it is told them."""
    images = {"images": photographs(1)}
    folded, counts = Folded(network()), []
    for batching in ("none", "in-graph"):
        folded.options = dataclasses.replace(folded.options, batching=batching)
        directory = tmp_path / batching
        directory.mkdir()
        version = folded.served(directory).loaded
        version.run("serving_default", images)
        with profiled(directory / "profile") as kernels:
            version.run("serving_default", images)
        counts.append(Counter())
        for (node, operation), count in kernels.runs.items():
            if not merges(node) and any(kind in operation for kind in ("Conv2D", "MatMul", "Add", "Relu")):
                counts[-1][operation] += count
    assert counts[0] == counts[1]
    assert not {"AddV2", "BiasAdd"} & set(counts[0])


def test_answers_that_nobody_fetches_are_forgotten(folded, tmp_path, monkeypatch):
    """Whoever waits for one that went with them computes it again."""
    monkeypatch.setattr(combining, "_ABANDONED_BYTES", 4096)
    images = photographs(24)
    folded.options = dataclasses.replace(folded.options, batching="in-graph", max_batch_size=8)
    version = folded.served(tmp_path).loaded
    wanted = version.run("predict", {"images": images})["predictions"]
    for number, found in enumerate(together(lambda n: version.run("predict", {"images": images[: 1 + n % 24]}), 320)):
        np.testing.assert_allclose(found["predictions"], wanted[: 1 + number % 24], rtol=1e-5, atol=1e-5)


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


def batch_functions(version):
    return [
        node
        for function in version._session.graph.as_graph_def().library.function
        for node in function.node_def
        if node.op == "BatchFunction"
    ]


def test_every_signature_has_a_queue_of_its_own(merged, alone):
    nodes = batch_functions(merged)
    for name in ("shared_name", "batching_queue"):
        assert len({node.attr[name].s for node in nodes}) == len(nodes) == len(merged.signatures) - 1
    assert not batch_functions(alone)


def test_the_server_can_merge_instead(tmp_path):
    model = FAMILIES["functional"].model()
    published = export_classifier(
        model, tmp_path / "m", batching="server", max_batch_size=6, batch_threads=2, max_image_bytes=0
    )
    text = (published.path / "batching_params.pbtxt").read_text()
    parameters = parse("BatchingParameters", text)
    assert parameters.max_batch_size.value == 6
    assert parameters.num_batch_threads.value == 2
    assert list(parameters.allowed_batch_sizes) == published.manifest.batching["allowed_batch_sizes"] == [1, 2, 4, 6]
    with LoadedVersion.load(published.path) as loaded:
        assert not batch_functions(loaded)
