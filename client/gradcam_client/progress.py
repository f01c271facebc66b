"""How far a long run has come: one line redrawn on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

BAR: Final = 24
"""Characters of the bar."""
REDRAW_S: Final = 0.1
PLAIN_S: Final = 10.0
"""Seconds between two lines where the output is no terminal, such as a log; shorter runs say nothing there."""
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """Shows how many of `total` images are done, how fast, and how long the rest will take.

    Args:
        total: images of this run.
        stream: where to, usually standard error; a bar where that is a terminal.
        clock: seconds, from whenever.

    Example:
        ```python
        with Progress(len(paths), sys.stderr) as progress:
            for path in paths:
                ...
                progress.advance()
        ```
    """

    def __init__(self, total: int, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._done = self._failed = 0
        self._started = clock()
        self._shown = self._started
        self._drawn = self._due = False

    @property
    def done(self) -> int:
        """How many images are done, failed ones included."""
        return self._done

    def advance(self, *, failed: bool = False) -> None:
        """Count one more image."""
        self._done += 1
        self._failed += failed
        now = self._clock()
        if self._due or now - self._shown >= (REDRAW_S if self._terminal else PLAIN_S):
            self._shown, self._due = now, False
            self._show(now)

    def clear(self) -> None:
        """Take the bar off the terminal, so that another line may stand there; the next advance draws it anew."""
        if self._drawn:
            self._stream.write(_CLEAR)
            self._stream.flush()
            self._drawn, self._due = False, True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.clear()

    def _show(self, now: float) -> None:
        text = self._text(now - self._started)
        if self._terminal:
            share = self._done / self._total
            full = round(BAR * share)
            bar = f"{share:4.0%} |{'#' * full}{' ' * (BAR - full)}| {text}"
            # A line that is wider than the terminal wraps, and could then not be taken off again.
            self._stream.write(_CLEAR + bar[: self._columns() - 1])
            self._drawn = True
        else:
            self._stream.write(f"gradcam: {text}\n")
        self._stream.flush()

    def _text(self, elapsed: float) -> str:
        rate = self._done / elapsed if elapsed > 0 else 0.0
        left = duration((self._total - self._done) / rate) if rate else "unknown"
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done}/{self._total} images, {rate:.1f}/s, {left} left{failed}"

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except OSError:
            return 80


def duration(seconds: float) -> str:
    """Seconds as `H:MM:SS`, rounded up, so that nothing but the end is `0:00:00`."""
    whole = -int(-seconds // 1)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
