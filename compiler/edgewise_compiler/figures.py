"""The front of one report as a plot: metric against latency, or against size where nothing was measured. Pure."""

from __future__ import annotations

import math
from functools import partial

import msgspec

from edgewise_compiler.budget import Budget
from edgewise_compiler.markup import Html, join, tag
from edgewise_compiler.plots import Axes, Limit, Mark, Point, scatter
from edgewise_compiler.report import CandidateReport, Latency, Report
from edgewise_compiler.words import amount, milliseconds, size_of, source_latency

FAR = 4.0
"""What loses more than so many times what may be lost is off the plot: it would press the others together."""


def drawing(report: Report, *, name: str, width: int, height: int, labels: bool = True) -> Html:
    """The plot. ``name`` makes its ids unique on the page; without ``labels`` dots are told apart by shape alone."""
    timed, title, text = _timed(report), "Candidates by metric and cost", drawn(report)
    budget = msgspec.convert(report.budget, Budget)
    at = _percentile(report)
    base = source_latency(report)
    points, limits = [], []
    x = f"latency {at}, ms (log)" if timed else "size (log)"
    if timed and base is not None:
        points.append(Point("source, fp32", _latency(base, at), report.metric_before, report.size_before, "source"))
        if at == "p95" and budget.max_latency_p95 is not None:
            limits.append(Limit("x", budget.max_latency_p95, f"at most {milliseconds(budget.max_latency_p95)}"))
        elif budget.max_latency_ratio is not None:
            limits.append(Limit("x", budget.max_latency_ratio * base.p50_ms, f"at most {budget.max_latency_ratio:g}×"))
    elif not timed:
        points.append(Point("source, fp32", report.size_before, report.metric_before, report.size_before, "source"))
        sizes = [budget.max_size, budget.max_size_ratio and budget.max_size_ratio * report.size_before]
        if least := [size for size in sizes if size]:
            limits.append(Limit("x", min(least), f"at most {size_of(round(min(least)))}"))
    for one in report.candidates:
        cost = _latency(one.latency, at) if timed and one.latency else None if timed else float(one.size)
        if cost is not None and math.isfinite(one.metric):
            points.append(Point(one.name, cost, one.metric, one.size, _mark(report, one)))
    least_metric = budget.least_metric(report.metric_before)
    floor = -math.inf
    if math.isfinite(least_metric):
        limits.append(Limit("y", least_metric, f"at least {amount(report.metric, least_metric)}"))
        floor = least_metric - FAR * max(report.metric_before - least_metric, 1e-3)
    axes = Axes(x, report.metric, _milliseconds if timed else _bytes, partial(amount, report.metric), floor)
    return scatter(points, limits, axes, name=name, title=title, text=text, width=width, height=height, labels=labels)


def drawn(report: Report) -> str:
    """What the plot shows, in sentences: its caption, and its description."""
    timed = _timed(report)
    left = [one.name for one in report.candidates if (timed and one.latency is None) or not math.isfinite(one.metric)]
    what = (
        f"latency ({_percentile(report)} of one item)"
        if timed
        else "the size of the model file, since no speed was measured"
    )
    sentences = [
        f"{report.metric} against {what}; a dot's area is the size of its file.",
        f"{report.scheme} was chosen; on the front: {'; '.join(report.front) or 'none'}.",
        "Dashed lines are limits of the budget; up and to the left is better.",
    ]
    if report.not_measured:
        sentences.append(f"Not measured: {report.not_measured}.")
    if timed and left:
        sentences.append(f"Not in the plot, since not measured here: {'; '.join(left)}.")
    return " ".join(sentences)


def key() -> Html:
    """What each shape means."""

    def entry(shape: Html, text: str) -> Html:
        return tag("li", tag("svg", shape, viewBox="0 0 22 22", aria_hidden="true"), text)

    def dot(mark: str) -> Html:
        return tag("circle", cx=11, cy=11, r=5.5, class_=f"dot {mark}")

    ring = tag("circle", cx=11, cy=11, r=9, class_="ring")
    return tag(
        "ul",
        entry(join(ring, dot("chosen")), "chosen"),
        entry(dot("front"), "on the front"),
        entry(dot("other"), "beaten by another"),
        entry(tag("path", d="M11 3l8 8l-8 8l-8 -8z", class_="dot source"), "source, fp32"),
        entry(tag("path", d="M5 7h12l-6 10z", class_="dot other"), "below the plot"),
        class_="key",
    )


def _timed(report: Report) -> bool:
    return any(one.latency is not None for one in report.candidates)


def _percentile(report: Report) -> str:
    return "p95" if "max_latency_p95" in report.budget else "p50"


def _latency(latency: Latency, at: str) -> float:
    return max(latency.p95_ms if at == "p95" else latency.p50_ms, 1e-6)


def _mark(report: Report, one: CandidateReport) -> Mark:
    return "chosen" if one.name == report.scheme else "front" if one.name in report.front else "other"


def _milliseconds(value: float) -> str:
    return f"{value:.3g}"


def _bytes(value: float) -> str:
    return size_of(round(value))
