"""Images explained by workers of Apache Beam's DirectRunner, against a real server: make test-beam."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("apache_beam", reason="needs an environment of its own, with Apache Beam: make test-beam")

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to, is_empty
from colour_server import LABELS, ColourModel, Server, manifest
from gradcam_client import Client, ServerUnavailable
from gradcam_client.beam import ExplainImages
from gradcam_client.errors import OptionError, ServerError
from PIL import Image

RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
"""The DirectRunner's own in Python; by that name, Beam would look on the network for another one first."""
IMAGES = 24
WORKERS = {
    "one": [],
    "threads": ["--direct_running_mode=multi_threading", "--direct_num_workers=3"],
    "processes": ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
}


class WatchedServer(Server):
    """Also knows who called."""

    def __init__(self):
        self.callers = set()
        super().__init__()

    def _predict(self, request, context):
        self.callers.add(context.peer())
        return super()._predict(request, context)


@pytest.fixture(autouse=True)
def workers_find_the_tests(monkeypatch):
    """Processes of their own unpickle functions of this file."""
    folders = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))


@pytest.fixture
def server():
    running = WatchedServer()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Pictures of different sizes and colours."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (9 + number, 40 - number, 3)) * np.eye(3)[number % 3]
        found.append(str(folder / f"{number}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(found[-1])
    return found


def png(colour=(200, 10, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), colour).save(buffer, "PNG")
    return buffer.getvalue()


def plain(explanation) -> tuple:
    """What can be compared with `==`."""
    return explanation.label, explanation.score, explanation.heatmap.tolist(), explanation.image.size


def asked_directly(server, images, **question) -> list[tuple]:
    with Client(server.target, model="colours") as client:
        return [plain(one) for one in client.explain(images, **question)]


def run(elements, transform, check_explained, check_failed=None, workers=()):
    """Run a pipeline; return its metrics by name: counts, or the distribution."""
    pipeline = beam.Pipeline(RUNNER, options=PipelineOptions(list(workers)))
    found = pipeline | beam.Create(elements) | beam.Reshuffle() | transform
    # A second shuffle: what was found must bear the way between workers.
    explained = (
        found.explained | "Plain" >> beam.MapTuple(lambda key, one: (key, plain(one))) | "Move" >> beam.Reshuffle()
    )
    failed = found.failed | "Move failures" >> beam.Reshuffle()
    assert_that(explained, check_explained, label="explained")
    assert_that(failed, check_failed or is_empty(), label="failed")
    result = pipeline.run()
    result.wait_until_finish()
    metrics = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(ExplainImages))
    return {one.key.metric.name: one.result for kind in ("counters", "distributions") for one in metrics[kind]}


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_workers_answer_what_the_client_answers(server, paths, workers):
    expected = list(zip(paths, asked_directly(server, paths), strict=True))
    before = set(server.callers)
    metrics = run(paths, ExplainImages(server.target, model="colours"), equal_to(expected), workers=workers)
    assert (metrics["explained"], metrics.get("failed", 0)) == (IMAGES, 0)
    answered = len(server.callers - before)
    assert answered == (2 if "--direct_running_mode=multi_processing" in workers else 1)


def test_elements_are_paths_bytes_or_pairs(server, paths):
    rose, array = png(), np.full((8, 12, 3), (0, 200, 0), np.uint8)
    elements = [paths[0], rose, ("a rose", rose), (("by", 7), paths[1]), ("array", array)]
    answers = asked_directly(server, [paths[0], rose, rose, paths[1], array])
    keys = [paths[0], None, "a rose", ("by", 7), "array"]
    run(elements, ExplainImages(server.target, model="colours"), equal_to(list(zip(keys, answers, strict=True))))


@pytest.mark.parametrize(
    ("asked", "directly"),
    [
        ({"class_label": "green"}, {"label": "green"}),
        ({"class_index": 2}, {"class_index": 2}),
        ({"method": "gradcam++"}, {"method": "gradcam++"}),
        ({"class_label": "blue", "method": "gradcam++"}, {"label": "blue", "method": "gradcam++"}),
    ],
)
def test_class_and_method_are_those_asked_for(server, paths, asked, directly):
    expected = list(zip(paths[:5], asked_directly(server, paths[:5], **directly), strict=True))
    run(paths[:5], ExplainImages(server.target, model="colours", **asked), equal_to(expected))


def test_top_k_answers_a_list_for_each_image(server, paths):
    with Client(server.target, model="colours") as client:
        expected = [(path, [plain(one) for one in client.top_k(path)]) for path in paths[:9]]
    pipeline = beam.Pipeline(RUNNER)
    found = pipeline | beam.Create(paths[:9]) | ExplainImages(server.target, model="colours", top_k=True)
    ranked = found.explained | beam.MapTuple(lambda key, ranked: (key, [plain(one) for one in ranked]))
    assert_that(ranked, equal_to(expected))
    pipeline.run().wait_until_finish()


def test_the_version_asked_for_answers(server):
    server.versions[2] = ColourModel(manifest(labels=["one", "two", "three"]))
    elements = [("first", png())]
    labels = {}
    for version in (1, 2):
        pipeline = beam.Pipeline(RUNNER)
        found = pipeline | beam.Create(elements) | ExplainImages(server.target, model="colours", version=version)
        labels[version] = {1: LABELS[0], 2: "one"}[version]
        assert_that(found.explained | beam.MapTuple(lambda _, one: one.label), equal_to([labels[version]]))
        pipeline.run().wait_until_finish()


def described(failure) -> tuple:
    return failure.key, failure.image, failure.error


def test_failures_are_put_aside_whole_and_counted(server, paths, tmp_path):
    good, cut, nowhere = paths[:20], png()[:40], str(tmp_path / "nowhere.png")
    elements = [*good[:7], ("cut", cut), nowhere, *good[7:], ("number", 7), (1, 2, 3)]
    expected = list(zip(good, asked_directly(server, good), strict=True))
    put_aside = [
        ("cut", cut, "ImageError"),
        (nowhere, nowhere, "ImageError"),
        ("number", 7, "ImageError"),
        (None, (1, 2, 3), "ImageError"),
    ]

    def failures_are(found):
        equal_to(put_aside)([described(failure) for failure in found])
        (message,) = [failure.message for failure in found if failure.key == nowhere]
        assert message == f"{nowhere}: no such file"

    metrics = run(elements, ExplainImages(server.target, model="colours"), equal_to(expected), failures_are)
    assert (metrics["explained"], metrics["failed"]) == (20, 4)


def test_an_absent_server_fails_images_not_the_pipeline(paths):
    gone = Server()
    gone.stop()
    target = gone.target

    def failures_are(found):
        assert sorted(failure.key for failure in found) == sorted(paths)
        assert {failure.error for failure in found} == {ServerUnavailable.__name__}
        assert all(target in failure.message for failure in found)

    metrics = run(paths, ExplainImages(target, model="colours", timeout=2), is_empty(), failures_are)
    assert (metrics.get("explained", 0), metrics["failed"]) == (0, IMAGES)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": "colours", "class_label": "mauve"}, "no class 'mauve'"),
        ({"model": "colours", "method": "scorecam"}, "'scorecam'"),
        ({"model": "shapes"}, "no such model or version is served"),
    ],
)
def test_a_question_that_no_image_can_be_answered_to_fails_the_pipeline(server, paths, asked, words):
    pipeline = beam.Pipeline(RUNNER)
    _ = pipeline | beam.Create(paths[:3]) | ExplainImages(server.target, **asked)
    with pytest.raises(Exception, match=words):
        pipeline.run()


def test_calls_are_counted_and_timed(server, paths):
    metrics = run(paths, ExplainImages(server.target, model="colours", batch_size=6), len)
    calls = [request for request in server.requests if request.model_spec.signature_name == "serving_default"]
    sizes = [request.inputs["images"].tensor_shape.dim[0].size for request in calls]
    assert sum(sizes) == IMAGES
    assert max(sizes) <= 6
    assert metrics["calls"] == len(calls) == metrics["milliseconds"].count
    assert metrics["milliseconds"].min >= 0


def test_copies_of_the_transform_share_one_connection_and_the_last_closes_it(server):
    worker = ExplainImages(server.target, model="colours")._explain
    first, second = (pickle.loads(pickle.dumps(worker)) for _ in range(2))
    other = ExplainImages(server.target, model="colours")._explain
    for one in (first, second, other):
        one.setup()
    assert first._client is second._client
    assert first._client is not other._client
    first.teardown()
    ((key, explanation),) = second.process([("red", png())])
    assert (key, explanation.label) == ("red", "red")
    client = second._client
    second.teardown()
    with pytest.raises(ServerError, match="this client is closed"):
        client.describe()
    other.teardown()
    first.setup()
    assert first._client is not client
    first.teardown()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "batch_size 0: give 1 or more"),
        ({"concurrency": -1}, "concurrency -1: give the number of calls at a time, from 1 up"),
        ({"top_k": True, "method": "gradcam++"}, "top_k explains the best classes by the model's own method"),
        ({"class_index": 1, "class_label": "red"}, "class index 1 and label 'red' were both given: give one of them"),
        ({"version": -3}, "version -3: give a number from 0 up"),
        ({"timeout": 0}, "timeout 0: give seconds above 0"),
    ],
)
def test_a_wrong_argument_is_refused_where_the_pipeline_is_written(arguments, words):
    with pytest.raises(OptionError, match=words):
        ExplainImages("localhost:8500", model="colours", **arguments)
