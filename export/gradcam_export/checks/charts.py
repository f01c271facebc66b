"""Curves and bars as inline SVG, coloured by the page they stand in."""

from __future__ import annotations

from html import escape
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDTH: Final = 720
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 64, 14, 630, 300
_COLOURS: Final = 7
# With the colours used up, the next curves of each colour differ by their dashes.
_DASHES: Final = ("", "7 4", "2 3")
_LEGEND_COLUMNS, _LEGEND_ROW = 3, 22
_BARS_WIDTH, _BAR_LEFT, _BAR_ROW, _BAR_WIDTH = 500, 184, 28, 250
_TICKS: Final = 5
# Of arithmetic: what lies this near to a tick is meant to be there.
_ROUNDING: Final = 1e-9


def lines_svg(series: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> str:
    """Draw one curve a name, with axes from the data's range and a legend.

    Args:
        series: the points `(x, y)` of each curve, in the order in which they are joined.
        x: what the horizontal axis shows.
        y: what the vertical axis shows.
    """
    points = [point for curve in series.values() for point in curve if all(map(isfinite, point))]
    across = _Axis([point[0] for point in points], _LEFT, _LEFT + _PLOT_WIDTH)
    up = _Axis([point[1] for point in points], _TOP + _PLOT_HEIGHT, _TOP)
    bottom = _TOP + _PLOT_HEIGHT
    parts = [
        f'<line class="rule" x1="{_LEFT}" y1="{at:.1f}" x2="{_LEFT + _PLOT_WIDTH}" y2="{at:.1f}"/>'
        f'<text class="quiet" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
        for label, at in up.ticks()
    ]
    parts += [
        f'<text class="quiet" x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
        for label, at in across.ticks()
    ]
    parts.append(
        f'<text class="quiet" x="{_LEFT + _PLOT_WIDTH / 2}" y="{bottom + 38}" text-anchor="middle">{escape(x)}</text>'
        f'<text class="quiet" x="14" y="{_TOP + _PLOT_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_TOP + _PLOT_HEIGHT / 2})">{escape(y)}</text>'
    )
    for index, curve in enumerate(series.values()):
        joined = " ".join(f"{across.at(a):.1f},{up.at(b):.1f}" for a, b in curve if isfinite(a) and isfinite(b))
        parts.append(f'<polyline points="{joined}" {_pen(index)}/>')
    legend = bottom + 62
    parts += [_legend_entry(index, name, legend) for index, name in enumerate(series)]
    height = legend + _LEGEND_ROW * -(-len(series) // _LEGEND_COLUMNS)
    return _svg("".join(parts), _WIDTH, height)


def bars_svg(values: Mapping[str, float]) -> str:
    """Draw one horizontal bar a name, from 0, with its value beside it; values below 0 reach to the left of 0."""
    known = [value for value in values.values() if isfinite(value)]
    axis = _Axis([0.0, *known], _BAR_LEFT, _BAR_LEFT + _BAR_WIDTH)
    parts = []
    for index, (name, value) in enumerate(values.items()):
        top, middle = index * _BAR_ROW, index * _BAR_ROW + _BAR_ROW / 2
        parts.append(f'<text x="{_BAR_LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        left, right = sorted((axis.at(0.0), axis.at(value if isfinite(value) else 0.0)))
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{top + 5}" width="{max(1.0, right - left):.1f}" '
            f'height="{_BAR_ROW - 10}" rx="3"/>'
            f'<text x="{right + 8:.1f}" y="{middle + 4:.1f}">{_number(value)}</text>'
        )
    return _svg("".join(parts), _BARS_WIDTH, max(1, len(values)) * _BAR_ROW)


class _Axis:
    """Where values lie on one side of a plot, between two round numbers."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        self._step = _round_step((high - low) / _TICKS) if high > low else 1.0
        self._low = floor(low / self._step + _ROUNDING)
        self._count = max(1, ceil(high / self._step - _ROUNDING) - self._low)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (value / self._step - self._low) / self._count
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[tuple[str, float]]:
        values = [self._step * (self._low + index) for index in range(self._count + 1)]
        return [(_number(value), self.at(value)) for value in values]


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `least`."""
    power = 10.0 ** floor(log10(least))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least * (1 - _ROUNDING))


def _pen(index: int) -> str:
    dash = _DASHES[index // _COLOURS % len(_DASHES)]
    return f'class="curve stroke-{index % _COLOURS}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _legend_entry(index: int, name: str, top: float) -> str:
    row, column = divmod(index, _LEGEND_COLUMNS)
    left, middle = _LEFT + column * (_WIDTH - _LEFT) / _LEGEND_COLUMNS, top + row * _LEGEND_ROW
    return (
        f'<line x1="{left:.1f}" y1="{middle}" x2="{left + 26:.1f}" y2="{middle}" {_pen(index)}/>'
        f'<text x="{left + 34:.1f}" y="{middle + 4}">{escape(name)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if isfinite(value) else "–"


def _svg(inside: str, width: float, height: float) -> str:
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img">{inside}</svg>'
