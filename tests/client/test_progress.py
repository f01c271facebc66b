"""A bar on a terminal, a line now and then elsewhere: both tell how many are done, how fast, and what is left."""

import io
import os
import pty
import termios

import pytest
from gradcam_client.progress import Progress, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def advance(progress, clock, count, seconds, **failed):
    for _ in range(count):
        clock.now += seconds
        progress.advance(**failed)


def test_a_short_run_says_nothing_where_there_is_no_terminal(clock):
    log = io.StringIO()
    with Progress(1000, log, clock=clock) as progress:
        advance(progress, clock, 999, 0.01)
    assert log.getvalue() == ""


def test_a_long_run_logs_a_plain_line_every_ten_seconds(clock):
    log = io.StringIO()
    with Progress(100, log, clock=clock) as progress:
        advance(progress, clock, 9, 1, failed=True)
        advance(progress, clock, 21, 1)
    assert log.getvalue().splitlines() == [
        "gradcam: 10/100 images, 1.0/s, 0:01:30 left, 9 failed",
        "gradcam: 20/100 images, 1.0/s, 0:01:20 left, 9 failed",
        "gradcam: 30/100 images, 1.0/s, 0:01:10 left, 9 failed",
    ]
    assert progress.done == 30


class Terminal:
    """A pseudo-terminal that keeps what is drawn on it."""

    def __init__(self, columns):
        self.far, near = pty.openpty()
        self.stream = os.fdopen(near, "w")
        termios.tcsetwinsize(near, (24, columns))

    def drawn(self) -> str:
        # What is written to a terminal arrives a little later, and not all at once.
        self.stream.write("END")
        self.stream.flush()
        seen = ""
        while not seen.endswith("END"):
            seen += os.read(self.far, 100_000).decode()
        return seen.removesuffix("END")

    def close(self):
        self.stream.close()
        os.close(self.far)


@pytest.fixture
def terminal(request):
    opened = Terminal(request.param)
    yield opened
    opened.close()


@pytest.mark.parametrize("terminal", [100], indirect=True)
def test_a_terminal_shows_a_bar_that_is_redrawn_in_place_and_taken_off(terminal, clock):
    with Progress(8, terminal.stream, clock=clock) as progress:
        advance(progress, clock, 1, 0.05)
        advance(progress, clock, 1, 0.45)
        advance(progress, clock, 4, 0.25)
    bars = terminal.drawn().split("\r\x1b[K")
    assert bars[1] == " 25% |######                  | 2/8 images, 4.0/s, 0:00:02 left"
    assert bars[5] == " 75% |##################      | 6/8 images, 4.0/s, 0:00:01 left"
    assert (bars[0], bars[6], len(bars)) == ("", "", 7)


@pytest.mark.parametrize("terminal", [100], indirect=True)
def test_a_bar_makes_room_for_a_line_and_comes_back(terminal, clock):
    with Progress(3, terminal.stream, clock=clock) as progress:
        progress.clear()
        advance(progress, clock, 1, 0.2)
        progress.clear()
        terminal.stream.write("a line\n")
        advance(progress, clock, 1, 0.01)
    assert [part[:15] for part in terminal.drawn().split("\r\x1b[K")] == [
        "",
        " 33% |########  "[:15],
        "a line\r\n",
        " 67% |##########"[:15],
        "",
    ]


@pytest.mark.parametrize("terminal", [30, 0], indirect=True)
def test_a_bar_is_no_wider_than_the_terminal(terminal, clock):
    with Progress(10**6, terminal.stream, clock=clock) as progress:
        advance(progress, clock, 1, 0.2, failed=True)
    widths = [len(part) for part in terminal.drawn().split("\r\x1b[K")]
    columns = os.get_terminal_size(terminal.stream.fileno()).columns or 80
    assert 0 < max(widths) < columns


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00"), (0.2, "0:00:01"), (59.5, "0:01:00"), (3661, "1:01:01"), (360_000, "100:00:00")],
)
def test_a_duration_is_rounded_up(seconds, shown):
    assert duration(seconds) == shown
