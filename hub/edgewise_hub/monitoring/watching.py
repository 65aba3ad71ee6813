"""The state of every group's watch, over the hub's life: made again from the last spans' windows after a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.monitoring.drift.concept import Evidence
from edgewise_hub.monitoring.drift.over_time import SPANS, OverTime
from edgewise_hub.monitoring.drift.span import Seen
from edgewise_hub.monitoring.drift.summary import Summary
from edgewise_hub.monitoring.drift.versus_rest import Kind
from edgewise_hub.monitoring.tables import Judgement

Windows = Callable[[float, float], Sequence[Seen]]
"""A group's windows received in (after, until]."""
Kinds = Callable[[Sequence[Seen]], Mapping[str, Kind]]


def restore(session: Session, tenant: str, model: str, group: str, windows: Windows, kinds: Kinds) -> OverTime:
    """A group's state from its last SPANS judgements; the evidence of labels is read from the newest."""
    rows = session.execute(
        select(Judgement.span_start, Judgement.span_end, Judgement.details)
        .where(Judgement.tenant_id == tenant, Judgement.model == model, Judgement.group == group)
        .order_by(Judgement.span_end.desc())
        .limit(SPANS)
    ).all()
    state = OverTime()
    for start, end, details in reversed(rows):
        seen = [window for window in windows(start - 1e-6, end) if window.at >= start]
        state.step(sent(seen), kinds(seen))
        if details.get("alarms_alone"):
            state.begin_anew()
    states = rows[0].details.get("concept_states") if rows else None
    state.labels = Evidence(sum(states) / len(states), tuple(states)) if states else state.labels
    return state


def sent(windows: Sequence[Seen]) -> dict[str, dict[str, Summary]]:
    """device -> bundle -> what it sent, summed."""
    fleet: dict[str, dict[str, Summary]] = {}
    for window in windows:
        sums = fleet.setdefault(window.device, {})
        sums[window.bundle] = sums[window.bundle] + window.summary if window.bundle in sums else window.summary
    return fleet


def counters(windows: Sequence[Seen]) -> dict[str, dict[str, int]]:
    """device -> counter -> its sum."""
    found: dict[str, dict[str, int]] = {}
    for window in windows:
        own = found.setdefault(window.device, {})
        for name, count in window.counters.items():
            own[name] = own.get(name, 0) + count
    return found


def features(windows: Sequence[Seen]) -> dict[str, dict[str, int]]:
    """Problem of the wire -> feature -> items."""
    found: dict[str, dict[str, int]] = {}
    for window in windows:
        for problem, counts in window.quality.items():
            own = found.setdefault(problem, {})
            for name, count in counts.items():
                own[name] = own.get(name, 0) + count
    return found
