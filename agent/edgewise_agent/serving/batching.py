"""Dynamic batching: requests that come at the same time are run as one. A ``Runtime`` around a runtime; off by default.

The first request of a batch waits ``wait_s`` for others, or until the batch is full, runs all of them, and hands each
its own part. It pays where a model is faster by the batch than one by one, and costs the first request its wait.

Rules that hold here:
- only requests of the same inputs, dtypes and shapes but for the first axis share a batch, and only where every input
  and output has a batch axis: a state or a scalar belongs to one request alone;
- a request with as many items as a batch may hold runs at once, alone;
- what one request's part would have been alone it is here, so far as the model keeps items apart; where the batch
  fails, each of its requests is run alone, and only the one that is at fault fails.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from edgewise.bundle import Tensor
from edgewise_agent.runtimes import Arrays, Runtime, RuntimeFailure

_Key = tuple[tuple[str, object, tuple[int, ...]], ...]


@dataclass
class _Batch:
    """Requests that are run together. ``full``: no more are taken."""

    parts: list[Arrays] = field(default_factory=list)
    items: int = 0
    full: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    outputs: list[Arrays | RuntimeFailure] = field(default_factory=list)


class BatchingRuntime:
    """``infer`` blocks its thread until its batch has run: as many threads as items may share one."""

    def __init__(self, runtime: Runtime, items: int, wait_s: float) -> None:
        """``items``: of a batch at most; ``wait_s``: how long its first request waits."""
        self._runtime, self._items, self._wait_s = runtime, items, wait_s
        inputs, outputs = runtime.describe()
        self._may = all(tensor.shape[:1] == [-1] for tensor in (*inputs, *outputs))
        self._open: dict[_Key, _Batch] = {}
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Of the runtime inside."""
        return self._runtime.version

    def describe(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of the runtime inside."""
        return self._runtime.describe()

    def infer(self, inputs: Arrays) -> Arrays:
        """Run with others. Raises RuntimeFailure."""
        sizes = {array.shape[0] for array in inputs.values() if array.ndim}
        if not self._may or len(sizes) != 1 or (items := sizes.pop()) >= self._items:
            return self._runtime.infer(inputs)
        key = tuple((name, array.dtype, array.shape[1:]) for name, array in sorted(inputs.items()))
        with self._lock:
            batch = self._open.get(key)
            if batch is None or batch.items + items > self._items:
                if batch is not None:
                    self._close(key, batch)
                batch = self._open[key] = _Batch()
            place = len(batch.parts)
            batch.parts.append(inputs)
            batch.items += items
            if batch.items == self._items:
                self._close(key, batch)
        if place == 0:
            self._lead(key, batch)
        else:
            batch.done.wait()
        mine = batch.outputs[place]
        if isinstance(mine, RuntimeFailure):
            raise mine
        return mine

    def _close(self, key: _Key, batch: _Batch) -> None:
        if self._open.get(key) is batch:
            del self._open[key]
        batch.full.set()

    def _lead(self, key: _Key, batch: _Batch) -> None:
        """As the batch's first request: wait for others, and run."""
        batch.full.wait(self._wait_s)
        with self._lock:
            self._close(key, batch)
        try:
            batch.outputs = self._run(batch.parts)
        finally:
            if len(batch.outputs) < len(batch.parts):  # a mistake of ours, which the first request raises
                failure = RuntimeFailure("the batch that this request was in failed")
                batch.outputs = [failure] * len(batch.parts)
            batch.done.set()

    def _run(self, parts: list[Arrays]) -> list[Arrays | RuntimeFailure]:
        if len(parts) > 1:
            try:
                return list(self._together(parts))
            except RuntimeFailure:
                pass  # one of them is at fault: each alone, below
        return [self._alone(part) for part in parts]

    def _together(self, parts: list[Arrays]) -> list[Arrays]:
        whole: Arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        outputs = self._runtime.infer(whole)
        ends = np.cumsum([len(next(iter(part.values()))) for part in parts]).tolist()
        if any(len(array) != ends[-1] for array in outputs.values()):
            raise RuntimeFailure(f"the model gave other than {ends[-1]} items for a batch of {ends[-1]}")
        return [
            {name: array[begin:end].copy() for name, array in outputs.items()}
            for begin, end in zip([0, *ends], ends, strict=False)
        ]

    def _alone(self, part: Arrays) -> Arrays | RuntimeFailure:
        try:
            return self._runtime.infer(part)
        except RuntimeFailure as failure:
            return failure
