"""One window of one install, as it fills: counters and sketches. Safe for several threads; clocks are passed in.

A window closes ``window_s`` after it began (monotonic); one in which nothing happened is not reported.

Sketches are sums: what comes request by request is kept, at most ``MAX_PENDING`` requests of it, and added to them as
one batch, which is several times cheaper than one by one and gives the same numbers.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from edgewise.privacy import rho_of
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.sketch.privacy import add_noise
from edgewise.wire.windows import Counters
from edgewise_agent.serving.channel import WindowClosed
from edgewise_agent.serving.options import Privacy

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.floating]
Counter = Literal["errors", "refused", "nonfinite_inputs", "nonfinite_outputs", "repeated", "unknown"]

below = random.SystemRandom().randrange
"""What noise is drawn with."""
MAX_PENDING = 128
MAX_PENDING_BYTES = 256 * 1024


def rho_of_window(privacy: Privacy) -> float | None:
    """What the noise of one window may cost; None: there is none."""
    return rho_of(privacy.epsilon, privacy.delta) if privacy.epsilon else None


class Answered(NamedTuple):
    """One request that was answered: scores [items, classes], embeddings [items, d], and the inputs with features."""

    latency_s: float
    scores: Floats | None
    embeddings: Floats | None
    inputs: Mapping[str, Array]

    @property
    def nbytes(self) -> int:
        """Of all arrays."""
        scores = 0 if self.scores is None else self.scores.nbytes
        embeddings = 0 if self.embeddings is None else self.embeddings.nbytes
        return scores + embeddings + sum(array.nbytes for array in self.inputs.values())


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
        privacy: Privacy | None = None,
    ) -> None:
        self.window_s = window_s
        self._model, self._version, self._bundle = model, version, bundle
        self._spec, self._spec_digest, self._projection = spec, spec_digest, projection
        self._tabular = {one.input for one in spec.features} | {one.input for one in spec.categories}
        self._rho = None if privacy is None else rho_of_window(privacy)
        self._lock = threading.Lock()
        self._begin(now, clock)

    def _begin(self, now: float, clock: float) -> None:
        self._began, self._start = now, clock
        self._counts: dict[str, int] = dict.fromkeys(Counters.__struct_fields__, 0)
        self._sketches = WindowSketches(self._spec, self._projection)
        self._pending: list[Answered] = []
        self._pending_bytes = 0
        self._busy_s = 0.0

    def record(
        self,
        items: int,
        out_of_bounds: int,
        latency_s: float,
        scores: Array | None,
        embeddings: Array | None,
        inputs: Mapping[str, Array] | None = None,
    ) -> None:
        """A request that was answered: ``items`` in its batch, scores [items, classes], embeddings [items, d], inputs
        by name, [items, ...] each where they have features."""
        kept = {} if inputs is None else {name: inputs[name] for name in self._tabular}
        answered = Answered(latency_s, _floating(scores), _floating(embeddings), kept)
        with self._lock:
            self._counts["inferences"] += items
            self._counts["out_of_bounds"] += out_of_bounds
            self._pending.append(answered)
            self._pending_bytes += answered.nbytes
            if len(self._pending) >= MAX_PENDING or self._pending_bytes >= MAX_PENDING_BYTES:
                self._flush()

    def refused(self, inputs: Mapping[str, Array]) -> None:
        """Inputs that fit the signature and were not run, NaN among them: their features are counted all the same."""
        if self._tabular:
            with self._lock:
                self._sketches.update(inputs=inputs)

    def count(self, what: Counter, items: int = 1) -> None:
        """Items that were not answered, and why; labels that count nowhere."""
        with self._lock:
            self._counts[what] += items

    def label(self, label: int, prediction: int | None) -> None:
        """A label came for an earlier answer."""
        with self._lock:
            self._counts["labelled"] += 1
            self._counts["correct"] += int(label == prediction)
            if self._sketches.labels is not None and prediction is not None:
                known = label if 0 <= label < self._sketches.labels.classes else -1  # may be more than an int64
                self._sketches.labels.update(np.array([known]), np.array([prediction]))

    def _flush(self) -> None:
        """Add what is pending to the sketches, as one batch."""
        if not self._pending:
            return
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        self._busy_s += sum(answered.latency_s for answered in pending)
        self._sketches.update(
            [answered.latency_s for answered in pending],
            _joined([answered.scores for answered in pending]),
            _joined([answered.embeddings for answered in pending]),
            _joined_inputs([answered.inputs for answered in pending if answered.inputs]),
        )

    def open_s(self, now: float) -> float:
        """Seconds that the present window has been open."""
        return now - self._began

    def poll(self, now: float, clock: float, *, last: bool = False) -> WindowClosed | None:
        """The window, if it is over (or is the ``last``) and not empty; the next one begins then."""
        with self._lock:
            if now - self._began < self.window_s and not last:
                return None
            self._flush()
            cost = 0.0 if self._rho is None else add_noise(self._sketches.parts, self._rho, below)
            closed = WindowClosed(
                model=self._model,
                version=self._version,
                bundle=self._bundle,
                spec=self._spec_digest,
                start=self._start,
                duration=now - self._began,
                counters=Counters(**self._counts),
                sketches=self._sketches.encode(),
                busy_s=self._busy_s,
                rho=cost,
            )
            empty = not any(self._counts.values())
            self._begin(now, clock)
            return None if empty else closed


def _joined(arrays: Sequence[Floats | None]) -> Floats | None:
    """What is there, as one batch; None where nothing is."""
    there = [array for array in arrays if array is not None]
    return np.concatenate(there) if there else None


def _joined_inputs(batches: Sequence[Mapping[str, Array]]) -> Mapping[str, Array] | None:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]} if batches else None


def _floating(array: Array | None) -> Floats | None:
    if array is None:
        return None
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)  # type: ignore[return-value]
