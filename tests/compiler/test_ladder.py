"""Which rung is tried, what a budget misses, which candidate is best: pure decisions."""

from __future__ import annotations

from edgewise_compiler.budget import Budget, Cost, excess, missing, unknown
from edgewise_compiler.front import best, front
from edgewise_compiler.ladder import RUNGS, Rung, why_skip
from edgewise_compiler.report import Latency


def latency(ms: float, spread: float = 0.01, rss: float = 50.0) -> Latency:
    return Latency(p50_ms=ms, p95_ms=ms * 1.2, spread=spread, peak_rss_mb=rss)


def cost(metric: float = 0.9, size: int = 1000, ms: float | None = 1.0, **more: float) -> Cost:
    return Cost(metric=metric, size=size, latency=None if ms is None else latency(ms, **more))


def rung(name: str) -> Rung:
    return next(one for one in RUNGS if one.name == name)


def test_what_a_candidate_misses_is_said_by_what_it_is() -> None:
    budget = Budget(max_latency_ratio=0.5, max_size=500, max_peak_ram=40 * 2**20, max_metric_drop=0.005)
    found = missing(budget, cost(0.89, 600, 0.7), cost())
    assert sorted(found) == ["latency", "metric", "ram", "size"]
    assert found["metric"] == "metric 0.8900, expected at least 0.8950"
    assert missing(budget, cost(0.896, 500, 0.5, rss=40.0), cost()) == {}


def test_what_was_not_measured_is_not_held_against_a_candidate_but_said() -> None:
    budget = Budget(max_latency_p95=0.001)
    assert missing(budget, cost(ms=None), cost()) == {}
    assert unknown(budget, cost(ms=None)) == ["latency: not measured, so its limit was not checked"]


def test_without_a_word_on_accuracy_two_points_may_be_lost() -> None:
    assert missing(Budget(), cost(0.88), cost()) == {}
    assert "metric" in missing(Budget(), cost(0.87), cost())


def test_accuracy_is_not_tried_for_when_speed_is_what_is_missing() -> None:
    said = why_skip(rung("ptq+"), [{"latency"}, {"latency", "size"}], limits=True, size_ratio=None, training=True)
    assert said == "it does not help with latency, size"
    assert why_skip(rung("prune"), [{"latency"}], limits=True, size_ratio=None, training=True) is None


def test_careful_quantization_is_tried_where_accuracy_alone_is_missing() -> None:
    assert why_skip(rung("ptq+"), [{"latency"}, {"metric"}], limits=True, size_ratio=None, training=True) is None
    both = why_skip(rung("ptq+"), [{"latency"}, {"metric", "latency"}], limits=True, size_ratio=None, training=True)
    assert both == "no candidate lacks accuracy alone, and int8 holds it"


def test_careful_quantization_is_tried_where_all_int8_loses_though_float_holds() -> None:
    lacking = [{"latency", "size"}, {"latency"}, {"metric", "latency"}]
    for name in ("ptq+", "qat"):
        tried = why_skip(rung(name), lacking, limits=True, size_ratio=0.25, training=True, collapsed=True)
        assert tried is None


def test_a_rung_that_cannot_be_small_enough_is_left_out() -> None:
    said = why_skip(rung("4-bit+"), [{"size"}], limits=True, size_ratio=0.05, training=True)
    assert said == "at best 0.10 of the size, the budget asks for 0.05"
    cheap = why_skip(rung("fp16"), [{"size"}], limits=True, size_ratio=0.25, training=True)
    assert cheap is None, "worth its place on the front"


def test_training_has_to_be_allowed() -> None:
    assert (
        why_skip(rung("qat"), [{"metric"}], limits=True, size_ratio=None, training=False)
        == "training was not asked for"
    )


def test_a_gain_inside_the_noise_is_no_gain_and_the_smaller_wins() -> None:
    costs = {"fp32": cost(size=1000, ms=1.0), "int8": cost(size=260, ms=0.98)}
    assert best(costs, ["fp32", "int8"]) == "int8"
    noisy = {"fp32": cost(size=1000, ms=1.0, spread=0.3), "int8": cost(size=1000, ms=0.8, spread=0.3)}
    assert best(noisy, ["fp32", "int8"]) == "fp32"


def test_what_is_slower_than_fp32_is_not_chosen_for_being_small() -> None:
    costs = {"fp32": cost(size=1000, ms=1.0), "int8": cost(size=260, ms=1.3)}
    assert best(costs, ["fp32", "int8"]) == "fp32"


def test_the_front_holds_what_nothing_beats() -> None:
    costs = {
        "fp32": cost(0.9, 1000, 1.0),
        "int8": cost(0.89, 260, 0.5),
        "worse": cost(0.88, 270, 0.6),
        "pruned": cost(0.87, 90, 0.3),
    }
    assert front(costs) == ["fp32", "int8", "pruned"]


def test_how_far_over_its_limits_a_candidate_is_adds_up() -> None:
    budget = Budget(max_size=500, max_latency_ratio=0.5)
    assert excess(budget, cost(size=500, ms=0.5), cost()) == 0.0
    nearer, further = cost(size=600, ms=0.5), cost(size=500, ms=0.9)
    assert 0 < excess(budget, nearer, cost()) < excess(budget, further, cost())
