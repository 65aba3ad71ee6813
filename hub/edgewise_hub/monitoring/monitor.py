"""The monitor: judges each group's windows, span by span, keeps the judgements, opens and closes alerts.

Rules that hold here:
- a window is in exactly one span of each of its groups: a span starts where the newest judgement's ended, so that a hub
  that was killed goes on where it was;
- a window is judged once it has been here for ``SETTLE_S``: all that were received before it are committed then;
- what is judged is decided in ``drift`` (pure); here rows are read and written, and events published after the commit;
- bounded: a group is judged at most once a window length, and so many rows and spans a tick.
"""

from __future__ import annotations

import logging
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgewise.errors import EdgewiseError
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.wire.codec import decode_json
from edgewise_hub.fleet.tables import Membership
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring import alerts, watching
from edgewise_hub.monitoring import reference as references
from edgewise_hub.monitoring.details import Past, details_of
from edgewise_hub.monitoring.drift import finding as findings
from edgewise_hub.monitoring.drift import quality, versus_rest
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.finding import Columns
from edgewise_hub.monitoring.drift.group import judge as judge_group
from edgewise_hub.monitoring.drift.over_time import OverTime
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.span import Seen, cut
from edgewise_hub.monitoring.drift.summary import Summary
from edgewise_hub.monitoring.drift.versus_rest import Kind
from edgewise_hub.monitoring.tables import Alert, Judgement, WindowRow
from edgewise_hub.registry.tables import Bundle, Model

log = logging.getLogger(__name__)

SETTLE_S = 2.0
MAX_ROWS = 4000
MAX_SPANS = 8
MAX_BASELINES = 32
HISTORY = 120
"""Judgements that a change is dated by."""
NO_BUNDLE = ""


class Held(NamedTuple):
    """What a bundle's windows are decoded with and held against."""

    spec_digest: str
    spec: SketchSpec
    kind: Kind
    columns: Columns


class Span(NamedTuple):
    """A group's next span: its windows, and where it starts (excluded) and ends (included)."""

    windows: Sequence[Seen]
    start: float
    end: float


class Monitor:
    """Owns the baselines of the bundles in use, by digest. One thread calls ``tick``, always with the same hub."""

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._held: OrderedDict[str, Held | None] = OrderedDict()
        self._due: dict[tuple[str, str], float] = {}
        self._over_time: dict[tuple[str, str], OverTime] = {}

    def tick(self, hub: Hub, now: float) -> None:
        """Judge every group that has a span of new windows. ``now``: Unix seconds."""
        with hub.database.read() as session:
            groups = _groups(hub, session)
            models = session.scalars(select(Model.name).where(Model.tenant_id == hub.tenant)).all()
        for model in models:
            for group in sorted(groups):
                if now < self._due.get((model, group), 0.0):
                    continue
                self._due[model, group] = now + hub.settings.window_s
                for _ in range(MAX_SPANS):
                    if not self._judge_next(hub, model, group, groups, now):
                        break

    def _judge_next(self, hub: Hub, model: str, group: str, groups: Mapping[str, frozenset[str]], now: float) -> bool:
        """Judge the group's next span, if there is one."""
        with hub.database.read() as session:
            span = self._next_span(hub, session, model, group, now)
            if span is None:
                return False
            others = self._windows(hub, session, model, group, span.start, span.end, inside=False)
            if (model, group) not in self._over_time:
                self._over_time[model, group] = watching.restore(
                    session,
                    hub.tenant,
                    model,
                    group,
                    lambda after, until: self._windows(hub, session, model, group, after, until, inside=True),
                    lambda windows: self._kinds(hub, (window.bundle for window in windows)),
                )
            past = _past(session, hub.tenant, model, group)
        fleet = watching.sent([*span.windows, *others])
        kinds = self._kinds(hub, (window.bundle for window in span.windows))
        judged, versus = judge_group(fleet, groups, group, kinds, self._policy, seed=round(span.end * 1000))
        over_time = self._over_time[model, group]
        over_time.step({device: sums for device, sums in fleet.items() if device in groups[group]}, kinds)
        finding = findings.find(
            judged,
            list(versus_rest.stratify(fleet, groups[group], kinds).values()),
            over_time.read(kinds),
            quality.judge(watching.counters(span.windows), self._policy.alpha, watching.features(span.windows)),
            {bundle: held.columns for bundle in kinds if (held := self._held.get(bundle)) is not None},
        )
        if judged.alarm:
            over_time.begin_anew()
        row = Judgement(
            tenant_id=hub.tenant,
            id=uuid.uuid4().hex,
            model=model,
            group=group,
            at=now,
            span_start=span.windows[0].at,
            span_end=span.end,
            n=judged.n,
            verdict=finding.judged.verdict,
            p_value=judged.p_value,
            alpha=judged.alpha,
            details=details_of(finding, versus, past, group, windows=len(span.windows), policy=self._policy)
            | {"concept_states": list(over_time.labels.states), "alarms_alone": judged.alarm},
        )
        with hub.database.write() as session:
            session.add(row)
            session.flush()
            changed = self._update_alerts(session, row, now)
        hub.events.publish("judgement", row.id)
        for alert in changed:
            hub.events.publish("alert", alert.id)
            log.info("alert %s: %s", "closed" if alert.closed_at else "open", alert.summary)
        return True

    def _next_span(self, hub: Hub, session: Session, model: str, group: str, now: float) -> Span | None:
        position = session.scalar(
            select(func.max(Judgement.span_end)).where(
                Judgement.tenant_id == hub.tenant, Judgement.model == model, Judgement.group == group
            )
        )
        start = position if position is not None else 0.0
        windows = self._windows(hub, session, model, group, start, now - SETTLE_S, inside=True)
        kinds = self._kinds(hub, (window.bundle for window in windows))
        limits = {bundle: kind.baseline.limit for bundle, kind in kinds.items()}
        count = cut(windows, limits, self._policy.min_n)
        if not count and len(windows) > MAX_ROWS // 2:
            count = len(windows)  # so many windows without enough to judge: pass them, or they would be read for ever
        if not count:
            return None
        if position is None:
            start = np.nextafter(windows[0].at, 0.0)
        return Span(windows[:count], float(start), windows[count - 1].at)

    def _update_alerts(self, session: Session, row: Judgement, now: float) -> list[Alert]:
        """Open, bring up to date or close the group's alerts; those that changed. Broken inputs neither open a drift
        alert nor close one."""
        past = session.execute(
            select(Judgement.verdict, Judgement.p_value, Judgement.details)
            .where(
                Judgement.tenant_id == row.tenant_id,
                Judgement.model == row.model,
                Judgement.group == row.group,
                Judgement.verdict != "wait",
            )
            .order_by(Judgement.span_end.desc())
            .limit(2 * max(self._policy.to_open, self._policy.to_close))
        ).all()
        broken = [alerts.Past(verdict == "data-quality", 1.0, verdict == "data-quality") for verdict, _, _ in past]
        drifted = [
            alerts.Past(verdict != "quiet", p_value, bool(details.get("sure")))
            for verdict, p_value, details in past
            if verdict != "data-quality"
        ]
        changed = [self._update_alert(session, row, alerts.DATA_QUALITY, broken, now)]
        if row.verdict != "data-quality":
            changed.append(self._update_alert(session, row, alerts.DRIFT, drifted, now))
        return [alert for alert in changed if alert is not None]

    def _update_alert(
        self, session: Session, row: Judgement, kind: str, newest_first: Sequence[alerts.Past], now: float
    ) -> Alert | None:
        key = (session, row.tenant_id, kind, row.model, row.group)
        decision = "keep"
        if row.verdict != "wait":
            decision = alerts.decide(alerts.find_open(*key) is not None, newest_first, self._policy)
        if decision == "close":
            return alerts.close_alert(*key, now=now)
        if decision == "keep":
            return None
        details = {
            "verdict": row.verdict,
            "kinds": row.details["kinds"],
            "judgement": row.id,
            "p_value": row.p_value,
            "alpha": row.alpha,
            "false_alert_rate": self._policy.false_alert_rate,
        }
        return alerts.open_alert(*key, summary=row.details["words"], details=details, now=now)

    def _windows(
        self, hub: Hub, session: Session, model: str, group: str, after: float, until: float, *, inside: bool
    ) -> list[Seen]:
        """Windows of active duty received in (after, until], oldest first, at most MAX_ROWS: of the group's devices, or
        (``inside`` false) of all others."""
        members = select(Membership.device_id).where(Membership.tenant_id == hub.tenant, Membership.group == group)
        chosen = (
            select(WindowRow)
            .where(
                WindowRow.tenant_id == hub.tenant,
                WindowRow.model == model,
                WindowRow.duty == "active",
                WindowRow.received_at > after,
                WindowRow.received_at <= until,
                WindowRow.device_id.in_(members) if inside else WindowRow.device_id.not_in(members),
            )
            .order_by(WindowRow.received_at, WindowRow.device_id, WindowRow.epoch, WindowRow.first)
        )
        rows = list(session.scalars(chosen.limit(MAX_ROWS)))
        if len(rows) == MAX_ROWS:  # the last instant may be cut in two: leave it to the next span
            last = rows[-1].received_at
            rows = [row for row in rows if row.received_at < last] or rows
        return [self._seen(hub, row) for row in rows]

    def _seen(self, hub: Hub, row: WindowRow) -> Seen:
        """A window summed up; one that cannot be judged counts as nothing seen, of no bundle, so that spans pass it."""
        held = self._hold(hub, row.bundle)
        try:
            if held is None or held.spec_digest != row.spec:
                raise EdgewiseError("its bundle's reference cannot be used")
            data = msgspec.msgpack.decode(row.sketches, type=dict[str, bytes])
            sketches = WindowSketches.decode(held.spec, data)
        except (EdgewiseError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.debug("window %s %d/%d is not judged: %s", row.device_id, row.epoch, row.first, error)
            return Seen(row.received_at, row.device_id, NO_BUNDLE, Summary.nothing(), row.counters, row.quality)
        counters = row.counters
        summary = Summary.of(
            sketches, int(counters.get("inferences", 0)), counters.get("labelled", 0), counters.get("correct", 0)
        )
        return Seen(row.received_at, row.device_id, row.bundle, summary, counters, row.quality)

    def _kinds(self, hub: Hub, bundles: Iterable[str]) -> dict[str, Kind]:
        found = {bundle: self._hold(hub, bundle) for bundle in set(bundles) - {NO_BUNDLE}}
        return {bundle: held.kind for bundle, held in found.items() if held is not None}

    def _hold(self, hub: Hub, bundle: str) -> Held | None:
        """A bundle's spec and baseline, loaded once; None, said once, where they cannot be used."""
        if bundle not in self._held:
            try:
                self._held[bundle] = self._load(hub, bundle)
            except EdgewiseError as error:
                log.warning("bundle %s cannot be judged: %s", bundle[:12], error)
                self._held[bundle] = None
            while len(self._held) > MAX_BASELINES:
                self._held.popitem(last=False)
        self._held.move_to_end(bundle)
        return self._held[bundle]

    def _load(self, hub: Hub, bundle: str) -> Held:
        with hub.database.read() as session:
            row = session.get(Bundle, (hub.tenant, bundle))
        if row is None:
            raise EdgewiseError("it is not registered")
        spec = decode_json(hub.blobs.read(row.spec), SketchSpec)
        reference = references.load(hub.blobs.path(row.reference), spec)
        columns = Columns(tuple(each.name for each in spec.features), tuple(each.name for each in spec.categories))
        return Held(row.spec, spec, Kind(row.version, Baseline(reference, seed=int(bundle[:8], 16))), columns)


def _groups(hub: Hub, session: Session) -> dict[str, frozenset[str]]:
    """Each named group's devices."""
    found: dict[str, set[str]] = {}
    chosen = select(Membership.group, Membership.device_id).where(Membership.tenant_id == hub.tenant)
    for group, device in session.execute(chosen):
        found.setdefault(group, set()).add(device)
    return {group: frozenset(devices) for group, devices in found.items()}


def _past(session: Session, tenant: str, model: str, group: str) -> list[Past]:
    """What was judged of the group before, oldest first: (span_end, p-value, evidence so far)."""
    rows = session.execute(
        select(Judgement.span_start, Judgement.p_value, Judgement.details)
        .where(
            Judgement.tenant_id == tenant,
            Judgement.model == model,
            Judgement.group == group,
            Judgement.verdict != "wait",
        )
        .order_by(Judgement.span_end.desc())
        .limit(HISTORY)
    ).all()
    return [Past(start, p_value, float(details.get("evidence", 0.0))) for start, p_value, details in reversed(rows)]


tick = Monitor().tick
"""The hub process's monitor, for its ticker."""
