"""One window of one install, as it fills: counters and sketches. Safe for several threads; clocks are passed in.

A window closes ``window_s`` after it began (monotonic); one in which nothing happened is not reported.

Sketches are sums: what comes request by request is kept, at most ``MAX_PENDING`` requests of it, and added to them as
one batch, which is several times cheaper than one by one and gives the same numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.wire.windows import Counters
from edgewise_agent.serving.channel import WindowClosed

Array = npt.NDArray[np.generic]
Counter = Literal["errors", "refused", "nonfinite_inputs", "nonfinite_outputs", "repeated", "unknown"]


MAX_PENDING = 32
MAX_PENDING_BYTES = 256 * 1024
Pending = tuple["npt.NDArray[np.floating] | None", "npt.NDArray[np.floating] | None"]


class Collector:
    """Fills one window after the other. ``now`` is monotonic seconds, ``clock`` Unix seconds."""

    def __init__(
        self,
        *,
        model: str,
        version: int,
        bundle: str,
        spec: SketchSpec,
        spec_digest: str,
        projection: npt.NDArray[np.float32] | None,
        window_s: float,
        now: float,
        clock: float,
    ) -> None:
        self.window_s = window_s
        self._model, self._version, self._bundle = model, version, bundle
        self._spec, self._spec_digest, self._projection = spec, spec_digest, projection
        self._lock = threading.Lock()
        self._begin(now, clock)

    def _begin(self, now: float, clock: float) -> None:
        self._began, self._start = now, clock
        self._counts: dict[str, int] = dict.fromkeys(Counters.__struct_fields__, 0)
        self._sketches = WindowSketches(self._spec, self._projection)
        self._pending: list[Pending] = []
        self._pending_bytes = 0

    def record(
        self, items: int, out_of_bounds: int, latency_s: float, scores: Array | None, embeddings: Array | None
    ) -> None:
        """A request that was answered: ``items`` in its batch, scores [items, classes], embeddings [items, d]."""
        with self._lock:
            self._counts["inferences"] += items
            self._counts["out_of_bounds"] += out_of_bounds
            self._sketches.latency.update(latency_s)
            self._pending.append((_floating(scores), _floating(embeddings)))
            self._pending_bytes += sum(array.nbytes for array in (scores, embeddings) if array is not None)
            if len(self._pending) >= MAX_PENDING or self._pending_bytes >= MAX_PENDING_BYTES:
                self._flush()

    def count(self, what: Counter, items: int = 1) -> None:
        """Items that were not answered, and why; labels that count nowhere."""
        with self._lock:
            self._counts[what] += items

    def label(self, correct: bool) -> None:
        """A label came for an earlier answer."""
        with self._lock:
            self._counts["labelled"] += 1
            self._counts["correct"] += int(correct)

    def _flush(self) -> None:
        """Add what is pending to the sketches."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        scores = _joined(scores for scores, _ in pending)
        embeddings = _joined(embeddings for _, embeddings in pending)
        if scores is not None and self._sketches.classes:
            self._sketches.classes.update(scores)
        if scores is not None and self._sketches.confidence:
            self._sketches.confidence.update(scores)
        if embeddings is not None and self._sketches.embedding:
            self._sketches.embedding.update(embeddings)

    def poll(self, now: float, clock: float, *, last: bool = False) -> WindowClosed | None:
        """The window, if it is over (or is the ``last``) and not empty; the next one begins then."""
        with self._lock:
            if now - self._began < self.window_s and not last:
                return None
            self._flush()
            closed = WindowClosed(
                model=self._model,
                version=self._version,
                bundle=self._bundle,
                spec=self._spec_digest,
                start=self._start,
                duration=now - self._began,
                counters=Counters(**self._counts),
                sketches=self._sketches.encode(),
            )
            empty = not any(self._counts.values())
            self._begin(now, clock)
            return None if empty else closed


def _joined(arrays: Iterable[npt.NDArray[np.floating] | None]) -> npt.NDArray[np.floating] | None:
    """What is there, as one batch; None where nothing is."""
    there = [array for array in arrays if array is not None]
    return np.concatenate(there) if there else None


def _floating(array: Array | None) -> npt.NDArray[np.floating] | None:
    if array is None:
        return None
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)  # type: ignore[return-value]
