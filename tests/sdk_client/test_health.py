"""What ``edgewise device health`` says of the spans that came."""

from __future__ import annotations

from edgewise.cli.device import gauges, totals
from edgewise.resources import HealthGauge, HealthSpan


def span(gauges: dict[str, tuple[float, float, float]], **totals: int) -> HealthSpan:
    return HealthSpan(
        start=0.0,
        end=60.0,
        uncertainty=None,
        received_at=60.0,
        duration=60.0,
        gauges={name: HealthGauge(mean=mean, least=least, most=most) for name, (mean, least, most) in gauges.items()},
        totals=totals,
    )


OLDER = span(
    {"cpu": (0.5, 0.1, 0.95), "temperature": (61.0, 60.0, 62.4), "gpu": (0.2, 0.2, 0.2)},
    sent_bytes=900,
    energy_mj=1_800_000,
)
NEWER = span(
    {"cpu": (0.25, 0.2, 0.3), "temperature": (55.4, 55.0, 56.0), "memory": (2e9, 1e9, 3e9)},
    sent_bytes=100,
    received_bytes=5,
    energy_mj=1_800_000,
)
SPANS = [OLDER, NEWER]


def test_gauges_say_the_newest_and_the_extremes() -> None:
    assert gauges(SPANS) == [
        ("cpu", "25%", "10%", "95%"),
        ("temperature", "55 C", "55 C", "62 C"),
        ("memory", "2.0 GB", "1.0 GB", "3.0 GB"),
        ("gpu", "20%", "20%", "20%"),
    ]
    assert gauges([]) == []


def test_totals_add_up_and_what_no_span_has_is_not_said() -> None:
    assert totals(SPANS) == [("network", "5 B received, 1.0 KB sent"), ("energy", "1.00 Wh")]
    assert totals([]) == []
