"""e-values: evidence that may be multiplied over time, averaged over tests, and sorted over devices and groups.

An e-value is at least 0 and at most 1 on average where nothing drifted, so that 1/e is a p-value, whoever chose when to
look (Ramdas, Gruenwald, Vovk and Shafer, 2023). Over many devices or groups, e-BH (Wang and Ramdas, 2022) names those
of which at most a share q is named wrongly, however they depend on each other: groups that share devices, a rest that
is everybody else's too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

MOST = 1e12
"""An e-value is no larger: one span must not decide for all time."""


def calibrate(p_value: float) -> float:
    """The e-value of a p-value: the mixture of k p^(k-1) over k in (0, 1), (1 - p + p ln p) / (p (ln p)^2) (Vovk and
    Wang, 2021, equation 2). Nothing is lost by not choosing k."""
    if p_value > 0.999:  # the two sides of the quotient vanish together
        return 0.5
    p_value = max(p_value, 1e-300)
    log = math.log(p_value)
    return min((1.0 - p_value + p_value * log) / (p_value * log * log), MOST)


def e_bh(e_values: Mapping[str, float], rate: float) -> frozenset[str]:
    """Who is named at false discovery rate ``rate``: the k largest, for the largest k with e_(k) >= K / (k rate)."""
    ordered = sorted(e_values, key=lambda name: (-e_values[name], name))
    count = len(ordered)
    named = [k for k in range(1, count + 1) if e_values[ordered[k - 1]] * k * rate >= count]
    return frozenset(ordered[: max(named, default=0)])


def detector_step(before: float, e_value: float) -> float:
    """Evidence so far, one step on: Shiryaev and Roberts' e-detector, S = (S + 1) e (Shin, Ramdas and Rinaldo, 2023).

    Reaching 1/a takes at least 1/a steps on average where nothing drifted.
    """
    return min((before + 1.0) * e_value, MOST)
