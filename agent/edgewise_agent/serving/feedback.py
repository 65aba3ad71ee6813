"""The last requests by id, so that a label that comes later finds its prediction (and, if asked for, its input).

Bounded by number and, for the inputs, by bytes: the oldest goes first. A batch's items are ``id/0``, ``id/1``...
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

MAX_REQUESTS = 10_000
MAX_INPUT_BYTES = 16 * 1024 * 1024


@dataclass
class Answered:
    """One item that was answered. ``input``: its raw bytes while sampling is on, single-item requests only."""

    prediction: int | None
    at: float
    input: bytes | None = None
    labelled: bool = False


class Requests:
    """Requests of one model by id. Safe to use from several threads."""

    def __init__(self, max_requests: int = MAX_REQUESTS, max_input_bytes: int = MAX_INPUT_BYTES) -> None:
        self._answered: OrderedDict[str, Answered] = OrderedDict()
        self._inputs: OrderedDict[str, int] = OrderedDict()
        self._max_requests, self._max_input_bytes = max_requests, max_input_bytes
        self._input_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._answered)

    def add(self, request: str, answered: Answered) -> None:
        """Remember one; an id that is used again names the later request."""
        with self._lock:
            self._forget_input(request)
            self._answered.pop(request, None)
            self._answered[request] = answered
            if answered.input is not None:
                self._inputs[request] = len(answered.input)
                self._input_bytes += len(answered.input)
            while len(self._answered) > self._max_requests:
                oldest = next(iter(self._answered))
                self._forget_input(oldest)
                del self._answered[oldest]
            while self._input_bytes > self._max_input_bytes:
                self._forget_input(next(iter(self._inputs)))

    def label(self, request: str) -> tuple[Answered, bytes | None] | None:
        """The item and the input to sample, when this is its first label; None for an unknown id.

        A second label of the same id changes nothing: ``labelled`` is already true then.
        """
        with self._lock:
            answered = self._answered.get(request)
            if answered is None:
                return None
            known = Answered(answered.prediction, answered.at, None, answered.labelled)
            data = answered.input
            self._forget_input(request)
            answered.labelled = True
            return known, data

    def forget_inputs(self) -> None:
        """Sampling is off: keep no raw input any longer."""
        with self._lock:
            for request in list(self._inputs):
                self._forget_input(request)

    def _forget_input(self, request: str) -> None:
        self._input_bytes -= self._inputs.pop(request, 0)
        if request in self._answered:
            self._answered[request].input = None
