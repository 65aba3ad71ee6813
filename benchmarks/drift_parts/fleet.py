"""Edgewise on a fleet, one group of which drifted."""

from __future__ import annotations

import numpy as np

from drift_parts.ours import items, split, summary
from edgewise_hub.monitoring.drift import evalues, versus_rest
from edgewise_hub.monitoring.drift.versus_rest import Kind


def fleet(trials: int, shift: str = "rotation 10") -> dict[str, float]:
    """1,000 devices with 50 items each, in 20 groups of 50, one of them drifted."""
    held, rest, _ = split("mnist", 0, 50, chunk=1)
    drifted, rng = items("mnist", shift), np.random.default_rng(12)
    groups = {f"g{g:02}": frozenset(f"g{g:02}-{i}" for i in range(50)) for g in range(20)}
    found = right = 0
    wrong = []
    for trial in range(trials):
        bad = f"g{trial % 20:02}"
        sent = {
            device: {"b": summary("mnist", source[rng.choice(len(source.features), 50, replace=False)])}
            for group, devices in groups.items()
            for device in devices
            for source in [drifted if group == bad else rest]
        }
        versus = versus_rest.compare_all(sent, groups, {"b": Kind(1, held)}, 1e-3, rng)
        named = {group for group, result in versus.items() if result.stands_out}
        worst = max(versus, key=lambda group: (evalues.calibrate(versus[group].p_value), versus[group].size))
        found += bad in named
        right += worst == bad
        wrong.append(len(named - {bad}) / max(len(named), 1))
    return {"found": found / trials, "right": right / trials, "fdr": float(np.mean(wrong)), "trials": trials}
