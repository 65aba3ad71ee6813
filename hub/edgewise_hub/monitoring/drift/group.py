"""One group's judgement, whole: its strata against their references and against the rest, and what must survive.

An alarm that ends when one device is left out, of the group or of the rest, is no alarm: the group is quiet, and the
device is named (``one_device``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgewise_hub.monitoring.drift import one_device, panel, versus_rest
from edgewise_hub.monitoring.drift.panel import Judged, Policy
from edgewise_hub.monitoring.drift.summary import Summary
from edgewise_hub.monitoring.drift.versus_rest import Fleet, Kind, VersusRest


def judge(
    fleet: Fleet,
    groups: Mapping[str, frozenset[str]],
    group: str,
    kinds: Mapping[str, Kind],
    policy: Policy,
    seed: int,
) -> tuple[Judged, VersusRest]:
    """Judge one group of a fleet over one span. The same ``seed`` gives the same judgement."""
    versus = versus_rest.compare_all(fleet, groups, kinds, policy.alpha, np.random.default_rng(seed))[group]
    judged = _panel(fleet, groups, group, kinds, policy, versus, seed)
    members = [device for device in groups[group] if fleet.get(device)]
    if not judged.alarm or len(members) < 2:
        return judged, versus
    p_value = judged.p_value
    for device in _influential(fleet, frozenset(members), kinds):
        others = {name: sent for name, sent in fleet.items() if name != device}
        rest = versus_rest.compare(others, groups, group, kinds, versus.without, np.random.default_rng(seed))
        again = _panel(others, groups, group, kinds, policy, rest, seed)
        p_value = max(p_value, again.p_value)
        if not again.alarm:
            return replace(judged, verdict="quiet", p_value=max(p_value, policy.alpha), one_device=device), versus
    return replace(judged, p_value=p_value), versus


def _panel(
    fleet: Fleet,
    groups: Mapping[str, frozenset[str]],
    group: str,
    kinds: Mapping[str, Kind],
    policy: Policy,
    versus: VersusRest,
    seed: int,
) -> Judged:
    own = list(versus_rest.stratify(fleet, groups[group], kinds).values())
    return panel.judge(own, versus, policy, np.random.default_rng(seed))


def _influential(fleet: Fleet, members: frozenset[str], kinds: Mapping[str, Kind]) -> list[str]:
    """The devices that move the group's sums most, and those that move the rest's."""
    found: dict[str, None] = {}
    for bundle in sorted(kinds):
        sent = {device: sums[bundle] for device, sums in fleet.items() if bundle in sums}
        for inside in (True, False):
            part: dict[str, Summary] = {name: s for name, s in sent.items() if (name in members) is inside}
            if len(part) > 1:
                found.update(dict.fromkeys(one_device.most_influential(one_device.cap(part))))
            elif inside:
                found.update(dict.fromkeys(part))
    return list(found)
