"""A report's figures in words, one way everywhere: on the page and in the terminal. Pure."""

from __future__ import annotations

from edgewise_compiler.budget import DEFAULT_DROP
from edgewise_compiler.report import Latency, Report

SHARES = ("accuracy", "fidelity", "agreement")
SOURCE = "source"
"""What the source in fp32 is called among the latencies."""


def amount(name: str, value: float) -> str:
    """A figure: a share in percent where its name says that it is one, else a number."""
    if 0 <= value <= 1 and any(share in name for share in SHARES):
        return f"{100 * value:.2f}%"
    return f"{value:.4g}"


def difference(name: str, before: float, after: float) -> str:
    """``−0.10 points`` of a share, else a plain difference; ``no loss`` where it is none."""
    change = after - before
    if abs(change) < 5e-5:
        return "no change"
    sign = "+" if change > 0 else "−"
    if any(share in name for share in SHARES):
        return f"{sign}{100 * abs(change):.2f} points"
    return f"{sign}{abs(change):.3g}"


def size_of(count: int) -> str:
    """Bytes: ``980 B``, ``24.1 KB``, ``1.20 MB``."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:.2f} MB"


def milliseconds(value: float) -> str:
    """Three digits: ``0.0123 ms``."""
    return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def against(value: float, source: float | None) -> str:
    """``0.25× of the source in fp32``; empty where the source's is not known."""
    return f"{value / source:.2f}× of the source in fp32" if source else ""


def source_latency(report: Report) -> Latency | None:
    """The source's own, in the run that compared."""
    return (report.latency or {}).get(SOURCE)


def summary(report: Report) -> tuple[str, str]:
    """Does it meet the budget, and what was chosen: two sentences, or more where something is missing."""
    chosen = next(one for one in report.candidates if one.name == report.scheme)
    base = source_latency(report)
    told = [
        f"{report.metric} {amount(report.metric, report.metric_after)} "
        f"({difference(report.metric, report.metric_before, report.metric_after)})",
        f"{size_of(report.size_after)} ({against(report.size_after, report.size_before)})",
    ]
    if chosen.latency is not None:
        ratio = f" ({against(chosen.latency.p50_ms, base.p50_ms)})" if base else ""
        told.append(f"p50 {milliseconds(chosen.latency.p50_ms)}{ratio}")
    else:
        told.append("latency not measured")
    what = f"{report.scheme} on {report.target} was chosen: {', '.join(told)}."
    if not report.budget:
        what += f" No budget was given: at most {100 * DEFAULT_DROP:.0f} points of the metric may be lost."
    if report.meets:
        unchecked = f" Not checked: {'; '.join(report.unchecked)}." if report.unchecked else ""
        return "Meets the budget." if report.budget else "Keeps the metric.", what + unchecked
    return "Does not meet the budget.", f"Missing: {'; '.join(report.missing)}. Of what there is, {what}"
