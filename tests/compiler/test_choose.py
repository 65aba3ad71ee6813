"""Which candidate a profile gets."""

from __future__ import annotations

import pytest

from edgewise_compiler.choose import Candidate, choose
from edgewise_compiler.measure import Round, summarize
from edgewise_compiler.report import Latency


def candidate(ms: float | None = None, *, metric: float = 0.98, finite: bool = True, spread: float = 0.01) -> Candidate:
    latency = None if ms is None else Latency(p50_ms=ms, p95_ms=ms, spread=spread, peak_rss_mb=60)
    return Candidate(metric=metric, finite=finite, latency=latency)


@pytest.mark.parametrize(
    ("fp32", "u8s8", "s8s8", "expected", "why"),
    [
        (candidate(), candidate(), candidate(), "u8s8", "was not measured"),
        (candidate(1.0), candidate(0.6), candidate(1.2), "u8s8", "first scheme"),
        (candidate(1.0), candidate(0.8), candidate(0.6), "s8s8", "faster than u8s8"),
        (candidate(1.0), candidate(0.80), candidate(0.79), "u8s8", "first scheme"),
        (candidate(1.0), candidate(0.8, spread=0.3), candidate(0.6), "u8s8", "first scheme"),
        (candidate(1.0), candidate(1.5), candidate(1.2), "fp32", "faster than int8"),
        (candidate(1.0), candidate(1.01), candidate(1.5), "u8s8", "first scheme"),
        (candidate(1.0), candidate(0.5, metric=0.95), candidate(0.8), "s8s8", "u8s8 is out: 0.9500"),
        (candidate(), candidate(finite=False), candidate(metric=0.2), "fp32", "no int8 scheme"),
    ],
)
def test_choice(fp32: Candidate, u8s8: Candidate, s8s8: Candidate, expected: str, why: str) -> None:
    chosen, notes = choose(["u8s8", "s8s8"], {"fp32": fp32, "u8s8": u8s8, "s8s8": s8s8})

    assert chosen == expected
    assert any(why in note for note in notes), notes


def test_rounds_are_summed_up() -> None:
    rounds = [Round([1.0, 1.0, 4.0], 50.0), Round([1.2, 1.2, 1.2], 61.0), Round([0.8, 0.8, 0.8], 55.0)]

    latency = summarize(rounds)

    assert latency.p50_ms == 1.0 and latency.p95_ms > 1.2 and latency.peak_rss_mb == 61.0
    assert latency.spread == pytest.approx(0.1)
