"""Each gate lets a good version through, stops a bad one, and says which it was in words with numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.sketch import LatencySketch
from edgewise_hub.rollouts import gates
from edgewise_hub.rollouts.gates import DeviceEvidence, Evidence, Latencies, Mix, Outcomes
from edgewise_hub.rollouts.plan import Gates

LIMITS = Gates(
    install_failures=0.0,
    errors=0.01,
    latency_ratio=2.0,
    mix_distance=0.1,
    min_inferences=200,
    soak=0.0,
    deadline=60.0,
)
EVEN = np.full(10, 0.1)


def device(name: str, state: str, *, stage: int = 0, online: bool = True, reason: str = "") -> DeviceEvidence:
    return DeviceEvidence(device=name, stage=stage, state=state, online=online, reason=reason)  # type: ignore[arg-type]


def install(
    *devices: DeviceEvidence, stage: int = 0, at_deadline: bool = False, failures: float = 0.0
) -> gates.Reading:
    limits = Gates(**{**{f: getattr(LIMITS, f) for f in LIMITS.__struct_fields__}, "install_failures": failures})
    return gates.install(limits, Evidence(devices=list(devices)), stage, at_deadline=at_deadline)


class TestInstall:
    def test_waits_until_all_are_confirmed(self) -> None:
        assert install(device("a", "confirmed"), device("b", "trial")).state == "wait"
        assert install(device("a", "confirmed"), device("b", "confirmed")).state == "pass"

    def test_one_failure_is_too_many_unless_the_plan_allows_it(self) -> None:
        devices = [device("a", "failed", reason="crashed: 3 times"), *(device(f"b{i}", "confirmed") for i in range(9))]
        reading = install(*devices)
        assert reading.state == "fail"
        assert "a: crashed: 3 times" in reading.words
        assert install(*devices, failures=0.1).state == "pass"
        assert install(*devices, failures=0.09).state == "fail"

    def test_at_the_deadline_the_offline_follow_later_if_half_is_confirmed(self) -> None:
        away = device("b", "pending", online=False)
        assert install(device("a", "confirmed"), away).state == "wait"
        assert install(device("a", "confirmed"), away, at_deadline=True).state == "pass"
        assert install(
            device("a", "confirmed"), away, device("c", "pending", online=False), at_deadline=True
        ).state == ("fail")
        assert install(away, at_deadline=True).state == "fail"

    def test_at_the_deadline_one_that_is_online_and_stuck_fails_the_stage(self) -> None:
        reading = install(device("a", "confirmed"), device("b", "pending", reason="installing"), at_deadline=True)
        assert reading.state == "fail"
        assert "b is pending (installing)" in reading.words

    def test_an_offline_device_of_an_earlier_stage_holds_up_no_later_one(self) -> None:
        assert install(device("a", "pending", online=False), device("b", "confirmed", stage=1), stage=1).state == "pass"

    def test_a_stage_without_devices_is_not_passed(self) -> None:
        assert install().state == "wait"
        assert install(at_deadline=True).state == "fail"


def errors(
    bad: int, n: int, *, old: tuple[int, int] = (0, 0), fresh: int | None = None, limit: float | None = 0.01
) -> gates.Reading:
    limits = Gates(**{**{f: getattr(LIMITS, f) for f in LIMITS.__struct_fields__}, "errors": limit})
    evidence = Evidence(
        devices=[],
        fresh=n - bad if fresh is None else fresh,
        new=Outcomes(answered=n - bad, bad=bad),
        old=Outcomes(answered=old[1] - old[0], bad=old[0]),
    )
    return gates.errors(limits, evidence)


class TestErrors:
    def test_passes_on_enough_evidence_within_the_limit(self) -> None:
        assert errors(0, 199).state == "wait"
        assert errors(0, 200).state == "pass"
        assert errors(5, 1000).state == "pass"
        assert errors(5, 1000, fresh=10).state == "wait", "each stage needs evidence of its own"

    def test_fails_as_soon_as_it_is_sure(self) -> None:
        assert errors(7, 100).state == "fail"
        assert errors(40, 1000).state == "fail"

    def test_over_the_limit_but_not_surely_waits(self) -> None:
        reading = errors(13, 1000)
        assert reading.state == "wait"
        assert "not surely" in reading.words

    def test_a_version_is_not_blamed_for_what_the_one_before_does_as_well(self) -> None:
        assert errors(50, 1000).state == "fail"
        assert errors(50, 1000, old=(50, 1000)).state == "pass"
        assert errors(200, 1000, old=(50, 1000)).state == "fail"

    def test_no_limit_is_off_and_a_limit_of_zero_allows_none(self) -> None:
        assert errors(50, 100, limit=None).state == "off"
        assert errors(1, 10_000, limit=0.0).state == "fail"
        assert errors(0, 10_000, limit=0.0).state == "pass"

    def test_inputs_that_do_not_fit_are_named_when_nothing_else_comes(self) -> None:
        evidence = Evidence(devices=[], new=Outcomes(refused=300))
        assert "300 were refused" in gates.errors(LIMITS, evidence).words

    def test_read_at_every_inference_a_good_version_is_stopped_as_rarely_as_promised(self) -> None:
        random = np.random.default_rng(1)
        runs, length = 400, 2000
        stopped = 0
        for _ in range(runs):
            bad = np.cumsum(random.random(length) < 0.01)
            failures = np.flatnonzero(np.diff(bad, prepend=0))  # the evidence only rises at a failure
            stopped += any(
                gates.log_evidence(int(bad[i]), int(i) + 1, 0.01) >= -np.log(gates.ALPHA_ERRORS) for i in failures
            )
        assert stopped <= 0.01 * runs + 3 * np.sqrt(0.01 * 0.99 * runs)

    @pytest.mark.parametrize(("rate", "most"), [(0.04, 1000), (0.1, 200)])
    def test_a_bad_version_is_stopped_soon(self, rate: float, most: int) -> None:
        random = np.random.default_rng(2)
        for _ in range(50):
            bad = np.cumsum(random.random(most) < rate)
            assert any(errors(int(bad[i]), i + 1).state == "fail" for i in range(0, most, 10))

    @given(st.integers(0, 300), st.integers(1, 3000), st.floats(0.001, 0.5))
    def test_more_failures_are_more_evidence(self, bad: int, n: int, limit: float) -> None:
        if bad + 1 <= n:
            assert gates.log_evidence(bad + 1, n, limit) >= gates.log_evidence(bad, n, limit)


def latencies(seconds: float, n: int = 1000, seed: int = 0) -> npt.NDArray[np.int64]:
    sketch = LatencySketch()
    for value in np.random.default_rng(seed).lognormal(np.log(seconds), 0.2, n):
        sketch.update(float(value))
    return sketch.counts


def latency(new: npt.NDArray[np.int64], old: npt.NDArray[np.int64], *, has_before: bool = True) -> gates.Reading:
    evidence = Evidence(
        devices=[], fresh=int(new.sum()), has_before=has_before, latency={"p": Latencies(new=new, old=old)}
    )
    return gates.latency(LIMITS, evidence)


class TestLatency:
    def test_the_same_passes_and_thrice_fails(self) -> None:
        assert latency(latencies(0.020), latencies(0.020, seed=1)).state == "pass"
        reading = latency(latencies(0.060), latencies(0.020))
        assert reading.state == "fail"
        assert reading.value is not None and 2.5 < reading.value < 3.6
        assert "ms against" in reading.words and "on p" in reading.words

    def test_a_large_ratio_of_nearly_nothing_passes(self) -> None:
        assert latency(latencies(0.0015), latencies(0.0003)).state == "pass"

    def test_needs_both_sides(self) -> None:
        assert latency(latencies(0.06, n=150), latencies(0.02)).state == "wait"
        assert latency(latencies(0.06), latencies(0.02, n=150)).state == "wait"
        assert latency(latencies(0.06), latencies(0.02), has_before=False).state == "off"

    def test_the_worst_profile_speaks_and_a_quiet_one_holds_up_none(self) -> None:
        same, slow = latencies(0.02), latencies(0.08)
        few = latencies(0.02, n=3)
        quiet = {"fast": Latencies(new=same, old=same), "rare": Latencies(new=few, old=few)}
        reading = gates.latency(LIMITS, Evidence(devices=[], fresh=1000, has_before=True, latency=quiet))
        assert reading.state == "pass"
        assert "rare (3 new, 3 before)" in reading.words
        worst = {"fast": Latencies(new=same, old=same), "slow": Latencies(new=slow, old=same)}
        reading = gates.latency(LIMITS, Evidence(devices=[], fresh=1000, has_before=True, latency=worst))
        assert reading.state == "fail"
        assert "on slow" in reading.words


def counts(mix: npt.NDArray[np.float64], n: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).multinomial(n, mix).astype(np.int64)


SKEWED = np.array([0.4, *[0.6 / 9] * 9])


def read_mix(
    new: npt.NDArray[np.int64] | None,
    rest: npt.NDArray[np.int64] | None,
    before: npt.NDArray[np.int64] | None,
    *,
    has_before: bool = True,
) -> gates.Reading:
    n = int(new.sum()) if new is not None else 0
    return gates.mix(
        LIMITS,
        Evidence(
            devices=[],
            fresh=n,
            has_before=has_before,
            new=Outcomes(answered=n),
            mix=Mix(new=new, rest=rest, before=before),
        ),
    )


class TestMix:
    def test_the_same_mix_passes_however_often_it_is_drawn(self) -> None:
        states = [
            read_mix(counts(EVEN, n, seed), counts(EVEN, 1000, 10_000 + seed), None).state
            for n in (200, 1000)
            for seed in range(200)
        ]
        assert set(states) == {"pass"}

    def test_another_mix_fails_with_its_distance(self) -> None:
        reading = read_mix(counts(SKEWED, 800, 1), counts(EVEN, 2000, 2), counts(EVEN, 2000, 3))
        assert reading.state == "fail"
        assert reading.value is not None and 0.2 < reading.value < 0.4
        assert "not told" in reading.words and "before" in reading.words

    def test_other_devices_or_another_time_alone_is_an_innocent_cause(self) -> None:
        new, like, unlike = counts(SKEWED, 800, 1), counts(SKEWED, 2000, 2), counts(EVEN, 2000, 3)
        assert read_mix(new, unlike, like).state == "pass", "this camera always saw other digits"
        assert read_mix(new, like, unlike).state == "pass", "all cameras see other digits today"
        assert read_mix(new, unlike, None).state == "fail"

    def test_a_significant_but_small_difference_passes(self) -> None:
        slight = np.array([0.13, 0.07, *[0.1] * 8])
        assert read_mix(counts(slight, 50_000, 1), counts(EVEN, 50_000, 2), None).state == "pass"

    def test_needs_evidence_on_both_sides_and_something_to_compare(self) -> None:
        assert read_mix(counts(SKEWED, 100, 1), counts(EVEN, 1000, 2), None).state == "wait"
        assert read_mix(counts(SKEWED, 1000, 1), counts(EVEN, 100, 2), None).state == "wait"
        assert read_mix(None, None, None).state == "wait"
        assert read_mix(counts(SKEWED, 1000, 1), None, None, has_before=False).state == "off"
        assert read_mix(counts(SKEWED, 1000, 1), np.ones(4, dtype=np.int64) * 500, None).state == "off"


@pytest.mark.parametrize("gate", [gates.errors, gates.latency, gates.mix])
def test_a_gate_set_to_none_is_off(gate: object) -> None:
    off = Gates(
        **{
            **{f: getattr(LIMITS, f) for f in LIMITS.__struct_fields__},
            "errors": None,
            "latency_ratio": None,
            "mix_distance": None,
        }
    )
    assert gate(off, Evidence(devices=[], has_before=True)).state == "off"  # type: ignore[operator]
