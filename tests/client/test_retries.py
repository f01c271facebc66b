"""What is asked again, what never is, and for how long."""

import threading
import time

import grpc
import numpy as np
import pytest
from colour_server import ColourModel, Server, manifest
from gradcam_client import codec
from gradcam_client.errors import DeadlineExceeded, InvalidRequest, ServerOverloaded, ServerUnavailable
from gradcam_client.steps import FULL_ATTEMPTS, Call, Finished, Pause, advance, within

FULL = (
    "Server Threadpool Exhausted",
    "no thread pool has a thread left",
    "The batch scheduling queue to which this task was submitted is full",
)
LASTING = (
    "",
    "OOM when allocating tensor with shape[8,224,224,3]",
    "Received message larger than max (99 vs. 9)",
    "CLIENT: Sent message larger than max, queue 1",
)


class Refusing(Server):
    """Refuses so many Predicts before it answers."""

    def __init__(self, *arguments, **options) -> None:
        self.refusals = []
        super().__init__(*arguments, **options)

    def _predict(self, request, context):
        if self.refusals:
            self.requests.append(request)
            context.abort(*self.refusals.pop(0))
        return super()._predict(request, context)


@pytest.fixture
def server():
    running = Refusing(options=(("grpc.max_receive_message_length", -1),))
    yield running
    running.stop()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
@pytest.mark.parametrize("count", [1, 4])
def test_a_server_that_is_away_for_a_moment_is_asked_again_by_grpc(client, server, pictures, count, code):
    client.describe()
    server.refusals = [(code, "starting")] * count
    assert client.explain(pictures[0]).model_version == 1
    assert len(server.requests) == 2 + count


def test_grpc_gives_up_after_five_attempts(client, server, pictures):
    client.describe()
    server.refusals = [(grpc.StatusCode.UNAVAILABLE, "starting")] * 9
    with pytest.raises(ServerUnavailable, match=r"\(UNAVAILABLE: starting\)"):
        client.explain(pictures[0])
    assert len(server.requests) == 6


def test_requests_larger_than_grpcs_own_buffer_are_asked_again(client, server, rng):
    server.versions = {1: ColourModel(manifest(input=manifest()["input"] | {"shape": [512, 512, 3]}))}
    client.describe()
    server.refusals = [(grpc.StatusCode.UNAVAILABLE, "starting")]
    image = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    assert len(client.predict([image] * 8)) == 8
    assert codec.decode(server.requests[-1].inputs["images"]).nbytes == 8 * 512 * 512 * 3


@pytest.mark.parametrize("details", FULL)
def test_a_full_server_is_asked_again(client, server, pictures, details):
    server.refusals = [(grpc.StatusCode.RESOURCE_EXHAUSTED, details)] * 2
    assert client.explain(pictures[0]).model_version == 1
    assert server.signatures_asked() == ["describe", "describe", "describe", "serving_default"]


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [(grpc.StatusCode.RESOURCE_EXHAUSTED, details, ServerOverloaded) for details in LASTING]
    + [(grpc.StatusCode.INVALID_ARGUMENT, FULL[0], InvalidRequest)]
    + [(grpc.StatusCode.DEADLINE_EXCEEDED, FULL[0], DeadlineExceeded)],
)
def test_what_no_repetition_mends_is_asked_once(client, server, code, details, error):
    server.refusals = [(code, details)]
    with pytest.raises(error, match=code.name) as caught:
        client.describe()
    assert len(server.requests) == 1
    assert (caught.value.status, caught.value.details) == (code.name, details)


def test_an_answer_that_is_too_large_is_asked_for_once(connect, server, pictures):
    def inflate(response):
        if "score" in response.outputs:
            response.outputs["padding"].string_val.append(bytes(5000))
        return response

    server.tamper = inflate
    options = {"grpc.max_receive_message_length": 4000}
    with (
        connect(server.target, model="colours", channel_options=options) as client,
        pytest.raises(ServerOverloaded, match="larger than max"),
    ):
        client.explain(pictures[0])
    assert server.signatures_asked() == ["describe", "serving_default"]


def test_repetition_ends_with_the_deadline(client, server, pictures):
    client.describe()
    server.refusals = [(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL[0])] * 99
    started = time.monotonic()
    with pytest.raises((ServerOverloaded, DeadlineExceeded), match=r"RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED"):
        client.explain(pictures[0], timeout=0.4)
    assert time.monotonic() - started < 5
    assert 1 < len(server.requests) < 8


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


FULL_ERROR = ServerOverloaded("full", target="here", status="RESOURCE_EXHAUSTED", details=FULL[0])


def played(timeout, seconds_a_call):
    """The steps of a question to a server that is always full, and how it ends."""

    def flow():
        yield "request"

    clock = Clock()
    steps = within(flow(), timeout, clock)
    seen = [advance(steps)]
    while True:
        if isinstance(seen[-1], Pause):
            clock.now += seen[-1].seconds
            seen.append(advance(steps))
            continue
        clock.now += seconds_a_call if seen[-1].timeout is None else min(seconds_a_call, seen[-1].timeout)
        try:
            seen.append(advance(steps, error=FULL_ERROR))
        except ServerOverloaded:
            return seen, clock.now - 100


@pytest.mark.parametrize("timeout", [0.3, 1.0, 2.0])
def test_each_attempt_has_what_the_deadline_leaves(timeout):
    for _ in range(20):
        seen, spent = played(timeout, 0.01)
        assert spent <= timeout + 1e-9
        calls = [one for one in seen if isinstance(one, Call)]
        assert calls[0].timeout == timeout
        assert [one.timeout for one in calls] == sorted((one.timeout for one in calls), reverse=True)
        elapsed = 0.0
        for one in seen:
            if isinstance(one, Call):
                assert one.timeout == pytest.approx(timeout - elapsed)
                elapsed += min(0.01, one.timeout)
            else:
                elapsed += one.seconds


def test_pauses_double_up_to_a_second_and_vary():
    pauses = [[one.seconds for one in played(None, 0.0)[0] if isinstance(one, Pause)] for _ in range(50)]
    means = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0)
    assert {len(one) for one in pauses} == {len(means)} == {FULL_ATTEMPTS - 1}
    for attempt, mean in enumerate(means):
        found = [one[attempt] for one in pauses]
        assert 0.5 * mean <= min(found) < 0.8 * mean
        assert 1.2 * mean < max(found) <= 1.5 * mean


def test_a_question_ends_with_its_value_and_without_a_deadline_waits_for_ever():
    def flow():
        first = yield "a"
        second = yield "b"
        return first + second

    steps = within(flow(), None, Clock())
    assert advance(steps) == Call("a", None)
    assert advance(steps, 1) == Call("b", None)
    assert advance(steps, 2) == Finished(3)


def test_threads_that_wait_for_a_full_server_do_not_hold_up_each_other(client, server, pictures):
    client.describe()
    server.refusals = [(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL[0])] * 8
    found = []
    threads = [threading.Thread(target=lambda: found.append(client.predict(pictures[0]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
