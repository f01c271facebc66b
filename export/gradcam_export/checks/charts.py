"""Curves and bars as inline SVG, coloured by the page they stand in."""

from __future__ import annotations

from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDTH: Final = 720
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 64, 14, 630, 300
_COLOURS: Final = 7
# With the colours used up, the next curves of each colour differ by their dashes.
_DASHES: Final = ("", "7 4", "2 3")
_LEGEND_COLUMNS, _LEGEND_ROW = 3, 22
_BAR_LEFT, _BAR_ROW, _BAR_WIDTH = 190, 28, 430
_TICKS: Final = 4


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
    return _svg("".join(parts), height)


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
    return _svg("".join(parts), max(1, len(values)) * _BAR_ROW)


class _Axis:
    """Where values lie on one side of a plot."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = (min(values), max(values)) if values else (0.0, 1.0)
        if self._low == self._high:
            self._high = self._low + 1.0
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[tuple[str, float]]:
        step = (self._high - self._low) / _TICKS
        values = [self._low + step * index for index in range(_TICKS + 1)]
        return [(_number(value), self.at(value)) for value in values]


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


def _svg(inside: str, height: float) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img">{inside}</svg>'
