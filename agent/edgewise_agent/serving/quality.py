"""Does a request fit the model, and does it look right? Pure but for its counts; the window's are the collector's.

In order: the inputs are those of the signature; dtype and shape fit (else ``refused``); every value is finite (else
``nonfinite_inputs``); values outside the range of the reference are answered, and counted by item. What happens to an
input that fits and does not look right is the policy's word (``wire.quality``).

Rules that hold here:
- a request that is in order costs one minimum and one maximum an input: NaN and infinity show in them (and, of an
  input whose features have ranges of their own, two comparisons);
- counts are by feature: of an input [-1, n] with n up to ``MAX_FEATURES`` by column, of others by input;
- in an input of features, NaN says that the feature is missing.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgewise.bundle import Bounds, Manifest, Tensor
from edgewise.errors import EdgewiseError
from edgewise.wire.quality import Quality, Rule, decided
from edgewise.wire.windows import Problem
from edgewise_agent.runtimes import Arrays
from edgewise_agent.runtimes.tensors import NUMPY

MAX_FEATURES = 256
TOP = 16
"""Features that ``Checker.take`` names."""
Rows = npt.NDArray[np.bool_]


class InputRefused(EdgewiseError):
    """A request that is not run. ``count``: the counter of the window that it belongs to; ``items``: how many."""

    code = "input-refused"

    def __init__(self, message: str, count: Literal["refused", "nonfinite_inputs"], items: int = 1) -> None:
        super().__init__(message)
        self.count, self.items = count, items


class Checked(msgspec.Struct, frozen=True):
    """A request that may run. ``inputs``: those that the model takes; ``flags``: what its answer says of them."""

    inputs: Arrays
    items: int
    out_of_bounds: int = 0
    nonfinite: int = 0
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Input:
    name: str
    datatype: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    batched: bool
    floating: bool
    features: int
    by_feature: bool
    """Has each feature a range of its own?"""
    low: npt.NDArray[np.float64] | float | None
    """The least that is in bounds, of each feature or of all; None: nothing is out of bounds."""
    high: npt.NDArray[np.float64] | float | None


class Checker:
    """Checks the requests of one model, and counts what was wrong by feature. Safe for several threads."""

    def __init__(self, manifest: Manifest, policy: Quality | None = None) -> None:
        self.policy = policy or Quality()
        self._inputs = [_expected(tensor, manifest.bounds.get(tensor.name)) for tensor in manifest.inputs]
        self._names = {one.name for one in self._inputs}
        self._counts: dict[tuple[str, Problem], npt.NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    @property
    def policy(self) -> Quality:
        """A rule for each problem."""
        return self._policy

    @policy.setter
    def policy(self, policy: Quality) -> None:
        self._policy = decided(policy)

    def check(self, inputs: Arrays) -> Checked:
        """Raises InputRefused."""
        flags: list[str] = []
        if inputs.keys() != self._names:
            inputs = self._same_names(inputs, flags)
        items = self._items(inputs)
        nonfinite = outside = None
        for one in self._inputs:
            array = inputs[one.name]
            if not array.size or not (one.floating or one.low is not None):
                continue
            finite, inside = _at_a_glance(one, array)
            if one.floating and not finite:
                nonfinite = _either(nonfinite, self._not_finite(one, array, items, flags))
            if not inside:
                outside = _either(outside, self._outside(one, array, items, flags))
        if nonfinite is None and outside is None:
            return Checked(inputs, items, flags=tuple(flags))
        return Checked(inputs, items, _count(outside), _count(nonfinite), tuple(dict.fromkeys(flags)))

    def take(self) -> dict[Problem, dict[str, int]]:
        """The features with the most problems, at most ``TOP``: problem -> feature -> items, since the last call."""
        with self._lock:
            counts, self._counts = self._counts, {}
        counted = [
            (int(values[i]), problem, name if len(values) == 1 else f"{name}[{i}]")
            for (name, problem), values in counts.items()
            for i in np.flatnonzero(values)
        ]
        worst: dict[Problem, dict[str, int]] = {}
        for times, problem, feature in sorted(counted, reverse=True)[:TOP]:
            worst.setdefault(problem, {})[feature] = times
        return worst

    def _same_names(self, inputs: Arrays, flags: list[str]) -> Arrays:
        dropped, unknown = self._names - inputs.keys(), inputs.keys() - self._names
        for name in dropped:
            self._add(name, "dropped_inputs")
        if unknown:
            self._add("others", "unknown_inputs")
        if dropped or self._policy.unknown_inputs == "refuse":
            expected, got = sorted(self._names), sorted(name[:64] for name in inputs)
            raise InputRefused(f"inputs: expected {expected}, got {got}", "refused")
        self._follow("unknown_inputs", self._policy.unknown_inputs, sorted(unknown)[0][:64], flags)
        return {name: inputs[name] for name in self._names}

    def _items(self, inputs: Arrays) -> int:
        """The batch size; 1 where no input has a batch axis."""
        sizes: set[int] = set()
        for one in self._inputs:
            array = inputs[one.name]
            shape = array.shape
            if len(shape) != len(one.shape) or any(
                want not in (-1, got) for want, got in zip(one.shape, shape, strict=True)
            ):
                self._add(one.name, "wrong_shape")
                raise InputRefused(f"input {one.name}: expected shape {list(one.shape)}, got {list(shape)}", "refused")
            if array.dtype != one.dtype:
                self._add(one.name, "wrong_dtype")
                raise InputRefused(f"input {one.name}: expected {one.datatype}, got {array.dtype}", "refused")
            if one.batched:
                sizes.add(shape[0])
        if len(sizes) > 1 or 0 in sizes:
            raise InputRefused(f"inputs: expected one batch size above zero, got {sorted(sizes)}", "refused")
        return sizes.pop() if sizes else 1

    def _not_finite(self, one: _Input, array: npt.NDArray[np.generic], items: int, flags: list[str]) -> Rows:
        """Items with NaN or infinity in this input. Raises InputRefused by policy."""
        missing = np.isnan(array) if one.features else np.zeros(array.shape, np.bool_)
        broken = ~np.isfinite(array) & ~missing
        rows = _rows(one, missing | broken, items)
        kinds: list[tuple[Problem, Rows, Rule | None]] = [
            ("missing", missing, self._policy.missing),
            ("not_finite", broken, self._policy.not_finite),
        ]
        for problem, where, policy in kinds:
            if where.any():
                self._add(one.name, problem, _by_feature(one, where, items))
                if policy == "refuse":
                    raise InputRefused(
                        f"input {one.name}: expected finite values, got NaN or infinity",
                        "nonfinite_inputs",
                        _count(rows),
                    )
                self._follow(problem, policy, one.name, flags)
        return rows

    def _outside(self, one: _Input, array: npt.NDArray[np.generic], items: int, flags: list[str]) -> Rows:
        """Items with a value outside the bounds; NaN is not outside. Raises InputRefused by policy."""
        where = (array < one.low) | (array > one.high)  # type: ignore[operator]
        rows = _rows(one, where, items)
        if rows.any():
            self._add(one.name, "out_of_bounds", _by_feature(one, where, items))
            if self._policy.out_of_bounds == "refuse":
                raise InputRefused(_expected_values(one, where), "refused", _count(rows))
            self._follow("out_of_bounds", self._policy.out_of_bounds, one.name, flags)
        return rows

    def _follow(self, problem: Problem, policy: Rule | None, name: str, flags: list[str]) -> None:
        if policy == "flag":
            flags.append(f"{problem}: {name}")

    def _add(self, name: str, problem: Problem, counts: npt.NDArray[np.int64] | None = None) -> None:
        more = np.ones(1, np.int64) if counts is None else counts
        with self._lock:
            self._counts[name, problem] = self._counts.get((name, problem), np.int64(0)) + more


def _expected(tensor: Tensor, bounds: Bounds | None) -> _Input:
    dtype: np.dtype[np.generic] = np.dtype(NUMPY[tensor.datatype])
    shape = tuple(tensor.shape)
    features = shape[1] if len(shape) == 2 and shape[0] == -1 and 0 < shape[1] <= MAX_FEATURES else 0
    low: npt.NDArray[np.float64] | float | None = None if bounds is None else bounds.low
    high: npt.NDArray[np.float64] | float | None = None if bounds is None else bounds.high
    by_feature = bounds is not None and features > 0 and len(bounds.features) == features
    if bounds is not None and by_feature:
        low, high = np.array(bounds.features, dtype=np.float64).T
    return _Input(
        tensor.name,
        tensor.datatype,
        dtype,
        shape,
        shape[:1] == (-1,),
        dtype.kind == "f",
        features,
        by_feature,
        low,
        high,
    )


def _at_a_glance(one: _Input, array: npt.NDArray[np.generic]) -> tuple[bool, bool]:
    """Is every value finite? Is every value in bounds? By the least and the greatest ones."""
    if one.by_feature:
        lows, highs = array.min(axis=0), array.max(axis=0)
        inside = bool(((lows >= one.low) & (highs <= one.high)).all())
        return inside or bool(np.isfinite(lows).all() and np.isfinite(highs).all()), inside
    low, high = float(np.minimum.reduce(array, axis=None)), float(np.maximum.reduce(array, axis=None))
    inside = one.low is None or one.high is None or bool(low >= one.low and high <= one.high)
    return math.isfinite(low) and math.isfinite(high), inside


def _expected_values(one: _Input, where: Rows) -> str:
    if not one.by_feature:
        return f"input {one.name}: expected values from {one.low:g} to {one.high:g}"
    feature = int(np.flatnonzero(where.any(axis=0))[0])
    low, high = (float(np.broadcast_to(bound, where.shape[1:])[feature]) for bound in (one.low, one.high))  # type: ignore[arg-type]
    return f"input {one.name}[{feature}]: expected values from {low:g} to {high:g}"


def _rows(one: _Input, where: Rows, items: int) -> Rows:
    """Which items it concerns: all of them where the input belongs to the whole request."""
    if one.batched:
        rows: Rows = np.any(where.reshape(items, -1), axis=1)
        return rows
    return np.full(items, where.any())


def _by_feature(one: _Input, where: Rows, items: int) -> npt.NDArray[np.int64]:
    """How many items it concerns, by feature."""
    if one.features:
        counts: npt.NDArray[np.int64] = where.sum(axis=0, dtype=np.int64)
        return counts
    return np.array([_rows(one, where, items).sum()], dtype=np.int64)


def _either(first: Rows | None, second: Rows) -> Rows:
    return second if first is None else first | second


def _count(rows: Rows | None) -> int:
    return 0 if rows is None else int(rows.sum())
