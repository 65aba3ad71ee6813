"""How far drift alarms can be trusted on a user's own reference: how often they are false, and what they see.

All is measured on the reference of one bundle, by the panel and the watch as they judge windows:

- **false alarms**: it is cut into stretches of a span's length; half of them, at random, become a reference, the others
  are judged against it as one device's spans; again and again;
- **run length**: a watch with limits simulated on one half sees streams of the other half until it alarms, over
  several halves;
- **power**: spans of the held-out half with a shift of known size: items drawn so that one class or one cluster comes
  more often, or unusual inputs do, or the mean embedding moved (in the unit in which verdicts show their effect);
- **smallest shift**: the move that is seen in a day with ``SEEN`` chance, by one device and by a group.

Pure: the seed is an argument. Half a reference knows less than the whole: all figures are on the careful side. It is
past 400 lines with the sentences that say it all, which change as the figures do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from edgewise_hub.monitoring.drift import panel, run_length
from edgewise_hub.monitoring.drift.baseline import HORIZONS, SHARE, WATCHED, Baseline
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.strata import MIN_ITEMS, Stratum
from edgewise_hub.monitoring.drift.summary import Counts, Summary
from edgewise_hub.monitoring.drift.watch import Watch

ALPHA = 0.05
"""Where false alarms are counted: often enough to be measured."""
SPLITS = 8
POWER_DRAWS = 40
SEEN = 0.8
PROMISE = 100
"""Steps between false alarms that the run length is measured at."""
HALVES = 4
STREAMS = 16
"""Streams of each half."""
STREAM_STEPS = 400
KEPT = 0.7
"""Share of the promised run length below which the promise is broken."""
MOVES = (0.1, 0.2, 0.3, 0.5, 0.8, 1.2)
FACTORS = (1.5, 2.0, 3.0, 5.0)
SHARES = (0.05, 0.1, 0.2, 0.4)
UNUSUAL = 0.9
"""Unusual inputs are those beyond this quantile of the reference's distances."""
BLOCKS = 40
"""Blocks that a reference has at least, to know how its items depend on each other."""

Rows = npt.NDArray[np.intp]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Rate:
    """``alarms`` in ``trials``, and the 95% interval of their rate (Clopper and Pearson, 1934)."""

    alarms: int
    trials: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Power:
    """Share of spans of ``n`` items in which a shift of ``size`` raised the alarm, at the policy's ``alpha``."""

    shift: str
    size: float
    n: int
    power: float


@dataclass(frozen=True)
class Smallest:
    """The smallest move of the mean embedding seen with ``SEEN`` chance in a day of ``per_day`` items, of which ``n``
    are judged; None: none of those tried."""

    who: str
    per_day: int
    n: int
    size: float | None


@dataclass(frozen=True)
class Calibration:
    """``m``: items of the reference; ``block``: how far they depend on those before; ``independent``: so many drawn
    alone would know as much; ``level_low`` to ``level_high``: where the true rate of false alarms lies at ``ALPHA``, as
    well as they tell; ``span``: items of the spans that were judged. ``false_alarms`` at ``ALPHA``. ``run_length``:
    steps between false alarms where ``promise`` is due, of ``alarms``, with its 95% interval; None where nothing is
    watched. ``horizon``: spans that a watch looks back over; ``horizon_needed``: items of a reference that lets it look
    back over all that it can. ``needed``: items that the promise asks of the reference. ``words``: all of it, in
    sentences."""

    m: int
    block: int
    independent: int
    level_low: float
    level_high: float
    span: int
    alpha: float
    false_alarms: Rate | None
    promise: int
    run_length: float | None
    run_length_low: float | None
    run_length_high: float | None
    alarms: int
    horizon: int
    horizon_needed: int
    power: tuple[Power, ...]
    smallest: tuple[Smallest, ...]
    needed: int
    enough: bool
    words: tuple[str, ...]


def calibrate(
    reference: Reference,
    policy: Policy,
    per_day: dict[str, int],
    *,
    seed: int,
    progress: Progress,
    splits: int = SPLITS,
    draws: int = POWER_DRAWS,
) -> Calibration:
    """``per_day``: items a day, by who is watched (``device``, ``group``). ``splits`` of the reference, and ``draws``
    of each shift: more are more precise, and take longer."""
    rng = np.random.default_rng(seed)
    span = max(MIN_ITEMS, min(policy.min_n, reference.m // (2 * SHARE)))
    needed = max(SHARE * policy.min_n, BLOCKS * reference.block)
    whole = Baseline(reference, seed)
    independent, (level_low, level_high) = whole.independent, whole.level(ALPHA, span, float(span))
    horizon = run_length.allowed(HORIZONS, policy.min_n, reference.m)[-1]
    horizon_needed = run_length.needed(HORIZONS[-1], policy.min_n)
    if reference.m < 4 * SHARE * MIN_ITEMS:
        needed = max(needed, 4 * SHARE * MIN_ITEMS)
        words = (_too_small(reference.m, needed),)
        return Calibration(
            reference.m, reference.block, independent, level_low, level_high, span, policy.alpha, None, PROMISE, None,
            None, None, 0, horizon, horizon_needed, (), (), needed, False, words,
        )  # fmt: skip
    false_alarms = _false_alarms(reference, policy, span, splits, rng, progress)
    progress(0.45, "run length")
    steps, alarms = _run_length(reference, span, rng)
    low, high = _poisson(steps, alarms)
    progress(0.6, "power")
    powers, smallest = _powers(reference, policy, span, per_day, draws, rng, progress)
    kept = false_alarms.low <= 1.5 * ALPHA and (high is None or high >= KEPT * PROMISE)
    enough = reference.m >= needed and kept
    if not kept:  # the reference's own error, 1/m of the variance, is too large
        needed = max(needed, 2 * reference.m)
    found = Calibration(
        reference.m, reference.block, independent, level_low, level_high, span, policy.alpha, false_alarms, PROMISE,
        steps / max(alarms, 1) if steps else None, low, high, alarms, horizon, horizon_needed, powers, smallest,
        needed, enough, (),
    )  # fmt: skip
    progress(1.0, "calibrated")
    return dataclasses.replace(found, words=_words(found))


def take(reference: Reference, rows: Rows) -> Reference:
    """Some items of a reference, in the order of ``rows``."""
    arrays = {one.name: getattr(reference, one.name) for one in dataclasses.fields(reference)}
    kept: dict[str, Any] = {name: array[rows] for name, array in arrays.items() if isinstance(array, np.ndarray)}
    return dataclasses.replace(reference, **kept, m=len(rows))


def summarize(reference: Reference, rows: Rows, move: npt.NDArray[np.float64] | None = None) -> Summary:
    """What a device's window over these items would add up to. ``move`` [D] is added to each item's features."""
    nothing: Counts = np.zeros(0, dtype=np.int64)
    part = take(reference, rows)

    def counted(values: npt.NDArray[np.integer] | None, name: str) -> Counts:
        return nothing if values is None else np.bincount(values, minlength=reference.sizes[name])

    def places(values: npt.NDArray[np.integer] | None, name: str) -> Counts:
        return nothing if values is None else np.stack([counted(column, name) for column in values.T])

    total = nothing if part.features is None else part.features.sum(axis=0, dtype=np.int64)
    if move is not None:
        total = total + np.rint(len(rows) * reference.scale * move).astype(np.int64)
    return Summary(
        n=len(rows),
        n_embedding=len(rows) if part.features is not None else 0,
        total=total,
        classes=part.class_counts if part.classes is not None else nothing,
        confidence=part.bin_counts if part.confidence is not None else nothing,
        distances=counted(part.distances, "distances"),
        cells=counted(part.cells, "cells"),
        features=places(part.feature_places, "feature_places"),
        categories=places(part.category_places, "category_places"),
    )


def _halves(m: int, span: int, rng: np.random.Generator) -> tuple[Rows, list[Rows]]:
    """Stretches of ``span`` items in two halves at random: the items of one, in order; the stretches of the other."""
    first = int(rng.integers(span))
    stretches = [np.arange(at, at + span) for at in range(first, m - span + 1, span)]
    order = rng.permutation(len(stretches))
    kept = np.sort(order[: len(stretches) // 2])
    return np.concatenate([stretches[i] for i in kept]), [stretches[i] for i in order[len(stretches) // 2 :]]


def _judge(seen: Summary, held: Baseline, run: float, policy: Policy, rng: np.random.Generator) -> bool:
    return panel.judge([Stratum("b", 1, held, seen, run)], None, policy, rng).alarm


def _false_alarms(
    reference: Reference, policy: Policy, span: int, splits: int, rng: np.random.Generator, progress: Progress
) -> Rate:
    at = dataclasses.replace(policy, alpha=ALPHA)
    alarms = trials = 0
    for split in range(splits):
        progress(0.45 * split / splits, f"false alarms, split {split + 1} of {splits}")
        kept, others = _halves(reference.m, span, rng)
        held = Baseline(take(reference, kept), int(rng.integers(2**31)))
        for rows in others:
            alarms += _judge(summarize(reference, rows), held, float(span), at, rng)
            trials += 1
    return _rate(alarms, trials)


def _run_length(reference: Reference, span: int, rng: np.random.Generator) -> tuple[int, int]:
    """(steps watched, alarms raised); nothing where nothing is watched.

    The other half stands for the truth and is none: its mean is as uncertain as the reference's, so that the two differ
    by twice the variance. What they differ by is brought back to the reference's own.
    """
    steps = alarms = 0
    if reference.features is None and reference.classes is None and reference.confidence is None:
        return steps, alarms
    rows = reference.watched()
    for _ in range(HALVES):
        kept, others = _halves(reference.m, span, rng)
        half = take(reference, kept)
        length = min(half.block, span)
        horizons = run_length.allowed(HORIZONS, span, half.m)
        limits = run_length.simulate(
            half.watched(), n=min(WATCHED, span), length=length, horizons=horizons, promise=PROMISE, rng=rng
        )
        metric = half.watched_metric
        white = metric.whiten(rows - metric.mean.astype(np.float32))
        blocks = np.stack(
            [white[at : at + length].sum(axis=0) for stretch in others for at in _starts(stretch, length)]
        )
        blocks -= (1 - math.sqrt(0.5)) * blocks.mean(axis=0)
        taken = max(1, round(span / length))
        for _ in range(STREAMS):
            watch = Watch(white.shape[1], HORIZONS)
            for _ in range(STREAM_STEPS):
                steps += 1
                total = blocks[rng.integers(len(blocks), size=taken)].sum(axis=0)
                watch.step({"device": (taken * length, total)})
                reading = watch.read(limits, half.m)
                if reading is not None and reading.alarm:
                    alarms += 1
                    break
    return steps, alarms


def _poisson(steps: int, alarms: int) -> tuple[float | None, float | None]:
    """The 95% interval of the steps an alarm (Garwood, 1936); None where it has no bound."""
    if not steps:
        return None, None
    high = float(2 * steps / stats.chi2.ppf(0.025, 2 * alarms)) if alarms else None
    return float(2 * steps / stats.chi2.ppf(0.975, 2 * alarms + 2)), high


def _starts(rows: Rows, length: int) -> range:
    """Where blocks of ``length`` begin in a stretch."""
    return range(int(rows[0]), int(rows[-1]) - length + 2, length)


def _powers(
    reference: Reference,
    policy: Policy,
    span: int,
    per_day: dict[str, int],
    draws: int,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[tuple[Power, ...], tuple[Smallest, ...]]:
    kept, others = _halves(reference.m, span, rng)
    held, pool = Baseline(take(reference, kept), int(rng.integers(2**31))), np.concatenate(others)

    def power(draw: Callable[[], Summary]) -> float:
        return sum(_judge(draw(), held, 1.0, policy, rng) for _ in range(draws)) / draws

    found = []
    weights = _weights(reference, pool)
    for number, (shift, size, weight) in enumerate(weights):
        progress(0.6 + 0.2 * number / max(len(weights), 1), f"power: {shift}")
        seen = power(lambda weight=weight: summarize(reference, rng.choice(pool, span, p=weight)))  # type: ignore[misc]
        found.append(Power(shift, size, span, seen))
    smallest = []
    if reference.features is not None:
        factor, width = held.reference.metric.factor, reference.features.shape[1]
        for number, (who, daily) in enumerate(per_day.items()):
            progress(0.8 + 0.2 * number / len(per_day), f"power: a day of a {who}")
            n = max(MIN_ITEMS, min(daily, held.limit))

            def moved(size: float, n: int = n) -> Summary:
                direction = rng.normal(size=width)
                move = factor @ (direction / np.linalg.norm(direction)) * size
                return summarize(reference, rng.choice(pool, n), move)

            curve = [
                Power(f"embedding moved, a day of a {who}", size, n, power(lambda size=size: moved(size)))  # type: ignore[misc]
                for size in MOVES
            ]
            found += curve
            smallest.append(Smallest(who, daily, n, _crossing([(one.size, one.power) for one in curve])))
    return tuple(found), tuple(smallest)


def _weights(reference: Reference, pool: Rows) -> list[tuple[str, float, npt.NDArray[np.float64]]]:
    """(shift, size, chance of each item of the pool [k]): the commonest class or cluster comes more often, or unusual
    inputs are a larger share."""
    found = []
    for name, values in (("class", reference.classes), ("cluster", reference.cells)):
        if values is None:
            continue
        here = values[pool]
        often = np.bincount(here).argmax()
        for factor in FACTORS:
            weight = np.where(here == often, factor, 1.0)
            found.append((f"one {name} more often", factor, weight / weight.sum()))
    if reference.distances is not None:
        rank = reference.distances[pool]
        far = rank >= np.quantile(rank, UNUSUAL)
        if 0 < far.mean() < 1:
            for share in SHARES:
                share = share + (1 - share) * far.mean()
                weight = np.where(far, share / far.sum(), (1 - share) / (~far).sum())
                found.append(("unusual inputs, share", round(float(share), 3), weight))
    return found


def _crossing(curve: list[tuple[float, float]]) -> float | None:
    """The size where power reaches ``SEEN``, between the sizes tried, on a logarithmic scale; None: beyond them."""
    before: tuple[float, float] | None = None
    for size, power in curve:
        if power >= SEEN:
            if before is None or power == before[1]:
                return size
            part = (SEEN - before[1]) / (power - before[1])
            return round(math.exp(math.log(before[0]) + part * (math.log(size) - math.log(before[0]))), 3)
        before = (size, power)
    return None


def _rate(alarms: int, trials: int) -> Rate:
    low = float(stats.beta.ppf(0.025, alarms, trials - alarms + 1)) if alarms else 0.0
    high = float(stats.beta.ppf(0.975, alarms + 1, trials - alarms)) if alarms < trials else 1.0
    return Rate(alarms, trials, alarms / trials, low, high)


def _too_small(m: int, needed: int) -> str:
    return f"The reference is too small for the promise: it has {m} items, and {needed} are needed."


def _alarms(found: Calibration) -> str:
    count = "1 alarm" if found.alarms == 1 else f"{found.alarms} alarms"
    if found.run_length_low is None or found.run_length_high is None:
        return count
    return f"{count}; 95% interval {found.run_length_low:.0f} to {found.run_length_high:.0f}"


def _words(found: Calibration) -> tuple[str, ...]:
    said = []
    if found.false_alarms is not None:
        rate = found.false_alarms
        said.append(
            f"Of {rate.trials} spans of the reference where nothing drifted, {rate.alarms} raised an alarm at {ALPHA}: "
            f"{rate.rate:.1%} (95% interval {rate.low:.1%} to {rate.high:.1%})."
        )
    if found.independent < found.m:
        said.append(
            f"Its {found.m} items depend on each other and know as much as {found.independent} drawn alone: an alarm "
            f"at {ALPHA} is false in {found.level_low:.1%} to {found.level_high:.1%}, as well as they tell."
        )
    if found.run_length is not None:
        said.append(
            f"A watch that promises {found.promise} steps between false alarms had {found.run_length:.0f} "
            f"({_alarms(found)})."
        )
        if found.m < found.horizon_needed:
            spans = "one span" if found.horizon == 1 else f"{found.horizon} spans"
            said.append(
                f"It looks back over {spans} at most: for {HORIZONS[-1]} the reference needs {found.horizon_needed} "
                "items, and slow drift is seen later without."
            )
    for one in found.smallest:
        seen = "none of the moves tried" if one.size is None else f"a move of {one.size:.2f}"
        said.append(
            f"In a day a {one.who} ({one.per_day} items, {one.n} judged) shows {seen} with {SEEN:.0%} chance, "
            f"at a false-alarm rate of {found.alpha:g} a judgement."
        )
    if not found.enough:
        said.append(_too_small(found.m, found.needed))
    return tuple(said)
