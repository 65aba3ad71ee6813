"""Windows merged into evidence: for the gates of a rollout, for drift, and for what the API shows.

Windows merge only within one (version, bundle, duty, spec): each compiled variant has embeddings of its own, and a
bundle has one version and one spec. Whoever needs more combines these strata by what they share (counts, labels).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, or_, select
from sqlalchemy.orm import Session

from edgewise.sketch import LatencySketch, SketchSpec, WindowSketches
from edgewise.wire.windows import Counters
from edgewise_hub.api.schemas import GroupAccuracy
from edgewise_hub.fleet.tables import Membership
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.specs import Specs
from edgewise_hub.monitoring.tables import WindowRow

_CHUNK = 1000


class Span(NamedTuple):
    """Windows received from ``since`` up to, without, ``until``: Unix seconds by the hub's clock, which alone is the
    same for all devices. One that was surely over before ``since``, as far as its device's clock is known, is no
    evidence of that time: it waited on a device that was away."""

    since: float | None = None
    until: float | None = None


ALWAYS = Span()


@dataclass
class MergedEvidence:
    """All windows of one bundle and duty, merged. ``size``: their bytes on the wire."""

    version: int
    bundle: str
    spec: str
    sketches: WindowSketches
    totals: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    size: int = 0

    @property
    def counters(self) -> Counters:
        """The sums of the windows' counters."""
        return Counters(**self.totals)


def merge(
    session: Session,
    hub: Hub,
    *,
    model: str,
    versions: Collection[int] | None = None,
    devices: Collection[str] | None = None,
    span: Span = ALWAYS,
    duty: str = "active",
    embedding: bool = True,
) -> dict[str, MergedEvidence]:
    """Windows of ``model`` by bundle digest, merged; ``versions`` and ``devices`` None mean all.

    ``embedding`` False leaves the embedding sketches out, which are most of the bytes: counts and histograms remain.
    """
    specs = Specs(hub)
    merged: dict[str, MergedEvidence] = {}
    for row in _rows(session, hub, model, versions, devices, span, duty):
        spec = specs.get(row.spec)
        sketches: dict[str, bytes] = msgspec.msgpack.decode(row.sketches, type=dict[str, bytes])
        if not embedding:
            spec = _without_embedding(spec)
            sketches.pop("embedding", None)
        decoded = WindowSketches.decode(spec, sketches)
        found = merged.get(row.bundle)
        if found is None:
            merged[row.bundle] = found = MergedEvidence(row.version, row.bundle, row.spec, decoded)
        else:
            found.sketches.merge(decoded)
        found.totals.update(row.counters)
        found.windows += 1
        found.size += row.size
    return merged


def inferences(
    session: Session,
    hub: Hub,
    *,
    model: str,
    versions: Collection[int] | None = None,
    devices: Collection[str] | None = None,
    span: Span = ALWAYS,
    duty: str = "active",
) -> int:
    """How many inferences the windows count; nothing is decoded."""
    return sum(row.counters["inferences"] for row in _rows(session, hub, model, versions, devices, span, duty))


@dataclass
class _Served:
    """What one group or device served of one version."""

    totals: Counter[str] = field(default_factory=Counter)
    latency: LatencySketch = field(default_factory=LatencySketch)
    windows: int = 0
    size: int = 0

    def add(self, other: _Served) -> None:
        self.totals.update(other.totals)
        self.latency.merge(other.latency)
        self.windows += other.windows
        self.size += other.size


def accuracy(
    session: Session, hub: Hub, *, model: str, since: float | None = None, group: str | None = None
) -> list[GroupAccuracy]:
    """What each named group served and how much of it was right, by version, sorted. A device counts in each of the
    groups that it is in now."""
    memberships = select(Membership.device_id, Membership.group).where(Membership.tenant_id == hub.tenant)
    if group is not None:
        memberships = memberships.where(Membership.group == group)
    groups: dict[str, list[str]] = {}
    for device, name in session.execute(memberships):
        groups.setdefault(device, []).append(name)
    by_device: dict[tuple[str, int], _Served] = {}
    for row in _rows(session, hub, model, None, groups, Span(since), "active"):
        served = by_device.setdefault((row.device_id, row.version), _Served())
        sketches: dict[str, bytes] = msgspec.msgpack.decode(row.sketches, type=dict[str, bytes])
        latency = LatencySketch.decode(sketches["latency"]) if "latency" in sketches else LatencySketch()
        served.add(_Served(Counter(row.counters), latency, 1, row.size))
    by_group: dict[tuple[str, int], _Served] = {}
    for (device, version), served in by_device.items():
        for name in groups[device]:
            by_group.setdefault((name, version), _Served()).add(served)
    return [_accuracy_out(model, name, version, by_group[name, version]) for name, version in sorted(by_group)]


def _accuracy_out(model: str, group: str, version: int, served: _Served) -> GroupAccuracy:
    totals, latency = served.totals, served.latency
    return GroupAccuracy(
        model=model,
        group=group,
        version=version,
        inferences=totals["inferences"],
        errors=totals["errors"],
        nonfinite_outputs=totals["nonfinite_outputs"],
        labelled=totals["labelled"],
        correct=totals["correct"],
        windows=served.windows,
        window_bytes=served.size,
        latency_p50_ms=latency.quantile(0.5) * 1000 if latency.n else None,
        latency_p95_ms=latency.quantile(0.95) * 1000 if latency.n else None,
    )


def _rows(
    session: Session,
    hub: Hub,
    model: str,
    versions: Collection[int] | None,
    devices: Collection[str] | None,
    span: Span,
    duty: str,
) -> Iterator[Row[Any]]:
    """The columns that merging reads, a thousand rows at a time. Devices are compared here, not in the query: they may
    be more than a statement has room for."""
    rows = select(
        WindowRow.device_id,
        WindowRow.version,
        WindowRow.bundle,
        WindowRow.spec,
        WindowRow.counters,
        WindowRow.sketches,
        WindowRow.size,
    ).where(WindowRow.tenant_id == hub.tenant, WindowRow.model == model, WindowRow.duty == duty)
    if versions is not None:
        rows = rows.where(WindowRow.version.in_(versions))
    if span.since is not None:
        ended = WindowRow.start + WindowRow.duration + WindowRow.uncertainty  # NULL where the time is not known
        rows = rows.where(WindowRow.received_at >= span.since, or_(ended.is_(None), ended >= span.since))
    if span.until is not None:
        rows = rows.where(WindowRow.received_at < span.until)
    wanted = None if devices is None else frozenset(devices)
    for row in session.execute(rows.execution_options(yield_per=_CHUNK)):
        if wanted is None or row.device_id in wanted:
            yield row


def _without_embedding(spec: SketchSpec) -> SketchSpec:
    return msgspec.structs.replace(spec, embedding=None)
