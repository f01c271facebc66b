"""Load: many threads that ask many kinds of questions, each of which knows what it must be answered.

A question goes through one of the doors of `doors.py`, which answers, or raises `RefusedError` with the status that the
caller got.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Door = Callable[["Question"], "Answer"]

TOLERANCE = 1e-5
OVERLAY_LEVELS = 8
"""What rounding to another grey level costs after JPEG: another image's overlay is off by a hundred."""


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Answer:
    """Outputs by name, of the version that says so."""

    values: Mapping[str, np.ndarray]
    version: int


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and what must come back."""

    kind: str
    signature: str
    inputs: Mapping[str, np.ndarray]
    wanted: Sequence[Mapping[str, np.ndarray]] = ()
    """What version v answers is `wanted[v % len(wanted)]`; none where the question is to be refused."""
    refusal: str = ""
    """A pattern that the refusal's message holds."""

    def fault(self, answer: Answer | RefusedError) -> str:
        """What is wrong with `answer`; empty if nothing is."""
        if isinstance(answer, RefusedError):
            as_wanted = answer.code == "INVALID_ARGUMENT" and re.search(self.refusal, answer.message)
            return "" if not self.wanted and as_wanted else f"{self.kind}: {answer}"
        if not self.wanted:
            return f"{self.kind}: answered, not refused"
        wanted = self.wanted[answer.version % len(self.wanted)]
        if answer.values.keys() != wanted.keys():
            return f"{self.kind}: answered {sorted(answer.values)}, not {sorted(wanted)}"
        differing = [name for name, value in wanted.items() if not alike(name, answer.values[name], value)]
        return f"{self.kind} of version {answer.version}: {differing} differ" if differing else ""


def alike(name: str, found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether an output has the values that it has where its image is asked for alone."""
    if found.shape != wanted.shape:
        return False
    if name == "overlay_bytes":
        return all(map(_pictures_alike, found.ravel(), wanted.ravel()))
    if wanted.dtype == object or wanted.dtype.kind in "iu":
        return found.tolist() == wanted.tolist()
    return np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def _pictures_alike(found: bytes, wanted: bytes) -> bool:
    if found == wanted:
        return True
    pixels = [np.asarray(Image.open(io.BytesIO(picture)), int) for picture in (found, wanted)]
    return pixels[0].shape == pixels[1].shape and bool((np.abs(pixels[0] - pixels[1]) <= OVERLAY_LEVELS).all())


@dataclass
class Report:
    """What came of the questions."""

    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many answers by kind of question and status."""
    versions: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """How long each answer took, by kind of question."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def count(self) -> int:
        return sum(self.codes.values())

    def latency(self, quantile: float) -> float:
        """Seconds, over all kinds."""
        return float(np.quantile(list(itertools.chain.from_iterable(self.seconds.values())), quantile))

    def told(self) -> str:
        """The faults, each once."""
        return "\n".join(f"{count} × {fault}" for fault, count in Counter(self.faults).most_common(20))

    def ask(self, question: Question, door: Door) -> None:
        """Put one question to `door` and note its answer."""
        start = time.perf_counter()
        answer: Answer | RefusedError
        try:
            answer = door(question)
        except RefusedError as refusal:
            answer = refusal
        seconds = time.perf_counter() - start
        fault = question.fault(answer)
        with self.lock:
            self.codes[question.kind, answer.code if isinstance(answer, RefusedError) else "OK"] += 1
            self.seconds[question.kind].append(seconds)
            if isinstance(answer, Answer):
                self.versions[answer.version] += 1
            if fault:
                self.faults.append(fault)


class Load:
    """Threads that ask questions drawn by the weight of their kind, until `count` are asked or the load is stopped."""

    def __init__(
        self,
        questions: Mapping[float, Sequence[Question]],
        doors: Sequence[Door],
        *,
        threads: int = 16,
        count: int | None = None,
        pause: float = 0,
        seed: int = 0,
    ) -> None:
        """Args: questions by the weight that they have together; the doors that threads use in turn;
        how many questions; seconds that each thread rests after each.
        """
        self.report = Report()
        self._numbers = iter(range(count)) if count is not None else itertools.count()
        self._groups = list(questions.values())
        self._weights = np.array(list(questions)) / sum(questions)
        self._pause = pause
        self._stopping = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=[doors[number % len(doors)], seed + number], daemon=True)
            for number in range(threads)
        ]

    def run(self) -> Report:
        """Ask all of them."""
        with self.running():
            for thread in self._threads:
                thread.join()
        return self.report

    @contextlib.contextmanager
    def running(self) -> Iterator[Report]:
        """Ask while the body runs."""
        for thread in self._threads:
            thread.start()
        try:
            yield self.report
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join()
        if self._errors:
            raise self._errors[0]

    def _work(self, door: Door, seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            while not self._stopping.is_set() and next(self._numbers, None) is not None:
                group = self._groups[random.choice(len(self._groups), p=self._weights)]
                self.report.ask(group[random.integers(len(group))], door)
                time.sleep(self._pause)
        except BaseException as error:  # noqa: BLE001 - a thread cannot fail a test: `running` raises it again
            self._errors.append(error)
