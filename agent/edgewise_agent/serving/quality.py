"""Does a request fit the model, and does it look right? Pure but for its counts; the window's are the collector's.

In order: the inputs are those of the signature; dtype and shape fit (else ``refused``); every value is finite (else
``nonfinite_inputs``); values outside the range of the reference are answered, and counted by item. What happens to an
input that fits and does not look right is the policy's word (``options.Quality``).

Rules that hold here:
- a request that is in order costs one minimum and one maximum an input: NaN and infinity show in them;
- counts are by feature: of an input [-1, n] with n up to ``MAX_FEATURES`` by column, of others by input;
- in an input of features, NaN says that the feature is missing.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgewise.bundle import Bounds, Manifest, Tensor
from edgewise.errors import EdgewiseError
from edgewise_agent.runtimes import Arrays
from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_agent.serving.options import Policy, Quality

MAX_FEATURES = 256
TOP = 16
"""Features that ``Checker.worst`` names."""
Problem = Literal["out_of_bounds", "not_finite", "missing", "unknown_inputs", "dropped_inputs", "wrong_shape"]
Rows = npt.NDArray[np.bool_]


class InputRefused(EdgewiseError):
    """A request that is not run. ``count``: the counter of the window that it belongs to; ``items``: how many."""

    code = "input-refused"

    def __init__(self, message: str, count: Literal["refused", "nonfinite_inputs"], items: int = 1) -> None:
        super().__init__(message)
        self.count, self.items = count, items


@dataclass(frozen=True)
class Checked:
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
    bounds: Bounds | None


class Checker:
    """Checks the requests of one model, and counts what was wrong by feature. Safe for several threads."""

    def __init__(self, manifest: Manifest, policy: Quality | None = None) -> None:
        self._policy = policy or Quality()
        self._inputs = [_expected(tensor, manifest.bounds.get(tensor.name)) for tensor in manifest.inputs]
        self._names = {one.name for one in self._inputs}
        self._counts: dict[tuple[str, Problem], npt.NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def check(self, inputs: Arrays) -> Checked:
        """Raises InputRefused."""
        flags: list[str] = []
        if inputs.keys() != self._names:
            inputs = self._same_names(inputs, flags)
        items = self._items(inputs)
        nonfinite = outside = None
        for one in self._inputs:
            array = inputs[one.name]
            if not array.size or not (one.floating or one.bounds):
                continue
            low, high = float(array.min()), float(array.max())
            if one.floating and not (math.isfinite(low) and math.isfinite(high)):
                nonfinite = _either(nonfinite, self._not_finite(one, array, items, flags))
            if one.bounds and not (low >= one.bounds.low and high <= one.bounds.high):
                outside = _either(outside, self._outside(one, one.bounds, array, items, flags))
        if nonfinite is None and outside is None:
            return Checked(inputs, items, flags=tuple(flags))
        return Checked(inputs, items, _count(outside), _count(nonfinite), tuple(dict.fromkeys(flags)))

    def worst(self) -> dict[str, dict[str, int]]:
        """The features with the most problems, at most ``TOP``: problem -> feature -> how often since the start."""
        with self._lock:
            counted = [
                (int(values[i]), problem, name if len(values) == 1 else f"{name}[{i}]")
                for (name, problem), values in self._counts.items()
                for i in np.flatnonzero(values)
            ]
        worst: dict[str, dict[str, int]] = {}
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
                self._add(one.name, "wrong_shape")
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
        kinds: list[tuple[Problem, Rows, Policy]] = [
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

    def _outside(
        self, one: _Input, bounds: Bounds, array: npt.NDArray[np.generic], items: int, flags: list[str]
    ) -> Rows:
        """Items with a value outside the bounds; NaN is not outside. Raises InputRefused by policy."""
        where = (array < bounds.low) | (array > bounds.high)  # type: ignore[operator]
        rows = _rows(one, where, items)
        if rows.any():
            self._add(one.name, "out_of_bounds", _by_feature(one, where, items))
            if self._policy.out_of_bounds == "refuse":
                raise InputRefused(
                    f"input {one.name}: expected values from {bounds.low:g} to {bounds.high:g}", "refused", _count(rows)
                )
            self._follow("out_of_bounds", self._policy.out_of_bounds, one.name, flags)
        return rows

    def _follow(self, problem: Problem, policy: Policy, name: str, flags: list[str]) -> None:
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
    return _Input(tensor.name, tensor.datatype, dtype, shape, shape[:1] == (-1,), dtype.kind == "f", features, bounds)


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
