"""Plots as inline SVG, drawn once for each width, since a page without scripts cannot measure its own. Pure.

Rules that hold here:
- shape tells what colour tells: the source is a diamond, the chosen one has a ring, what is off the plot is a triangle;
- a plot has a title and a description for who does not see it; the page has the same figures in a table;
- a label that would cover another is left out, unless it is the source's or the chosen one's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edgewise_compiler.markup import Html, join, tag

Mark = Literal["chosen", "front", "other", "source"]
ORDER: tuple[Mark, ...] = ("other", "front", "source", "chosen")
"""What is drawn later lies on top; labels are placed the other way round."""

MAX_RADIUS, MIN_RADIUS = 11.0, 3.5
CHARACTER, LINE = 6.1, 13.0
"""A label's character and line, in units of the drawing, at 11 units a letter."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom"""
Place = tuple[str, float, float, Box]
"""Where a text may stand: (anchor, x, y, box)"""


@dataclass(frozen=True)
class Point:
    """``x`` > 0 (a log axis); ``size`` in bytes is the dot's area."""

    name: str
    x: float
    y: float
    size: int
    mark: Mark


@dataclass(frozen=True)
class Limit:
    """A budget's limit, drawn as a line across: ``x`` is upright."""

    axis: Literal["x", "y"]
    at: float
    text: str


@dataclass(frozen=True)
class Axes:
    """Titles, and how a value is written. ``floor``: points below it are drawn at the lower edge, as off the plot."""

    x: str
    y: str
    x_text: Callable[[float], str]
    y_text: Callable[[float], str]
    floor: float = -math.inf


@dataclass(frozen=True)
class _Frame:
    """Where the data lies in the drawing: ``low`` and ``high`` are (x as a logarithm, y)."""

    left: float
    right: float
    top: float
    bottom: float
    low: tuple[float, float]
    high: tuple[float, float]

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.low[0]) / (self.high[0] - self.low[0])
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        share = (max(value, self.low[1]) - self.low[1]) / (self.high[1] - self.low[1])
        return self.bottom - share * (self.bottom - self.top)


def scatter(
    points: Sequence[Point],
    limits: Sequence[Limit],
    axes: Axes,
    *,
    name: str,
    title: str,
    text: str,
    width: int,
    height: int,
    labels: bool = True,
) -> Html:
    """Points over a log axis. ``name`` makes the ids unique; ``title`` and ``text`` are read out. Needs a point."""
    frame = _frame(points, limits, axes, width, height)
    ordered = sorted(points, key=lambda point: ORDER.index(point.mark))
    largest = max(point.size for point in points)
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", text, id=f"{name}-text"),
        *_grid(frame, axes),
        *(_limit(limit, frame) for limit in limits),
        *(_dot(point, frame, axes, radius(point.size, largest)) for point in ordered),
        *(_labels(ordered[::-1], limits, frame, largest) if labels else ()),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{name}-title {name}-text",
        class_="plot",
    )


def radius(size: int, largest: int) -> float:
    """The area is in proportion to the size, but for a least one that can be seen."""
    return max(MIN_RADIUS, MAX_RADIUS * math.sqrt(size / max(largest, 1)))


def _frame(points: Sequence[Point], limits: Sequence[Limit], axes: Axes, width: int, height: int) -> _Frame:
    xs = [math.log10(p.x) for p in points] + [math.log10(one.at) for one in limits if one.axis == "x"]
    ys = [p.y for p in points if p.y >= axes.floor] + [one.at for one in limits if one.axis == "y"]
    pad_x = max(0.1 * (max(xs) - min(xs)), 0.08)
    ys = ys or [max(p.y for p in points)]
    pad_y = max(0.12 * (max(ys) - min(ys)), 0.004 * max(abs(max(ys)), 1e-9), 1e-9)
    return _Frame(
        left=58,
        right=width - 12,
        top=20,
        bottom=height - 42,
        low=(min(xs) - pad_x, min(ys) - pad_y),
        high=(max(xs) + pad_x, max(ys) + pad_y),
    )


def _grid(frame: _Frame, axes: Axes) -> Iterator[Html]:
    middle = (frame.left + frame.right) / 2
    last = -math.inf
    for value in log_ticks(frame.low[0], frame.high[0]):
        at = frame.x(value)
        yield tag("line", x1=_n(at), x2=_n(at), y1=_n(frame.top), y2=_n(frame.bottom), class_="grid")
        shown = axes.x_text(value)
        if at - last > CHARACTER * (len(shown) + 1):
            yield tag("text", shown, x=_n(at), y=_n(frame.bottom + 15), text_anchor="middle", class_="tick")
            last = at
    for value in ticks(frame.low[1], frame.high[1], 5):
        at = frame.y(value)
        yield tag("line", x1=_n(frame.left), x2=_n(frame.right), y1=_n(at), y2=_n(at), class_="grid")
        yield tag("text", axes.y_text(value), x=_n(frame.left - 7), y=_n(at + 4), text_anchor="end", class_="tick")
    yield tag("text", axes.x, x=_n(middle), y=_n(frame.bottom + 34), text_anchor="middle", class_="axis")
    yield tag("text", axes.y, x=_n(frame.left - 52), y=_n(frame.top - 7), class_="axis")


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round values from low to high: steps of 1, 2 or 5."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    while (high - low) / step > count:
        # 1, 2, 5, 10: whichever comes next.
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade between two logarithms; with more than three decades only each 1."""
    lead = (1.0,) if high - low > 3 else (1.0, 2.0, 5.0)
    found = [
        one * 10.0**decade
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for one in lead
        if low <= math.log10(one) + decade <= high
    ]
    if len(found) > 1:
        return found
    # Less than a factor of two: round values in between.
    return [value for value in ticks(10.0**low, 10.0**high, 4) if value > 0]


def _limit(limit: Limit, frame: _Frame) -> Html:
    x1, x2, y1, y2 = frame.left, frame.right, frame.top, frame.bottom
    if limit.axis == "x":
        x1 = x2 = frame.x(limit.at)
    else:
        y1 = y2 = frame.y(limit.at)
    anchor, x, y, _ = _limit_place(limit, frame)
    line = tag("line", x1=_n(x1), x2=_n(x2), y1=_n(y1), y2=_n(y2), class_="limit")
    return join(line, tag("text", limit.text, x=_n(x), y=_n(y), text_anchor=anchor, class_="limit-text"))


def _limit_place(limit: Limit, frame: _Frame) -> Place:
    wide = CHARACTER * len(limit.text)
    if limit.axis == "y":
        return _place("end", frame.right - 2, frame.y(limit.at) - 5, wide)
    at = frame.x(limit.at)
    near = at < (frame.left + frame.right) / 2
    return _place("start" if near else "end", at + 5 if near else at - 5, frame.bottom - 6, wide)


def _dot(point: Point, frame: _Frame, axes: Axes, size: float) -> Html:
    x, y = frame.x(point.x), frame.y(point.y)
    told = tag("title", f"{point.name}: {axes.y_text(point.y)}, {axes.x_text(point.x)}")
    if point.y < axes.floor:
        y = frame.bottom - 7
        return tag("path", told, d=f"M{x - 6:.1f} {y - 5:.1f}h12l-6 10z", class_=f"dot {point.mark}")
    if point.mark == "source":
        return tag("path", told, d=f"M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z", class_="dot source")
    dot = tag("circle", told, cx=_n(x), cy=_n(y), r=_n(size), class_=f"dot {point.mark}")
    if point.mark != "chosen":
        return dot
    return join(tag("circle", cx=_n(x), cy=_n(y), r=_n(size + 4.5), class_="ring"), dot)


def _labels(points: Sequence[Point], limits: Sequence[Limit], frame: _Frame, largest: int) -> Iterator[Html]:
    """Names beside their dots, the important ones first, where there is room."""
    dots = [_box(point, frame, radius(point.size, largest)) for point in points]
    placed = [_limit_place(limit, frame)[3] for limit in limits]
    for number, point in enumerate(points):
        taken = dots[:number] + dots[number + 1 :] + placed
        places = _places(point, frame, max(radius(point.size, largest), 8.0) + 6)
        free = [one for one in places if _inside(one[3], frame) and not any(_overlap(one[3], box) for box in taken)]
        if not free and point.mark in ("chosen", "source"):
            free = [one for one in places if _inside(one[3], frame)] or places
        if free:
            anchor, x, y, box = free[0]
            placed.append(box)
            yield tag("text", point.name, x=_n(x), y=_n(y), text_anchor=anchor, class_=f"label {point.mark}")


def _places(point: Point, frame: _Frame, gap: float) -> list[Place]:
    """To the right, the left, above, below."""
    x, y = frame.x(point.x), min(frame.y(point.y), frame.bottom - 7)
    wide = CHARACTER * len(point.name)
    return [
        _place("start", x + gap, y + 4, wide),
        _place("end", x - gap, y + 4, wide),
        _place("middle", x, y - gap, wide),
        _place("middle", x, y + gap + 8, wide),
    ]


def _place(anchor: str, x: float, y: float, wide: float) -> Place:
    left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
    return anchor, x, y, (left, y - LINE + 3, left + wide, y + 3)


def _box(point: Point, frame: _Frame, size: float) -> Box:
    x, y = frame.x(point.x), min(frame.y(point.y), frame.bottom - 7)
    return (x - size, y - size, x + size, y + size)


def _inside(box: Box, frame: _Frame) -> bool:
    return box[0] >= frame.left and box[2] <= frame.right and box[1] >= frame.top and box[3] <= frame.bottom


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _n(value: float) -> str:
    return f"{value:.1f}"
