"""What the gates of one rollout are shown: devices' reports, and windows merged from both versions."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise.sketch import LatencySketch
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring import evidence
from edgewise_hub.monitoring.evidence import MergedEvidence, Span
from edgewise_hub.registry.tables import Bundle
from edgewise_hub.rollouts.advance import RolloutState
from edgewise_hub.rollouts.devices import standing
from edgewise_hub.rollouts.draw import next_stage
from edgewise_hub.rollouts.gates import Counts, DeviceEvidence, Evidence, Latencies, Mix, Outcomes
from edgewise_hub.rollouts.plan import Plan
from edgewise_hub.rollouts.tables import Rollout, RolloutDevice

LOOKBACK_S = 3600.0
"""The version before is read back so far from the rollout's start, or as long as a stage may last."""


def rollout_devices(session: Session, hub: Hub, rollout: str) -> list[RolloutDevice]:
    """A rollout's devices, in the order of the draw."""
    return list(
        session.scalars(
            select(RolloutDevice)
            .where(RolloutDevice.tenant_id == hub.tenant, RolloutDevice.rollout_id == rollout)
            .order_by(RolloutDevice.draw, RolloutDevice.device_id)
        )
    )


def bundle_profiles(session: Session, hub: Hub, model: str, versions: Collection[int]) -> dict[str, str]:
    """Bundle digest -> profile, of these versions."""
    rows = select(Bundle.digest, Bundle.profile).where(
        Bundle.tenant_id == hub.tenant, Bundle.model == model, Bundle.version.in_(versions)
    )
    return dict(session.execute(rows).all())


def fleet(session: Session, hub: Hub, rows: Iterable[RolloutDevice]) -> dict[str, Device]:
    """The devices of these rows, by id."""
    wanted = {row.device_id for row in rows}
    devices = session.scalars(select(Device).where(Device.tenant_id == hub.tenant, Device.id.in_(wanted)))
    return {device.id: device for device in devices}


def state_of(rollout: Rollout, rows: Collection[RolloutDevice]) -> RolloutState:
    """The rollout as ``advance`` sees it."""
    plan = Plan.from_json(rollout.plan)
    return RolloutState(
        plan=plan,
        stage=rollout.stage,
        next_stage=next_stage({row.stage for row in rows}, rollout.stage, len(plan.stages) - 1),
        stage_started_at=rollout.stage_started_at,
        installed_at=rollout.evidence.get("installed_at"),
    )


def gather(session: Session, hub: Hub, rollout: Rollout, rows: Collection[RolloutDevice]) -> Evidence:
    """Read what there is. Revoked devices are left out."""
    devices = fleet(session, hub, rows)
    rows = [row for row in rows if row.device_id in devices and devices[row.device_id].revoked_at is None]
    told = {row.device_id: row for row in rows if row.assigned_at is not None}
    rest = [row.device_id for row in rows if row.assigned_at is None]
    before = {row.from_version for row in rows if row.from_version is not None} - {rollout.to_version}
    profiles = bundle_profiles(session, hub, rollout.model, {rollout.to_version, *before})
    own = set(bundle_profiles(session, hub, rollout.model, {rollout.to_version}))

    lookback = max(LOOKBACK_S, Plan.from_json(rollout.plan).gates.deadline)
    began = min(
        (row.assigned_at for row in told.values() if row.stage == rollout.stage and row.assigned_at is not None),
        default=rollout.stage_started_at,
    )
    new = _merge(session, hub, rollout, {rollout.to_version}, told, rollout.created_at)
    old_told = _merge(session, hub, rollout, before, told, rollout.created_at - lookback)
    old_rest = _merge(session, hub, rollout, before, rest, rollout.created_at)
    return Evidence(
        devices=[_device(row, devices[name], rollout, own) for name, row in told.items()],
        fresh=evidence.inferences(
            session,
            hub,
            model=rollout.model,
            versions={rollout.to_version},
            devices=told,
            span=Span(began),
        ),
        has_before=bool(before),
        new=_outcomes(new),
        old=_outcomes(old_told + old_rest),
        latency=_latencies(new, old_told + old_rest, profiles),
        mix=Mix(new=_classes(new), rest=_classes(old_rest), before=_classes(old_told)),
    )


def _merge(
    session: Session,
    hub: Hub,
    rollout: Rollout,
    versions: Collection[int],
    devices: Collection[str],
    since: float,
) -> list[MergedEvidence]:
    if not versions or not devices:
        return []
    merged = evidence.merge(
        session,
        hub,
        model=rollout.model,
        versions=versions,
        devices=devices,
        span=Span(since),
        embedding=False,
    )
    return list(merged.values())


def _device(row: RolloutDevice, device: Device, rollout: Rollout, bundles: Collection[str]) -> DeviceEvidence:
    state, reason = standing(row, device, rollout.model, bundles, taken_back=False)
    return DeviceEvidence(device=device.id, stage=row.stage, state=state, online=device.online, reason=reason)


def _outcomes(merged: Iterable[MergedEvidence]) -> Outcomes:
    counters = [found.counters for found in merged]
    return Outcomes(
        answered=sum(c.inferences for c in counters),
        bad=sum(c.errors + c.nonfinite_outputs for c in counters),
        refused=sum(c.refused for c in counters),
    )


def _latencies(
    new: Iterable[MergedEvidence], old: Iterable[MergedEvidence], profiles: dict[str, str]
) -> dict[str, Latencies]:
    """By profile; latencies of different bundles on one profile are of one unit and add up."""
    sides: list[dict[str, Counts]] = []
    for merged in (new, old):
        counts: dict[str, Counts] = {}
        for found in merged:
            profile = profiles[found.bundle]
            counts[profile] = counts.get(profile, _no_latency()) + found.sketches.latency.counts
        sides.append(counts)
    new_counts, old_counts = sides
    return {
        profile: Latencies(new=counts, old=old_counts.get(profile, _no_latency()))
        for profile, counts in new_counts.items()
    }


def _no_latency() -> Counts:
    return np.zeros(LatencySketch.BINS, dtype=np.int64)


def _classes(merged: Iterable[MergedEvidence]) -> Counts | None:
    """Predicted classes of all bundles: they share the labels. None where none counts classes, or the labels differ."""
    counts = [found.sketches.classes.counts for found in merged if found.sketches.classes is not None]
    if not counts or len({len(c) for c in counts}) != 1:
        return None
    total: Counts = np.sum(counts, axis=0, dtype=np.int64)
    return total
