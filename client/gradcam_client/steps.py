"""What a question asks of whoever does the waiting, and for how long each of its calls is tried."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from gradcam_client.errors import ServerError, ServerOverloaded
from gradcam_client.wire import gradcam_wire_pb2 as wire

T = TypeVar("T")
Request: TypeAlias = wire.PredictRequest | wire.GetModelStatusRequest
Clock: TypeAlias = Callable[[], float]
"""Seconds since some moment, as `time.monotonic` counts them."""

FULL_ATTEMPTS: Final = 8
"""How often a server is asked that answers each time that it is full."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Seconds before the second attempt, which double with each further one, and where that ends; each ± 50 %."""

# A server has many limits of this status. Only these pass by themselves: memory does not, nor a message's size.
_PASSING: Final = re.compile(r"thread ?pool|queue", re.IGNORECASE)
_NEVER: Final = re.compile(r"larger than max", re.IGNORECASE)


@dataclass(frozen=True)
class Call:
    """Send `request`, wait for its answer at most `timeout` seconds (`None`: without limit), and send it back."""

    request: Request
    timeout: float | None


@dataclass(frozen=True)
class Pause:
    """Let `seconds` pass."""

    seconds: float


@dataclass(frozen=True)
class Finished(Generic[T]):
    """All is asked; `value` is what the caller gets."""

    value: T


Flow: TypeAlias = Generator[Request, Any, T]
"""A question: yields requests, is sent their answers, and returns the result."""
Steps: TypeAlias = Generator[Call | Pause, Any, T]
"""A question with its deadlines and pauses."""


def advance(steps: Steps[T], answer: object = None, error: ServerError | None = None) -> Call | Pause | Finished[T]:
    """Give `steps` what its last step brought, an answer or a server's error, and take the next one."""
    try:
        return steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as finished:
        return Finished(finished.value)


def within(flow: Flow[T], timeout: float | None, clock: Clock) -> Steps[T]:
    """Each call of `flow`, and what it takes to ask a full server again, within `timeout` seconds.

    gRPC itself asks again when a server cannot be reached, as the channel's service config says. It cannot tell a full
    server from a request that is too large, which share a status: that is told here, by the server's words.
    """
    try:
        request = next(flow)
        while True:
            try:
                answer = yield from _patiently(request, timeout, clock)
            except ServerError as error:
                request = flow.throw(error)
            else:
                request = flow.send(answer)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]


def _patiently(request: Request, timeout: float | None, clock: Clock) -> Steps[Any]:
    started = clock()
    left = timeout
    attempt = 0
    while True:
        attempt += 1
        try:
            return (yield Call(request, left))
        except ServerOverloaded as error:
            seconds = min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1.5)  # noqa: S311
            left = None if timeout is None else timeout - (clock() - started) - seconds
            if not _passes(error) or attempt == FULL_ATTEMPTS or (left is not None and left <= 0):
                raise
        yield Pause(seconds)


def _passes(error: ServerOverloaded) -> bool:
    return bool(_PASSING.search(error.details)) and not _NEVER.search(error.details)
