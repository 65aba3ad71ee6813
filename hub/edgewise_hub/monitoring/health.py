"""How devices are: the stream ``health``, and what the API shows of it beside each model's latency.

Rules that hold here:
- gauges and totals are kept as they came (``wire.health``); a gauge whose numbers cannot be is refused (``absurd``);
- a reading has at most MAX_SPANS of what there is, neighbours added to one another: they are sums.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise.errors import WireError
from edgewise.sketch import LatencySketch
from edgewise.wire.health import STREAM_HEALTH, Gauge, Health, add_gauges, add_totals
from edgewise_hub.api.schemas import DeviceHealth, GaugeOut, HealthSpan, ModelLatency
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.streams import Stream, Take
from edgewise_hub.monitoring.tables import HealthRow, WindowRow
from edgewise_hub.mqtt.inbox import Outcome

MAX_SPANS = 240
MAX_ROWS = 20_000


def stream() -> Stream[Health]:
    """Health, as ``streams.make_handler`` takes it."""

    def begin(_session: Session, _outcome: Outcome) -> Take[Health]:
        def take(health: Health, _device: Device) -> dict[str, Any]:
            for name, gauge in health.gauges.items():
                check(name, gauge)
            return {"gauges": msgspec.to_builtins(health.gauges), "totals": health.totals}

        return take

    return Stream(STREAM_HEALTH, Health, HealthRow, begin)


def check(name: str, gauge: Gauge) -> None:
    """Can these numbers be those of samples? Raises WireError (code ``absurd``)."""
    numbers = (gauge.total, gauge.least, gauge.most)
    slack = 1e-6 * gauge.n * max(map(abs, numbers), default=0.0) + 1e-9
    if (
        not gauge.n
        or not all(map(math.isfinite, numbers))
        or not gauge.n * gauge.least - slack <= gauge.total <= gauge.n * gauge.most + slack
    ):
        raise WireError(f"gauge {name}: {gauge.n} samples cannot have {numbers}", code="absurd")


def read(session: Session, hub: Hub, device: str, since: float) -> DeviceHealth:
    """What came of a device since ``since`` (Unix seconds, by the hub's clock), oldest first."""
    rows = session.scalars(
        select(HealthRow)
        .where(HealthRow.tenant_id == hub.tenant, HealthRow.device_id == device, HealthRow.received_at >= since)
        .order_by(HealthRow.received_at.desc(), HealthRow.epoch, HealthRow.first.desc())
        .limit(MAX_ROWS)
    ).all()[::-1]
    each = max(1, math.ceil(len(rows) / MAX_SPANS))
    spans = [_span(rows[i : i + each]) for i in range(0, len(rows), each)]
    return DeviceHealth(device=device, spans=spans, models=_models(session, hub, device, since))


def _span(rows: Sequence[HealthRow]) -> HealthSpan:
    """Rows next to each other as one span."""
    gauges: dict[str, Gauge] = {}
    totals: dict[str, int] = {}
    for row in rows:
        gauges = add_gauges(gauges, msgspec.convert(row.gauges, dict[str, Gauge]))
        totals = add_totals(totals, row.totals)
    known = [row.uncertainty for row in rows if row.uncertainty is not None]
    return HealthSpan(
        start=rows[0].start,
        end=rows[-1].start + rows[-1].duration,
        uncertainty=max(known) if len(known) == len(rows) else None,
        received_at=rows[-1].received_at,
        duration=sum(row.duration for row in rows),
        gauges={name: GaugeOut(mean=found.mean, least=found.least, most=found.most) for name, found in gauges.items()},
        totals=totals,
    )


def _models(session: Session, hub: Hub, device: str, since: float) -> list[ModelLatency]:
    """Of each version that answered: how often, and how long it took."""
    rows = session.execute(
        select(WindowRow.model, WindowRow.version, WindowRow.duty, WindowRow.counters, WindowRow.sketches)
        .where(WindowRow.tenant_id == hub.tenant, WindowRow.device_id == device, WindowRow.received_at >= since)
        .order_by(WindowRow.received_at.desc())
        .limit(MAX_ROWS)
    )
    latencies: dict[tuple[str, int, str], LatencySketch] = {}
    totals: dict[tuple[str, int, str], Counter[str]] = {}
    for model, version, duty, counters, sketches in rows:
        key = (model, version, duty)
        spent = counters.get("energy_mj", 0)  # not told by every window
        metered = counters["inferences"] if spent else 0
        totals.setdefault(key, Counter()).update(
            inferences=counters["inferences"], errors=counters["errors"], energy_mj=spent, metered=metered
        )
        latency = latencies.setdefault(key, LatencySketch())
        encoded = msgspec.msgpack.decode(sketches, type=dict[str, bytes]).get("latency")
        if encoded is not None:
            latency.merge(LatencySketch.decode(encoded))
    return [
        ModelLatency(
            model=model,
            version=version,
            duty=duty,
            inferences=totals[model, version, duty]["inferences"],
            errors=totals[model, version, duty]["errors"],
            latency_p50_ms=latency.quantile(0.5) * 1000 if latency.n else None,
            latency_p95_ms=latency.quantile(0.95) * 1000 if latency.n else None,
            energy_mj=_ratio(totals[model, version, duty]["energy_mj"], totals[model, version, duty]["metered"]),
        )
        for (model, version, duty), latency in sorted(latencies.items())
    ]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
