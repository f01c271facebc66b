"""Any number of images, several calls at a time."""

import asyncio
import threading
import time
import weakref

import grpc
import numpy as np
import pytest
from colour_server import ColourModel, manifest
from gradcam_client import AsyncClient, codec
from gradcam_client.errors import (
    ImageError,
    IncompatibleModel,
    InvalidRequest,
    MalformedAnswer,
    OptionError,
    ServerUnavailable,
    UnknownClass,
)
from on_a_loop import wait_for
from PIL import Image


def flat(number: int) -> np.ndarray:
    """A picture that tells its number: its red is `number % 256`."""
    return np.full((8, 12, 3), (number % 256, 7, number // 256 % 256), np.uint8)


def sent(server) -> list[np.ndarray]:
    return [codec.decode(r.inputs["images"]) for r in server.requests if "images" in r.inputs]


def test_each_image_has_what_explain_answers_for_it_in_their_order(client, server, pictures):
    expected = client.explain(pictures)
    outcomes = list(client.explain_many(iter(pictures), concurrency=3))
    assert [one.position for one in outcomes] == list(range(10))
    for one, picture, explanation in zip(outcomes, pictures, expected, strict=True):
        assert one.source is picture
        assert one.error is None
        assert one.seconds > 0
        assert one.result.to_json() == explanation.to_json()
        assert one.result.image == picture
    assert list(client.explain_many([])) == []


@pytest.mark.parametrize("concurrency", [1, 5])
def test_the_order_is_kept_whatever_the_order_of_the_answers(client, server, concurrency):
    server.tamper = lambda response: time.sleep(np.random.default_rng().uniform(0, 0.02)) or response
    outcomes = list(client.explain_many(map(flat, range(100)), concurrency=concurrency, class_index=0))
    assert [one.position for one in outcomes] == list(range(100))
    assert [one.result.heatmap_peak for one in outcomes] == list(range(100))


def test_the_question_is_the_same_for_all(client, pictures):
    assert {one.result.label for one in client.explain_many(pictures, label="blue")} == {"blue"}
    assert {one.result.method for one in client.explain_many(pictures, method="gradcam++")} == {"gradcam++"}
    ranked = [one.result for one in client.explain_many(pictures, top_k=True)]
    expected = client.top_k(pictures)
    assert [[c.to_json() for c in one] for one in ranked] == [[c.to_json() for c in one] for one in expected]


@pytest.mark.parametrize(("limit", "sizes"), [(None, [8, 8, 4]), (3, [3] * 6 + [2]), (32, [8, 8, 4])])
def test_calls_are_as_large_as_the_server_takes(client, server, limit, sizes):
    server.versions = {1: ColourModel(manifest(batching={"max_batch_size": limit}))}
    assert len(list(client.explain_many(map(flat, range(20)), concurrency=1))) == 20
    assert [len(images) for images in sent(server)] == sizes


def test_an_image_that_cannot_be_read_spoils_none_beside_it(client, pictures, tmp_path):
    sources = [*pictures[:4], tmp_path / "absent.png", b"no picture", *pictures[4:]]
    outcomes = list(client.explain_many(sources))
    assert [one.position for one in outcomes if one.error] == [4, 5]
    for one, message in ((outcomes[4], r"absent\.png: no such file"), (outcomes[5], "is not an image")):
        assert (one.result, one.seconds) == (None, 0.0)
        with pytest.raises(ImageError, match=message):
            raise one.error
    found = [one.result.to_json() for one in outcomes if one.result]
    assert found == [one.to_json() for one in client.explain(pictures)]


class Poisoned(ColourModel):
    """Refuses each request with an image whose red is 3 or 13 in it."""

    def run(self, signature, inputs):
        if signature != "describe" and {3, 13} & set(inputs["images"][:, 0, 0, 0].tolist()):
            raise ValueError("poison")
        return super().run(signature, inputs)


def test_an_image_that_the_server_refuses_spoils_none_of_its_call(client, server):
    server.versions = {1: Poisoned()}
    outcomes = list(client.explain_many(map(flat, range(24)), class_index=0))
    assert [one.position for one in outcomes if one.error] == [3, 13]
    with pytest.raises(InvalidRequest, match="INVALID_ARGUMENT: poison"):
        raise outcomes[3].error
    assert [one.result.heatmap_peak for one in outcomes if one.result] == [n for n in range(24) if n not in (3, 13)]
    assert sorted(len(images) for images in sent(server)) == [1] * 16 + [8] * 3


def test_an_answer_that_is_malformed_for_one_image_spoils_none_of_its_call(client, server):
    def lose_red_5(response):
        if "heatmap" in response.outputs:
            maps, peaks = (codec.decode(response.outputs[name]) for name in ("heatmap", "heatmap_peak"))
            response.outputs["heatmap"].CopyFrom(codec.encode(np.where(peaks[:, None, None] == 5, np.nan, maps)))
        return response

    server.tamper = lose_red_5
    outcomes = list(client.explain_many(map(flat, range(10)), class_index=0))
    assert [one.position for one in outcomes if one.error] == [5]
    with pytest.raises(MalformedAnswer, match="a heatmap came with values outside"):
        raise outcomes[5].error


def test_a_server_that_goes_away_is_the_outcome_of_what_it_did_not_answer(client, server):
    outcomes = client.explain_many(map(flat, range(40)), concurrency=2)
    assert next(outcomes).error is None
    server.refuse = (grpc.StatusCode.INTERNAL, "out of luck")
    rest = list(outcomes)
    assert [one.position for one in rest] == list(range(1, 40))
    failed = [one for one in rest if one.error]
    assert len(failed) >= 8
    assert {str(one.error) for one in failed} == {f"{server.target}: the call failed (INTERNAL: out of luck)"}


def test_what_cannot_be_asked_at_all_is_an_error_before_the_first_image(client, server, pictures):
    read = []

    def sources():
        read.append(True)
        yield from pictures

    for options, error, message in (
        ({"label": "bleu"}, UnknownClass, "no class 'bleu'"),
        ({"class_index": 3}, UnknownClass, "no class 3"),
        ({"method": "scorecam"}, OptionError, "no method 'scorecam'"),
    ):
        with pytest.raises(error, match=message):
            next(client.explain_many(sources(), **options))
    explanation = manifest()["explanation"]
    del explanation["top_k"]
    server.versions = {2: ColourModel(manifest(explanation=explanation))}
    with pytest.raises(IncompatibleModel, match="does not explain its best classes"):
        next(client.explain_many(sources(), top_k=True))
    server.stop()
    with pytest.raises(ServerUnavailable, match="no server answers"):
        next(client.explain_many(sources()))
    assert read == []


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("rose.jpg", {}, "str given as images: give an iterable of them, such as a list"),
        (b"\xff\xd8", {}, "bytes given as images"),
        (np.zeros((8, 12, 3), np.uint8), {}, "ndarray given as images"),
        (Image.new("RGB", (1, 1)), {}, "Image given as images"),
        ([], {"concurrency": 0}, "concurrency 0: give the number of calls at a time, from 1 up"),
        ([], {"concurrency": 1.5}, r"concurrency 1\.5: give"),
        ([], {"class_index": 1, "label": "red"}, "class index 1 and label 'red' were both given"),
        ([], {"top_k": True, "label": "red"}, "top_k explains the best classes by the model's own method"),
        ([], {"top_k": True, "method": "gradcam"}, "top_k explains the best classes by the model's own method"),
        ([], {"timeout": 0}, "timeout 0: give seconds above 0"),
    ],
)
def test_wrong_options_are_refused_at_once(connect, images, options, message):
    with connect("localhost:1", model="colours") as client, pytest.raises(OptionError, match=message):
        next(client.explain_many(images, **options))


def test_no_more_is_read_and_asked_than_is_taken(client, server):
    drawn, lock = [], threading.Lock()
    most = under_way = 0

    def sources():
        for number in range(1000):
            drawn.append(number)
            yield flat(number)

    def count(response):
        nonlocal most, under_way
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1
        return response

    server.tamper = count
    outcomes = client.explain_many(sources(), concurrency=2)
    for taken in range(1, 200):
        next(outcomes)
        # Eight of each of three calls ahead, and those of the call that is being handed out.
        assert len(drawn) <= taken + 32
    assert most == 2
    outcomes.close()
    asked = len(drawn)
    time.sleep(0.1)
    assert len(drawn) == asked


def test_calls_overlap(client, server):
    together = threading.Barrier(3, timeout=10)
    client.describe()

    def meet(response):
        if "heatmap" in response.outputs:
            together.wait()
        return response

    server.tamper = meet
    # Broken, the barrier would fail the calls.
    assert [one.error for one in client.explain_many(map(flat, range(48)), concurrency=3)] == [None] * 48


def test_images_and_answers_are_let_go_as_they_are_taken(client, server):
    alive = weakref.WeakValueDictionary()
    most = 0

    def sources():
        for number in range(800):
            picture = Image.fromarray(flat(number))
            alive["given", number] = picture
            yield picture

    for outcome in client.explain_many(sources(), concurrency=2):
        alive["read", outcome.position] = outcome.result.image
        server.requests.clear()
        server.metadata.clear()
        most = max(most, len(alive))
    # Of each image what was given and what was read, of three calls ahead and of those that are handed out.
    assert most <= 2 * 8 * 5


def test_an_asynchronous_iterable_is_taken_as_it_comes(server):
    async def sources():
        for number in range(20):
            await asyncio.sleep(0)
            yield flat(number)

    async def ask():
        async with AsyncClient(server.target, model="colours") as client:
            return [one async for one in client.explain_many(sources(), class_index=0)]

    outcomes = wait_for(ask())
    assert [(one.position, one.result.heatmap_peak) for one in outcomes] == [(n, n) for n in range(20)]


def test_what_the_iterable_raises_is_raised(client):
    def sources():
        yield from map(flat, range(30))
        raise RuntimeError("the tape tore")

    outcomes = client.explain_many(sources(), concurrency=1)
    with pytest.raises(RuntimeError, match="the tape tore"):
        list(outcomes)


def test_stopping_an_asynchronous_one_cancels_what_is_under_way(server):
    async def ask():
        async with AsyncClient(server.target, model="colours") as client:
            outcomes = client.explain_many(map(flat, range(100)))
            await anext(outcomes)
            server.delay = threading.Event()
            await asyncio.sleep(0.05)
            await outcomes.aclose()
            return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    started = time.monotonic()
    try:
        assert wait_for(ask()) == []
    finally:
        server.delay.set()
    assert time.monotonic() - started < 5
