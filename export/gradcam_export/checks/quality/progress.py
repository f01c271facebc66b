"""How far a long command is, how fast it goes and how long it will take."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTH: Final = 20
_EVERY_SECONDS: Final = 5.0


class Progress:
    """Says a line with a bar at the start, from time to time, and at the end.

    Args:
        what: what is done.
        total: how many there are to do.
        unit: what is counted.
        say: shows a line.
        clock: seconds that only grow.
    """

    def __init__(
        self, what: str, total: int, unit: str, say: Callable[[str], None], clock: Callable[[], float] = monotonic
    ) -> None:
        self._what, self._total, self._unit, self._say, self._clock = what, total, unit, say, clock
        self._start = self._said = clock()
        self._done = 0

    def advance(self, count: int = 1) -> None:
        """Count what is done."""
        self._done += count
        now = self._clock()
        if self._done >= self._total or now - self._said >= _EVERY_SECONDS:
            self._said = now
            self._say(self._line(now - self._start))

    def _line(self, seconds: float) -> str:
        full = _WIDTH * self._done // self._total
        rate = self._done / seconds if seconds > 0 else 0.0
        line = f"{self._what} {'█' * full}{'░' * (_WIDTH - full)} {self._done}/{self._total} {self._unit}"
        if not rate:
            return line
        if self._done >= self._total:
            return f"{line}  {rate:.2g}/s  {_clock_time(seconds)}"
        return f"{line}  {rate:.2g}/s  {_clock_time((self._total - self._done) / rate)} left"


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
