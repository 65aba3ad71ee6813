"""What an experiment knows, as it grows value by value. Pure: it is one value that the row keeps."""

from __future__ import annotations

import math

import msgspec

from edgewise.wire.experiment import Shadow, Sums
from edgewise_hub.experiments.observe import SLOW_SHARE, Values, effect_range
from edgewise_hub.experiments.plan import Plan
from edgewise_hub.experiments.statistics import Capital, shares_evidence

GUARD_ALPHA = 0.01
"""A guardrail that is kept is ever said to be broken with at most this probability."""
SPLIT_ALPHA = 0.001
"""As much of a split that is as it was drawn."""


class Evidence(msgspec.Struct, kw_only=True):
    """``effect``: of the metric, in [0, 1] of its range. ``share`` and ``labels``: of what the candidate was given in
    each block, against its weight. ``errors``, ``slow``: against the guardrails. ``levels``: number and sum of
    ``Values.level``. ``sums``: everything that was reported."""

    effect: Capital
    share: Capital | None = None
    labels: Capital | None = None
    errors: Capital | None = None
    slow: Capital | None = None
    levels: int = 0
    level_total: float = 0.0
    sums: Sums = Sums()

    @classmethod
    def start(cls, plan: Plan) -> Evidence:
        """Nothing seen yet."""
        weight = plan.weight
        split = None if weight is None else lambda: Capital.against([weight], SPLIT_ALPHA)
        return cls(
            effect=Capital.grid(plan.alpha),
            share=split() if split else None,
            labels=split() if split else None,
            errors=None if plan.max_errors is None else Capital.against([plan.max_errors], GUARD_ALPHA),
            slow=None if plan.max_latency_ratio is None else Capital.against([SLOW_SHARE], GUARD_ALPHA),
        )

    @property
    def level(self) -> float:
        """Share of right answers so far, over blocks; 1/2 while there is none."""
        return self.level_total / self.levels if self.levels else 0.5

    def take(self, plan: Plan, values: Values) -> None:
        """One device's block."""
        if values.effect is not None:
            low, high = effect_range(plan)
            self.effect.add([min(1.0, max(0.0, (values.effect - low) / (high - low)))])
        if values.level is not None:
            self.levels, self.level_total = self.levels + 1, self.level_total + values.level
        for capital, value in (
            (self.share, values.share),
            (self.labels, values.labels),
            (self.errors, values.errors),
            (self.slow, values.slow),
        ):
            if capital is not None and value is not None:
                capital.add([value])

    def estimate(self, plan: Plan) -> tuple[float, float, float]:
        """(mean, low, high) of the effect; the interval holds at every time with probability 1 - alpha."""
        low, high = effect_range(plan)
        left, right = self.effect.interval()
        mean, left, right = (low + (high - low) * part for part in (self.effect.mean, left, right))
        return mean, left, right


def split_evidence(plan: Plan, evidence: Evidence, devices: dict[str, int]) -> float:
    """Log of the evidence that the arms were not filled as drawn: reject at log(1 / SPLIT_ALPHA). ``devices``: by arm,
    of an A/B by device. Of several tests the largest counts, less their number: an average of e-values is one."""
    found = [capital.evidence() for capital in (evidence.share, evidence.labels) if capital is not None and capital.n]
    arms, weight = evidence.sums.arms, plan.weight
    if devices and weight is not None:
        counts = [devices.get("candidate", 0), devices.get("active", 0)]
        found.append(shares_evidence(counts, [weight, 1 - weight]))
    if isinstance(plan.policy, Shadow) and plan.policy.share < 1 and "active" in arms:
        mirrored = (arms["shadow"].requests if "shadow" in arms else 0) + evidence.sums.compared.dropped
        rest = max(0, arms["active"].requests - mirrored)
        found.append(shares_evidence([mirrored, rest], [plan.policy.share, 1 - plan.policy.share]))
    return max(found) - math.log(len(found)) if found else 0.0
