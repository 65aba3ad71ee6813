"""The gates of a stage: evidence in, a reading out. Pure.

Each says pass, wait (not enough evidence), fail, or off (no limit, or nothing to compare with), in one sentence with
its numbers. Gates are read at every tick, so a test that is right once would be wrong in the long run ("peeking"):

- **errors** is an e-process and holds however often it is read: Ville's inequality; Robbins 1970; Howard et al. 2021,
  "Time-uniform, nonparametric, nonasymptotic confidence sequences".
- **latency** and **mix** fail only on what is sure *and* larger than the limit: bounds, not estimates, are compared.

A version is never blamed for what the one before does as well: going back would not help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special, stats

from edgewise.sketch import LatencySketch
from edgewise_hub.rollouts.plan import Gates

Counts = npt.NDArray[np.int64]

ALPHA_ERRORS = 0.01
"""A version within its limit is ever stopped by this gate with at most this probability."""
ALTERNATIVES = (1.5, 2.0, 4.0, 8.0, 16.0)
"""Rates, in limits, that the errors gate looks for; those between and beyond are found a little later."""
ALPHA_MIX = 1e-3
Z_BOUND = 2.326
"""One-sided 99%."""
MIN_DIFFERENCE_S = 0.005
"""Latencies nearer than this count as equal: p95 is known to one bin (a factor of 2**(1/4)), and what a scheduler adds
to a model of less than a millisecond is a large ratio of nothing that an application feels."""
MIN_CONFIRMED = 0.5
"""Share of a stage that must be confirmed at its deadline for the offline rest to follow when it returns."""

GateName = Literal["install", "errors", "latency", "mix"]
GateState = Literal["pass", "wait", "fail", "off"]
DeviceState = Literal["waiting", "pending", "downloading", "trial", "confirmed", "failed", "rolled-back"]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate says now; ``value`` and ``limit`` are of one unit. Shown as ``api.schemas.GateReading``."""

    gate: GateName
    state: GateState
    value: float | None = None
    limit: float | None = None
    n: int = 0
    words: str


class DeviceEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One device that was told. ``stage`` is the one it was drawn into."""

    device: str
    stage: int
    state: DeviceState
    online: bool
    reason: str = ""


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """Items of one version: ``answered``; ``bad``, failed or not finite; ``refused``, not of the signature."""

    answered: int = 0
    bad: int = 0
    refused: int = 0

    @property
    def n(self) -> int:
        """Items that the model was run on."""
        return self.answered + self.bad


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """Latency on one profile: counts [LatencySketch.BINS] of the new version and of the one before."""

    new: Counts
    old: Counts


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted classes, counts [classes]: ``new`` on the devices that were told; of the version before, ``rest`` on
    the devices not told, in the same time, and ``before`` on the told ones, until they changed. None: none seen."""

    new: Counts | None = None
    rest: Counts | None = None
    before: Counts | None = None


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that gates read. ``fresh``: inferences of the new version since the present stage began;
    ``has_before``: was there a version before?"""

    devices: list[DeviceEvidence]
    fresh: int = 0
    has_before: bool = False
    new: Outcomes = Outcomes()
    old: Outcomes = Outcomes()
    latency: Mapping[str, Latencies] = {}
    mix: Mix = Mix()


def install(gates: Gates, evidence: Evidence, stage: int, *, at_deadline: bool) -> Reading:
    """Fails when more devices failed than may. Passes when all others that matter are confirmed: a device of an earlier
    stage that is offline holds up none. At the deadline the stage passes with at least half of it confirmed if
    only offline devices are missing (they follow when they return), and fails otherwise."""
    devices = evidence.devices
    confirmed = [device for device in devices if device.state == "confirmed"]
    failed = [device for device in devices if device.state == "failed"]
    missing = [
        device
        for device in devices
        if device.state not in ("confirmed", "failed") and (device.stage == stage or device.online)
    ]
    share = len(failed) / len(devices) if devices else 0.0
    words = f"{len(confirmed)} of {len(devices)} confirmed"
    if failed:
        shown = "; ".join(f"{device.device}: {device.reason}" for device in failed[:3])
        words += f", {len(failed)} failed ({shown})"
    state: GateState = "wait"
    if not devices:
        words = "the stage has no device any more"
        state = "fail" if at_deadline else "wait"
    elif share > gates.install_failures:
        state = "fail"
        words += f"; at most {gates.install_failures:.0%} may fail"
    elif not missing:
        state = "pass"
    elif at_deadline:
        away = [device for device in missing if not device.online]
        enough = confirmed and len(confirmed) >= MIN_CONFIRMED * len(devices)
        state = "pass" if enough and len(away) == len(missing) else "fail"
        words += f" after {gates.deadline:g} s"
        if state == "pass":
            words += f"; {len(away)} offline, they follow when they return"
        else:
            stuck = next((device for device in missing if device.online), missing[0])
            words += f": {stuck.device} is {stuck.state if stuck.online else 'offline'}"
            words += f" ({stuck.reason})" if stuck.reason and stuck.online else ""
    else:
        offline = sum(not device.online for device in missing)
        words += f", waiting for {len(missing)}" + (f" ({offline} offline)" if offline else "")
    return Reading(gate="install", state=state, value=share, limit=gates.install_failures, n=len(devices), words=words)


def errors(gates: Gates, evidence: Evidence) -> Reading:
    """Share of items that failed or gave a value that is not finite, against the limit; where the version before is
    surely over the limit itself (99% bounds of Clopper and Pearson, 1934), against its rate instead."""
    if gates.errors is None:
        return Reading(gate="errors", state="off", words="no limit on errors")
    new, old = evidence.new, evidence.old
    limit, instead = gates.errors, ""
    if old.n and old.bad and _lower(old.bad, old.n) > limit:
        limit = _upper(old.bad, old.n)
        instead = f", the rate that the version before has itself (the plan's limit is {gates.errors:.3g})"
    rate = new.bad / new.n if new.n else None
    words = f"{new.bad} of {new.n} failed or were not finite"
    words += f" ({rate:.2%}, limit {limit:.3g}{instead})" if rate is not None else ""
    state: GateState = "wait"
    if new.n and log_evidence(new.bad, new.n, limit) >= -math.log(ALPHA_ERRORS):
        state = "fail"
        words += (
            f"; surely over the limit (a good version is ever stopped so with probability {ALPHA_ERRORS:g} at most)"
        )
    elif evidence.fresh < gates.min_inferences or rate is None:
        words += f"; {_more(evidence, gates)}"
        if new.refused and not new.n:
            words += f"; {new.refused} were refused, as they do not fit this version's inputs"
    elif rate <= limit:
        state = "pass"
    else:
        words += "; over the limit, but not surely"
    return Reading(gate="errors", state=state, value=rate, limit=limit, n=new.n, words=words)


def latency(gates: Gates, evidence: Evidence) -> Reading:
    """p95 of the new version over p95 of the one before, on the same profile; the worst profile speaks.

    Fails when the ratio of the bounds (99%, from order statistics) is over the limit, and p95 is later by
    MIN_DIFFERENCE_S as well. A profile with little traffic holds up none: it is named, and joins when it has more."""
    if gates.latency_ratio is None:
        return Reading(gate="latency", state="off", words="no limit on latency")
    if not evidence.has_before:
        return Reading(gate="latency", state="off", words="no version before to compare with")
    limit = gates.latency_ratio
    read: dict[str, tuple[float, str]] = {}
    scarce: list[str] = []
    n = 0
    for profile, counts in sorted(evidence.latency.items()):
        sizes = int(counts.new.sum()), int(counts.old.sum())
        n += sizes[0]
        if min(sizes) < max(gates.min_inferences, 1):
            scarce.append(f"{profile} ({sizes[0]} new, {sizes[1]} before)")
            continue
        new, old = _p95(counts.new), _p95(counts.old)
        words = (
            f"p95 {new * 1000:.3g} ms against {old * 1000:.3g} ms on {profile}, ratio {new / old:.2f}, limit {limit:g}"
        )
        sure = _p95(counts.new, -Z_BOUND) > limit * _p95(counts.old, Z_BOUND)
        if sure and new - old >= MIN_DIFFERENCE_S:
            return Reading(gate="latency", state="fail", value=new / old, limit=limit, n=n, words=words)
        read[profile] = (new / old, words)
    too_few = f"too few on {', '.join(scarce)}" if scarce else ""
    if not read or evidence.fresh < gates.min_inferences:
        words = "; ".join(part for part in (_more(evidence, gates), too_few) if part)
        return Reading(gate="latency", state="wait", limit=limit, n=n, words=words)
    ratio, words = max(read.values())
    if ratio > limit:
        words += f"; not surely, or by less than {MIN_DIFFERENCE_S * 1000:g} ms"
    words = "; ".join(part for part in (words, too_few) if part)
    return Reading(gate="latency", state="pass", value=ratio, limit=limit, n=n, words=words)


def mix(gates: Gates, evidence: Evidence) -> Reading:
    """Total variation distance between the classes that the new version and the one before predict.

    Two comparisons, since each has an innocent cause of its own: the devices not told, in the same time (other devices
    see other things), and the same devices before (another time shows other things). The gate fails when every
    comparison with enough evidence does: its distance, less what chance alone would show, surely over the limit, and
    the chi-squared test at ALPHA_MIX. The nearer comparison is shown."""
    if gates.mix_distance is None:
        return Reading(gate="mix", state="off", words="no limit on the mix of predictions")
    if not evidence.has_before:
        return Reading(gate="mix", state="off", words="no version before to compare with")
    limit, new = gates.mix_distance, evidence.mix.new
    if new is None and evidence.new.answered:
        return Reading(gate="mix", state="off", words="the model has no classes")
    olds = [old for old in (evidence.mix.rest, evidence.mix.before) if old is not None]
    if new is not None and any(len(old) != len(new) for old in olds):
        return Reading(gate="mix", state="off", words="the version before has other classes")
    n = int(new.sum()) if new is not None else 0
    least = max(gates.min_inferences, 1)
    compared: list[tuple[float, bool, str]] = []
    for old, where in (
        (evidence.mix.rest, "on devices not told"),
        (evidence.mix.before, "on these devices before"),
    ):
        if new is None or old is None or n < least or int(old.sum()) < least:
            continue
        distance, sure, p_value = difference(new, old)
        fails = sure > limit and p_value < ALPHA_MIX
        words = (
            f"distance {distance:.3f} (surely {max(sure, 0.0):.3f}, p {p_value:.1g}) from the {int(old.sum())} {where}"
        )
        compared.append((distance, fails, words))
    if compared and all(fails for _, fails, _ in compared):
        state: GateState = "fail"
    else:
        state = "pass" if compared and evidence.fresh >= gates.min_inferences else "wait"
    if not compared:
        words = f"{n} predictions; {_more(evidence, gates)}; as many are needed of the version before"
        return Reading(gate="mix", state=state, limit=limit, n=n, words=words)
    words = f"{n} predictions: " + ", ".join(text for _, _, text in compared) + f"; limit {limit:g}"
    if state == "wait":
        words += f"; {_more(evidence, gates)}"
    return Reading(gate="mix", state=state, value=min(compared)[0], limit=limit, n=n, words=words)


def log_evidence(bad: int, n: int, limit: float) -> float:
    """log of the e-value against "the rate is at most ``limit``", given ``bad`` of ``n``: the likelihood ratio of
    higher rates (ALTERNATIVES times the limit, averaged) to the limit itself. By Ville's inequality it ever reaches
    log(1/alpha) with probability at most alpha while the rate is within the limit, however often it is read (for
    independent items)."""
    if bad == 0 or limit >= 1:
        return -math.inf
    if limit <= 0:
        return math.inf
    rates = [min(times * limit, (1 + limit) / 2) for times in ALTERNATIVES]
    ratios = [bad * math.log(rate / limit) + (n - bad) * (math.log1p(-rate) - math.log1p(-limit)) for rate in rates]
    return float(special.logsumexp(ratios)) - math.log(len(ratios))


def difference(new: Counts, old: Counts) -> tuple[float, float, float]:
    """(distance, lower bound, p) of two histograms [classes]: total variation less its mean under chance alone (for the
    pooled mix, normal approximation), the same less Z_BOUND standard errors, and the chi-squared test of homogeneity
    over the classes that occur."""
    n, m = int(new.sum()), int(old.sum())
    p, q = new / n, old / m
    gap = p - q
    pooled = (new + old) / (n + m)
    by_chance = 0.5 * float(np.sqrt(2 / math.pi * pooled * (1 - pooled) * (1 / n + 1 / m)).sum())
    distance = max(0.5 * float(np.abs(gap).sum()) - by_chance, 0.0)
    signs = np.sign(gap)
    spread = (1 - float((signs * p).sum()) ** 2) / n + (1 - float((signs * q).sum()) ** 2) / m
    occurs = (new + old) > 0
    p_value = 1.0
    if int(occurs.sum()) > 1:
        p_value = float(stats.chi2_contingency(np.stack([new[occurs], old[occurs]]), correction=False).pvalue)
    return distance, distance - Z_BOUND * 0.5 * math.sqrt(spread), p_value


def _p95(counts: Counts, z: float = 0.0) -> float:
    """p95 in seconds, or its bound ``z`` standard errors away (order statistics, binomial in normal approximation). A
    lower bound is its bin's lower edge, anything else the upper one."""
    n = int(counts.sum())
    q = min(max(0.95 + z * math.sqrt(0.95 * 0.05 / n), 0.0), 1.0)
    sketch = LatencySketch()
    sketch.counts = counts
    seconds = sketch.quantile(q)
    return seconds / 2**0.25 if z < 0 else seconds


def _lower(bad: int, n: int) -> float:
    """99% lower bound of a rate (Clopper and Pearson)."""
    return float(stats.beta.ppf(0.01, bad, n - bad + 1)) if bad else 0.0


def _upper(bad: int, n: int) -> float:
    """99% upper bound of a rate (Clopper and Pearson)."""
    return float(stats.beta.ppf(0.99, bad + 1, n - bad)) if bad < n else 1.0


def _more(evidence: Evidence, gates: Gates) -> str:
    return f"{evidence.fresh} of {gates.min_inferences} inferences in this stage so far"
