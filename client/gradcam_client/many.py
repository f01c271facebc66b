"""Questions made of many: images by the thousand, and a server that is still starting."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gradcam_client.choices import class_choices, class_index
from gradcam_client.core import CHUNK
from gradcam_client.errors import (
    DeadlineExceeded,
    GradcamError,
    ImageError,
    InvalidRequest,
    MalformedAnswer,
    ModelNotFound,
    OptionError,
    ServerError,
    ServerUnavailable,
)
from gradcam_client.outcomes import Outcome
from gradcam_client.steps import Pause, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcam_client.choices import Choice
    from gradcam_client.core import Read, ServedModel
    from gradcam_client.images import Source
    from gradcam_client.options import Timeout
    from gradcam_client.results import Explanation
    from gradcam_client.steps import Clock, Flow, Steps

POLL_S: Final = 0.25
"""How long to wait before asking again whether a server is ready."""

LONGEST_POLL_S: Final = 5.0
"""How long to wait for its answer: a server that starts may take a connection and forget about it."""


class Numbered(NamedTuple):
    """One of many images: its place, what it was given as, and the picture in it."""

    position: int
    source: Source
    picture: Read


@dataclass(frozen=True, kw_only=True)
class ManyOptions:
    """What to ask of each of many images.

    Raises:
        OptionError: one of them has a value it cannot have, or excludes another.
    """

    images: object
    concurrency: int
    class_index: int | None
    label: str | None
    method: str | None
    top_k: bool

    def __post_init__(self) -> None:
        # Each would be taken apart without a word: a path into letters, an array into its rows.
        if isinstance(self.images, str | bytes | os.PathLike) or hasattr(self.images, "__array_interface__"):
            raise OptionError(f"{type(self.images).__name__} given as images: give an iterable of them, such as a list")
        if type(self.concurrency) is not int or self.concurrency < 1:
            raise OptionError(f"concurrency {self.concurrency}: give the number of calls at a time, from 1 up")
        chosen = self.choice
        if self.top_k and (chosen is not None or self.method is not None):
            raise OptionError("top_k explains the best classes by the model's own method: give no class and no method")

    @property
    def choice(self) -> Choice:
        """The class to explain."""
        return class_choices(1, self.class_index, self.label)[0]


class ManyImages:
    """The same question for each of many images, asked for some at a time.

    Args:
        model: what to ask.
        options: what to ask it for.
        timeout: seconds for each call.
        clock: what tells the time.
    """

    def __init__(self, model: ServedModel, options: ManyOptions, timeout: Timeout, clock: Clock) -> None:
        self._model = model
        self._options = options
        self._timeout = timeout
        self._clock = clock

    def chunk_size(self) -> Steps[int]:
        """Check the question against the model, which is what no image can be answered without.

        Returns:
            How many images go into one call.
        """
        manifest = yield from within(self._model.describe(), self._timeout, self._clock)
        manifest.picture_shape()
        if self._options.top_k:
            manifest.check_top_k()
        manifest.explain_signature(self._options.method)
        class_index(self._options.choice, manifest)
        return min(CHUNK, manifest.max_batch_size or CHUNK)

    def outcomes(self, part: Sequence[Numbered]) -> Steps[list[Outcome]]:
        """Ask for the images of `part`, which is one call's; what goes wrong with one is its own outcome alone."""
        pictures = [one for one in part if not isinstance(one.picture, ImageError)]
        started = self._clock()
        found = yield from self._answers([one.picture for one in pictures])
        seconds = self._clock() - started
        answers = iter(found)
        return [
            _outcome(one, one.picture, 0.0) if isinstance(one.picture, ImageError)
            else _outcome(one, next(answers), seconds)
            for one in part
        ]  # fmt: skip

    def _answers(self, pictures: Sequence[Read]) -> Steps[list[Any]]:
        try:
            return (yield from within(self._question(pictures), self._timeout, self._clock))
        except (InvalidRequest, MalformedAnswer) as error:
            if len(pictures) == 1:
                return [error]
        except GradcamError as error:
            return [error] * len(pictures)
        # One of them is at fault, and the others are answered without it.
        alone = []
        for picture in pictures:
            alone += yield from self._answers([picture])
        return alone

    def _question(self, pictures: Sequence[Read]) -> Flow[list[Any]]:
        if self._options.top_k:
            return self._model.top_k(pictures)
        return self._model.explain(pictures, [self._options.choice] * len(pictures), self._options.method)


def _outcome(one: Numbered, answer: Explanation | list[Explanation] | GradcamError, seconds: float) -> Outcome:
    return Outcome(
        position=one.position,
        source=one.source,
        result=None if isinstance(answer, GradcamError) else answer,
        error=answer if isinstance(answer, GradcamError) else None,
        seconds=seconds,
    )


def until_ready(model: ServedModel, timeout: Timeout, clock: Clock, target: str) -> Steps[None]:
    """Ask again and again until the model can be asked.

    Raises:
        DeadlineExceeded: it cannot after `timeout` seconds.
    """
    ends = None if timeout is None else clock() + timeout
    left = timeout
    known: str | None = None
    while True:
        cause: ServerError | None = None
        try:
            obstacle = yield from within(
                model.obstacle(), LONGEST_POLL_S if left is None else min(left, LONGEST_POLL_S), clock
            )
        except DeadlineExceeded as error:
            # The last attempt has little time: what is known from one before says more.
            obstacle, cause = known or str(error), error
        except (ModelNotFound, ServerUnavailable) as error:
            obstacle, cause = str(error), error
        if obstacle is None:
            return
        known = obstacle
        left = None if ends is None else ends - clock() - POLL_S
        if left is not None and left <= 0:
            raise DeadlineExceeded(
                f"{target}: model {model.name!r} was not ready within {timeout:g} s: {obstacle}",
                target=target,
                status="DEADLINE_EXCEEDED",
            ) from cause
        yield Pause(POLL_S)
