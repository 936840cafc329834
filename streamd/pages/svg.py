"""Small pictures as inline SVG, coloured by `pages.sheet`: curves, histograms, bars and boxes. Text is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Literal, NamedTuple

Colour = Literal["one", "two", "three", "four"]

WIDTH, HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 46


class Axis(NamedTuple):
    """One side of a picture."""

    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = False


class Curve(NamedTuple):
    """A line through points. `step`: it keeps its height until the next point."""

    colour: Colour
    points: Sequence[tuple[float, float]]
    step: bool = False


class Bars(NamedTuple):
    """One histogram: a height for each pair of neighbouring edges."""

    colour: Colour
    heights: Sequence[float]


class Mark(NamedTuple):
    """A point or, where `y` is None, a vertical line, with a word at it."""

    x: float
    y: float | None
    word: str


class Box(NamedTuple):
    """A five-number summary, and the points beyond it."""

    name: str
    low: float
    first_quartile: float
    median: float
    third_quartile: float
    high: float
    outliers: Sequence[float] = ()


def curves(
    title: str, x: Axis, y: Axis, lines: Iterable[Curve], marks: Iterable[Mark] = (), chance: bool = False
) -> str:
    """Lines over an x-axis; `chance` draws the diagonal."""
    frame = _Frame(x, y)
    parts = [frame.grid()]
    if chance:
        parts.append(f'<path class="chance" d="{frame.path([(x.low, y.low), (x.high, y.high)])}"/>')
    parts += [f'<path class="curve {line.colour}" d="{frame.path(_stepped(line))}"/>' for line in lines]
    parts += [frame.mark(mark) for mark in marks]
    return _svg(title, parts)


def histogram(
    title: str, x: Axis, y: Axis, edges: Sequence[float], each: Iterable[Bars], marks: Iterable[Mark] = ()
) -> str:
    """Outlined histograms over each other, so that none hides another."""
    frame = _Frame(x, y)
    parts = [frame.grid()]
    for bars in each:
        outline = [(edges[0], y.low)]
        for left, right, height in zip(edges, edges[1:], bars.heights, strict=False):
            outline += [(left, height), (right, height)]
        outline.append((edges[-1], y.low))
        path = frame.path(outline)
        parts.append(f'<path class="area {bars.colour}" d="{path}Z"/><path class="curve {bars.colour}" d="{path}"/>')
    parts += [frame.mark(mark) for mark in marks]
    return _svg(title, parts)


def bars(title: str, items: Sequence[tuple[str, float, str]], colour: Colour = "one") -> str:
    """Horizontal bars of (name, size ≥ 0, what to write at its end), the longest filling the width."""
    row, left, right = 26, 190, 70
    most = max((size for _, size, _ in items), default=0.0) or 1.0
    parts = []
    for i, (name, size, word) in enumerate(items):
        y = i * row
        width = (WIDTH - left - right) * max(size, 0.0) / most
        parts.append(
            f'<text class="end name" x="{left - 10}" y="{y + 17}">{escape(_short(name))}'
            f"<title>{escape(name)}</title></text>"
            f'<rect class="dot {colour}" x="{left}" y="{y + 4}" width="{max(width, 1):.1f}" height="{row - 8}" rx="3"/>'
            f'<text x="{left + width + 6:.1f}" y="{y + 17}">{escape(word)}</text>'
        )
    return _svg(title, parts, height=max(len(items), 1) * row)


def boxes(title: str, x: Axis, each: Sequence[Box]) -> str:
    """Box plots under each other on one axis (Tukey 1977)."""
    row, left = 34, 150
    frame = _Frame(x, Axis("", 0, 1), height=_TOP + _BOTTOM + row * max(len(each), 1), left=left)
    parts = [frame.grid(rows=False)]
    for i, box in enumerate(each):
        y = _TOP + row * i + row / 2
        at = [frame.x(v) for v in (box.low, box.first_quartile, box.median, box.third_quartile, box.high)]
        half = f"{number(box.first_quartile)} to {number(box.third_quartile)}"
        told = f"{box.name}: median {number(box.median)}, middle half {half}"
        parts.append(
            f"<g><title>{escape(told)}</title>"
            f'<text class="end name" x="{left - 10}" y="{y + 4}">{escape(_short(box.name, 20))}</text>'
            f'<path class="curve one" d="M{at[0]:.1f} {y}H{at[1]:.1f}M{at[3]:.1f} {y}H{at[4]:.1f}'
            f'M{at[0]:.1f} {y - 5}V{y + 5}M{at[4]:.1f} {y - 5}V{y + 5}"/>'
            f'<rect class="box" x="{at[1]:.1f}" y="{y - 9}" width="{max(at[3] - at[1], 1):.1f}" height="18" rx="3"/>'
            f'<path class="curve two" d="M{at[2]:.1f} {y - 9}V{y + 9}"/>'
            + "".join(f'<circle class="dot two" cx="{frame.x(v):.1f}" cy="{y}" r="3.5"/>' for v in box.outliers)
            + "</g>"
        )
    return _svg(title, parts, height=frame.height)


def number(value: float) -> str:
    """A number in few characters: 1,234, 0.031, 2.1e-7."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "none")
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}" if size < 1e7 else f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.3g}".replace("e-0", "e-")


def ticks(low: float, high: float, log: bool = False, wanted: int = 5) -> list[float]:
    """Round numbers between the ends, about as many as wanted.

    >>> ticks(0, 0.93), ticks(0.02, 300, log=True)
    ([0.0, 0.2, 0.4, 0.6, 0.8], [0.1, 1.0, 10.0, 100.0])
    """
    if not high > low:
        return [low]
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        step = max(1, -(-(last - first + 1) // (wanted + 2)))
        if last - first > 1:
            return [10.0**power for power in range(first, last + 1, step)]
        found = [m * 10.0**power for power in range(first - 1, last + 1) for m in (1, 2, 5)]
        if len(found := [tick for tick in found if low <= tick <= high]) > 1:
            return found
    rough = (high - low) / wanted
    unit = 10.0 ** math.floor(math.log10(rough))
    step_size = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
    first_step, last_step = math.ceil(low / step_size - 1e-9), math.floor(high / step_size + 1e-9)
    return [round(i * step_size, 12) for i in range(first_step, last_step + 1)]


class _Frame:
    """Where values lie in the picture."""

    def __init__(self, x: Axis, y: Axis, height: int = HEIGHT, left: int = _LEFT) -> None:
        self.height = height
        self._axes = x, y
        self._left, self._bottom = left, height - _BOTTOM
        self.x = _placed(x, left, WIDTH - _RIGHT)
        self.y = _placed(y, self._bottom, _TOP)

    def grid(self, rows: bool = True) -> str:
        """The axes with their numbers, and lines at those of the y-axis."""
        x, y = self._axes
        parts = []
        for value in ticks(y.low, y.high, y.log) if rows else ():
            at = self.y(value)
            parts.append(
                f'<path class="grid" d="M{self._left} {at:.1f}H{WIDTH - _RIGHT}"/>'
                f'<text class="end" x="{self._left - 8}" y="{at + 4:.1f}">{_tick(value, y)}</text>'
            )
        for value in ticks(x.low, x.high, x.log):
            at = self.x(value)
            parts.append(
                f'<path class="axis" d="M{at:.1f} {self._bottom}v4"/>'
                f'<text class="middle" x="{at:.1f}" y="{self._bottom + 18}">{_tick(value, x)}</text>'
            )
        parts.append(
            f'<path class="axis" d="M{self._left} {self._bottom}H{WIDTH - _RIGHT}"/>'
            f'<text class="end" x="{WIDTH - _RIGHT}" y="{self._bottom + 38}">{escape(x.label)}</text>'
        )
        if y.label:
            middle = (_TOP + self._bottom) / 2
            parts.append(
                f'<text class="middle" transform="rotate(-90 14 {middle})" x="14" y="{middle}">{escape(y.label)}</text>'
            )
        return "".join(parts)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        places = [f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points]
        return "M" + "L".join(places) if places else ""

    def mark(self, mark: Mark) -> str:
        at = self.x(mark.x)
        left = at > (self._left + WIDTH) / 2  # the word stands on the side that has room
        kind, beside = ("end", at - 8) if left else ("", at + 8)
        if mark.y is None:
            return (
                f'<path class="limit" d="M{at:.1f} {_TOP}V{self._bottom}"/>'
                f'<text class="name {kind}" x="{beside:.1f}" y="{_TOP + 10}">{escape(mark.word)}</text>'
            )
        height = self.y(mark.y)
        below = height + 20 if height < self._bottom - 30 else height - 12
        return (
            f'<circle class="dot three" cx="{at:.1f}" cy="{height:.1f}" r="6"/>'
            f'<text class="name {kind}" x="{beside:.1f}" y="{below:.1f}">{escape(mark.word)}</text>'
        )


def _placed(axis: Axis, first: float, last: float) -> Callable[[float], float]:
    """From a value to its place; what lies beyond an end is put there."""
    low, high = (math.log10(axis.low), math.log10(axis.high)) if axis.log else (axis.low, axis.high)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        if axis.log:
            value = math.log10(value) if value > 0 else low
        return first + (last - first) * min(max((value - low) / span, 0.0), 1.0)

    return place


def _stepped(curve: Curve) -> list[tuple[float, float]]:
    if not curve.step:
        return list(curve.points)
    found: list[tuple[float, float]] = []
    for x, y in curve.points:
        if found:
            found.append((x, found[-1][1]))
        found.append((x, y))
    return found


def _tick(value: float, axis: Axis) -> str:
    return f"{100 * value:.3g} %" if axis.percent else number(value)


def _short(name: str, most: int = 26) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _svg(title: str, parts: Iterable[str], height: int = HEIGHT) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
