"""How messages of one stream become one while the hub is away: which may, and their sums. No numpy.

Rules that hold here:
- windows merge only within one (model, version, bundle, duty, spec), experiments within one and its versions;
- a merged span reaches from the first start to the last end, and its time is as uncertain as the least certain of them;
- where the time is not known yet (``times``), the same holds of its marks; where it never will be, it begins at the
  first's start and lasts as long as all together. Known, marked and unknown times never mix, nor marks of two starts of
  the system, so one wrong clock cannot stretch a window over years;
- every count is a sum, so the order does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire import experiment, health, sums
from edgewise.wire.codec import decode_msgpack, encode_msgpack
from edgewise.wire.experiment import Experiment
from edgewise.wire.health import Health
from edgewise.wire.spans import Span
from edgewise.wire.windows import MAX_FEATURES, Counters, Window
from edgewise_agent.windows.times import Mark, mark_of, marked

S = TypeVar("S", bound=Span)


class Times(NamedTuple):
    """``Span``'s times, and its mark."""

    start: float
    duration: float
    uncertainty: float | None
    mark: Mark | None = None


def union(a: Times, b: Times) -> Times:
    """Both spans as one, by the rules above; ``a`` is the older."""
    if a.mark is not None and b.mark is not None:
        end = max(a.mark.steady, b.mark.steady)
        begin = min(a.mark.steady - a.duration, b.mark.steady - b.duration)
        return Times(a.start, end - begin, None, Mark(a.mark.boot, end))
    if a.uncertainty is None or b.uncertainty is None:
        return Times(a.start, a.duration + b.duration, None)
    start = min(a.start, b.start)
    end = max(a.start + a.duration, b.start + b.duration)
    return Times(start, end - start, max(a.uncertainty, b.uncertainty))


@dataclass(frozen=True)
class SpanMerging(Generic[S]):
    """``Merging`` of a spool whose messages are of ``kind``. ``same``: what must be equal; ``add``: the older one with
    the content of both, raising EdgewiseError where they are too much for one."""

    kind: type[S]
    same: Callable[[S], Hashable]
    add: Callable[[S, S], S]

    def key(self, data: bytes) -> Hashable:
        """None for what cannot be read."""
        try:
            message = decode_msgpack(data, self.kind)
        except EdgewiseError:
            return None
        mark = mark_of(data)
        return (message.uncertainty is None, None if mark is None else mark.boot, self.same(message))

    def merge(self, older: bytes, newer: bytes) -> bytes | None:
        """None where the two are too much for one message."""
        try:
            a, b = decode_msgpack(older, self.kind), decode_msgpack(newer, self.kind)
            start, duration, uncertainty, mark = union(_times(a, mark_of(older)), _times(b, mark_of(newer)))
            both = msgspec.structs.replace(self.add(a, b), start=start, duration=duration, uncertainty=uncertainty)
            data = encode_msgpack(both)
            decode_msgpack(data, self.kind)  # a sum may be past what its field can hold
            return data if mark is None else marked(data, mark)
        except EdgewiseError:
            return None


def _times(span: Span, mark: Mark | None) -> Times:
    return Times(span.start, span.duration, span.uncertainty, mark)


def _add_windows(a: Window, b: Window) -> Window:
    counters = Counter(msgspec.structs.asdict(a.counters))
    counters.update(msgspec.structs.asdict(b.counters))
    quality = {
        problem: _largest(a.quality.get(problem, {}), b.quality.get(problem, {}))
        for problem in sorted({*a.quality, *b.quality})
    }
    return msgspec.structs.replace(
        a, counters=Counters(**counters), sketches=sums.add(a.sketches, b.sketches), quality=quality
    )


def _largest(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """Of the features of both, those with the most items, as many as a window has room for."""
    both = Counter(a)
    both.update(b)
    return dict(sorted(both.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_FEATURES])


def _same_window(window: Window) -> Hashable:
    return (window.model, window.version, window.bundle, window.duty, window.spec)


def _same_experiment(message: Experiment) -> Hashable:
    versions = tuple(sorted(message.versions.items()))
    return (message.model, message.experiment, message.kind, versions)


def _add_experiments(a: Experiment, b: Experiment) -> Experiment:
    return msgspec.structs.replace(a, sums=experiment.merge(a.sums, b.sums))


def _add_health(a: Health, b: Health) -> Health:
    return msgspec.structs.replace(
        a, gauges=health.add_gauges(a.gauges, b.gauges), totals=health.add_totals(a.totals, b.totals)
    )


WINDOWS: SpanMerging[Any] = SpanMerging(Window, _same_window, _add_windows)
EXPERIMENTS: SpanMerging[Any] = SpanMerging(Experiment, _same_experiment, _add_experiments)
HEALTH: SpanMerging[Any] = SpanMerging(Health, lambda _health: "health", _add_health)
