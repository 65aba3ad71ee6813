"""A budget: what a bundle may cost and must still be worth. Pure.

A limit is absolute or, with ``_ratio``, relative to the source in fp32 on onnxruntime, measured in the same run. Its
text form is ``edgewise.resources.Budget.parse``.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from edgewise_compiler.report import Latency

Positive = Annotated[float, msgspec.Meta(gt=0)]
DEFAULT_DROP = 0.02
"""What may be lost of the metric when the budget says nothing: two points of accuracy, or of agreement."""

What = Literal["metric", "latency", "size", "ram"]


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``max_latency_p95``: ms; ``max_size``: bytes of the model file; ``max_peak_ram``: bytes resident in the process
    that measures, Python and runtime with it. ``max_metric_drop``: of the metric, against the source, as a share.
    """

    max_latency_p95: Positive | None = None
    max_latency_ratio: Positive | None = None
    max_size: Positive | None = None
    max_size_ratio: Positive | None = None
    max_peak_ram: Positive | None = None
    min_metric: float | None = None
    max_metric_drop: Annotated[float, msgspec.Meta(ge=0)] | None = None

    @property
    def limits(self) -> bool:
        """Is there a limit that fp32 may not meet already?"""
        return any(
            (self.max_latency_p95, self.max_latency_ratio, self.max_size, self.max_size_ratio, self.max_peak_ram)
        )

    def least_metric(self, source: float) -> float:
        """The lowest metric that is allowed, for a source that reaches ``source``."""
        drop = self.max_metric_drop
        if drop is None and self.min_metric is None:
            drop = DEFAULT_DROP
        least = -math.inf if drop is None else source - drop
        return max(least, -math.inf if self.min_metric is None else self.min_metric)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate costs and is worth. ``latency`` is None where it was not measured."""

    metric: float
    size: int
    finite: bool = True
    latency: Latency | None = None


def missing(budget: Budget, cost: Cost, source: Cost) -> dict[What, str]:
    """What a candidate lacks to meet the budget, in words by what it is; empty when it meets it.

    What was not measured is not held against it: see ``unknown``.
    """
    lacks: dict[What, str] = {}
    least = budget.least_metric(source.metric)
    if not cost.finite:
        lacks["metric"] = "its outputs are not finite"
    elif cost.metric < least - 1e-9:
        lacks["metric"] = f"metric {cost.metric:.4f}, expected at least {least:.4f}"
    if budget.max_size is not None and cost.size > budget.max_size:
        lacks["size"] = f"{cost.size:,} bytes, expected at most {budget.max_size:,.0f}"
    if budget.max_size_ratio is not None and cost.size > budget.max_size_ratio * source.size:
        lacks["size"] = f"size {cost.size / source.size:.3f} of fp32, expected at most {budget.max_size_ratio:.3g}"
    if cost.latency is not None:
        if budget.max_latency_p95 is not None and cost.latency.p95_ms > budget.max_latency_p95:
            lacks["latency"] = f"p95 {cost.latency.p95_ms:.3g} ms, expected at most {budget.max_latency_p95:.3g} ms"
        if budget.max_latency_ratio is not None and source.latency is not None:
            ratio = cost.latency.p50_ms / source.latency.p50_ms
            if ratio > budget.max_latency_ratio:
                lacks["latency"] = f"latency {ratio:.3f} of fp32, expected at most {budget.max_latency_ratio:.3g}"
        peak = cost.latency.peak_rss_mb * 2**20
        if budget.max_peak_ram is not None and peak > budget.max_peak_ram:
            lacks["ram"] = f"peak {peak / 2**20:.0f} MB, expected at most {budget.max_peak_ram / 2**20:.0f} MB"
    return lacks


def excess(budget: Budget, cost: Cost, source: Cost) -> float:
    """How far a candidate is over its limits: the sum of the natural logarithms of (what it costs / what it may)."""
    ratios = [
        (cost.size, budget.max_size),
        (cost.size / source.size, budget.max_size_ratio),
    ]
    if cost.latency is not None:
        ratios += [
            (cost.latency.p95_ms, budget.max_latency_p95),
            (cost.latency.peak_rss_mb * 2**20, budget.max_peak_ram),
        ]
        if source.latency is not None:
            ratios.append((cost.latency.p50_ms / source.latency.p50_ms, budget.max_latency_ratio))
    return sum(max(0.0, math.log(got / limit)) for got, limit in ratios if limit)


def unknown(budget: Budget, cost: Cost) -> list[str]:
    """Limits that cannot be checked, since nothing was measured."""
    if cost.latency is not None:
        return []
    limits = {
        "latency": budget.max_latency_p95 or budget.max_latency_ratio,
        "peak RAM": budget.max_peak_ram,
    }
    return [f"{name}: not measured, so its limit was not checked" for name, limit in limits.items() if limit]
