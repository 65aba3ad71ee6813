"""Labels and clicks that come later, by request id, and whom they speak of.

Rules that hold here:
- a label counts for the version that answered, in a window of that version, and for its arm in the experiment of that
  time; where that window is over by now it is ``late``, and goes with its like into a window of their own, which lies
  where the answers were given: by a clock that nobody sets, as far as the system was not started anew;
- the first label of an item counts; another one is ``repeated``, and one of an item that is not remembered ``unknown``;
- an install that did not answer (a shadow, the other one of an interleaving) is labelled with the one that did; a
  label that comes before a shadow ran waits for it;
- clicks on an interleaved ranking are settled ``settle_s`` after the first one of the request: who has more has won.
"""

from __future__ import annotations

import math
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgewise.sketch.base import Sketch
from edgewise.sketch.labels import LabelSketch
from edgewise.sketch.privacy import add_noise
from edgewise.wire.windows import Counters
from edgewise_agent.clock import boot_tag, steady_clock
from edgewise_agent.serving.answers import Answers, key_of
from edgewise_agent.serving.channel import ExperimentClosed, WindowClosed
from edgewise_agent.serving.options import Privacy
from edgewise_agent.serving.routing.interleave import MAX_ITEMS, Draft, winner
from edgewise_agent.serving.routing.record import Experiment, Records
from edgewise_agent.serving.sources import Source, Sources
from edgewise_agent.windows.collector import below, rho_of_window

MAX_ANSWERS = 16_384
MAX_DRAFTS = 1_024
MAX_INPUT_BYTES = 16 * 1024 * 1024
APART = "\0"
"""What the name of an answer that did not go out begins with."""
_ANSWER = struct.Struct("<8sifBId")
"""Source, prediction, confidence, was it labelled; which start of the system, and when by its steady clock."""
_DRAFT = struct.Struct(f"<8sHBd{MAX_ITEMS // 8}s{MAX_ITEMS // 8}s")
Counted = Literal["counted", "repeated", "unknown"]


@dataclass(frozen=True)
class Labelled:
    """What became of a label. ``fresh``: it belongs into the present window of the install that is active now;
    ``prediction``: what was said."""

    counted: Counted
    fresh: bool = False
    prediction: int | None = None


class _Late:
    """Labels that came late for one install's answers. ``first``, ``last``: when these were given (steady clock)."""

    def __init__(self, classes: int | None) -> None:
        self.labels = LabelSketch(classes) if classes else None
        self.labelled = self.correct = 0
        self.first, self.last = math.inf, -math.inf

    def add(self, prediction: int, label: int, at: float) -> None:
        """One more."""
        self.labelled += 1
        self.correct += int(prediction == label)
        self.first, self.last = min(self.first, at), max(self.last, at)
        if self.labels is not None and prediction >= 0:
            known = label if 0 <= label < self.labels.classes else -1  # may be more than an int64
            self.labels.update(np.array([known]), np.array([prediction]))


class Feedback:
    """Of one model, whichever of its installs answered. For several threads."""

    def __init__(
        self,
        model: str,
        folder: Path | None = None,
        items: int = MAX_ANSWERS,
        privacy: Privacy | None = None,
        steady: Callable[[], float] = steady_clock,
        boot: int | None = None,
    ) -> None:
        """``folder``: where it outlives this process; None: nowhere. ``items``: answers that are remembered.
        ``boot``: which start of the system ``steady`` counts from (``clock.boot_tag``)."""
        self._model = model
        self._rho = None if privacy is None else rho_of_window(privacy)
        self._steady, self._boot = steady, boot_tag() if boot is None else boot
        self.records = Records()
        self.sources = Sources(None if folder is None else folder / f"{model}.json")
        self._answers = Answers(None if folder is None else folder / f"{model}.answers", items, _ANSWER.size)
        self._folder = folder
        self._drafts: Answers | None = None
        self._clicked: dict[bytes, float] = {}
        """Drafts with clicks, by their keys -> Unix seconds of the first."""
        self._late: dict[tuple[bytes, bool], _Late] = {}
        """By the key of the source, and whether it is known when the answers were given."""
        self._expected: dict[str, dict[str, int]] = {}
        """Requests that a shadow will see -> labels of their items that came before."""
        self._began = time.monotonic()
        self._lock = threading.Lock()
        if folder is not None and (folder / f"{model}.drafts").exists():
            self._open_drafts()

    def answered(self, source: bytes, name: str, prediction: int, confidence: float) -> None:
        """Remember what the source (its key) said of an item; -1 where it gives no class."""
        self._answers.put(name, _ANSWER.pack(source, prediction, confidence, 0, self._boot, self._steady()))

    def label(self, name: str, label: int, active: str, open_s: float) -> Labelled:
        """An item's label. ``active``: the bundle that is active now; ``open_s``: how old its present window is."""
        found = self._label(name, label, active, open_s)
        apart = self._label(APART + name, label, active, open_s)
        if found.counted == "counted" and apart.counted == "unknown" and not self._hold(name, label):
            self._label(APART + name, label, active, open_s)  # it ran meanwhile, or never will
        return found if found.counted != "unknown" else Labelled(apart.counted)

    def expect(self, request: str) -> None:
        """A shadow will see this request, or will not after all: ``seen`` tells."""
        with self._lock:
            self._expected.setdefault(request, {})

    def seen(self, request: str) -> None:
        """The shadow has seen it, or never will: the labels that waited count, where it gave an answer."""
        with self._lock:
            waited = self._expected.pop(request, {})
        for name, label in waited.items():
            self._label(APART + name, label, "", 0.0)

    def expect_none(self) -> None:
        """There is no shadow any more."""
        with self._lock:
            self._expected.clear()

    def _hold(self, name: str, label: int) -> bool:
        """Keep the label for the shadow; False where it will not see the request of this item."""
        with self._lock:
            waiting = self._expected.get(name, self._expected.get(name.rpartition("/")[0]))
            if waiting is not None:
                waiting.setdefault(name, label)
            return waiting is not None

    def _label(self, name: str, label: int, active: str, open_s: float) -> Labelled:
        with self._lock:
            data = self._answers.get(name)
            if data is None:
                return Labelled("unknown")
            key, prediction, confidence, labelled, boot, at = _ANSWER.unpack(data)
            source = self.sources.get(key)
            if source is None:
                return Labelled("unknown")
            if labelled:
                return Labelled("repeated")
            self._answers.put(name, _ANSWER.pack(key, prediction, confidence, 1, boot, at))
            is_known = boot == self._boot
            fresh = source.bundle == active and is_known and self._steady() - at <= open_s
            if source.role == "active" and not fresh:
                if (key, is_known) not in self._late:
                    self._late[key, is_known] = _Late(source.classes)
                self._late[key, is_known].add(prediction, label, at)
        if source.experiment is not None and prediction >= 0:
            recorder = self.records.of(source.experiment, time.monotonic(), time.time())
            recorder.labelled(source.role, prediction, confidence, label)
        return Labelled("counted", source.role == "active" and fresh, prediction if prediction >= 0 else None)

    # Clicks

    def drafted(self, source: bytes, name: str, draft: Draft) -> None:
        """Remember which items of a request are whose. ``source``: the key of the active one."""
        teams = _bits(item for item, team in zip(draft.items, draft.teams, strict=True) if team == "candidate")
        with self._lock:
            self._open_drafts().put(name, _DRAFT.pack(source, len(draft.items), 0, 0.0, teams, bytes(MAX_ITEMS // 8)))

    def clicked(self, name: str, items: Sequence[int]) -> Counted:
        """Items of a ranking that were clicked, by their places in the output; each counts once.

        Raises ValueError for an item that the ranking does not have.
        """
        with self._lock:
            drafts, key = self._open_drafts(), key_of(name)
            data = drafts.get_key(key)
            if data is None:
                return "unknown"
            source, count, settled, first, teams, clicked = _DRAFT.unpack(data)
            if any(not 0 <= item < count for item in items):
                raise ValueError(f"clicks: expected items 0..{count - 1}, got {list(items)[:8]}")
            both = int.from_bytes(clicked, "little") | int.from_bytes(_bits(items), "little")
            more = both & ~int.from_bytes(clicked, "little")
            if settled or not more:
                return "repeated"
            first = first or time.time()
            self._clicked.setdefault(key, first)
            both_bytes = both.to_bytes(MAX_ITEMS // 8, "little")
            drafts.put_key(key, _DRAFT.pack(source, count, 0, first, teams, both_bytes))
        theirs = int.from_bytes(teams, "little")
        self._credit(source, (more & ~theirs).bit_count(), (more & theirs).bit_count(), settled=False)
        return "counted"

    def _open_drafts(self) -> Answers:
        if self._drafts is None:
            path = None if self._folder is None else self._folder / f"{self._model}.drafts"
            self._drafts = Answers(path, MAX_DRAFTS, _DRAFT.size)
            for key, data in self._drafts:  # of a process before this one
                _, _, settled, first, _, _ = _DRAFT.unpack(data)
                if first and not settled:
                    self._clicked[key] = first
        return self._drafts

    def _settle(self, before: float) -> None:
        """Say who won the requests whose first click came before (Unix seconds)."""
        settled = []
        with self._lock:
            for key, at in list(self._clicked.items()):
                if at > before:
                    continue
                del self._clicked[key]
                data = self._open_drafts().get_key(key)
                if data is None or (fields := _DRAFT.unpack(data))[2]:
                    continue
                source, count, _, first, teams, clicked = fields
                self._open_drafts().put_key(key, _DRAFT.pack(source, count, 1, first, teams, clicked))
                theirs, all_ = int.from_bytes(teams, "little"), int.from_bytes(clicked, "little")
                settled.append((source, (all_ & ~theirs).bit_count(), (all_ & theirs).bit_count()))
        for source, active, candidate in settled:
            self._credit(source, active, candidate, settled=True)

    def _credit(self, key: bytes, active: int, candidate: int, *, settled: bool) -> None:
        source = self.sources.get(key)
        if source is None or source.experiment is None:
            return
        recorder = self.records.of(source.experiment, time.monotonic(), time.time())
        if not settled:
            recorder.count("active", clicks=active)
            recorder.count("candidate", clicks=candidate)
        elif (team := winner(active, candidate)) is None:
            recorder.count("ties", ties=1)
        else:
            recorder.count(team, wins=1)

    # Windows

    def poll(
        self, current: Experiment | None, now: float, clock: float, window_s: float, *, last: bool = False
    ) -> list[ExperimentClosed | WindowClosed]:
        """What is to be reported: windows of experiments, and of labels that came late."""
        self._settle(clock if last else clock - window_s)
        closed: list[ExperimentClosed | WindowClosed] = []
        closed += self.records.poll(self._model, current, now, clock, window_s, last=last)
        with self._lock:
            if last or now - self._began >= window_s:
                late, self._late = self._late, {}
                self._began = now
                closed += [
                    self._late_window(source, labels, clock, is_known=is_known)
                    for (key, is_known), labels in late.items()
                    if (source := self.sources.get(key)) is not None
                ]
        return closed

    def _late_window(self, source: Source, late: _Late, clock: float, *, is_known: bool) -> WindowClosed:
        """Where it is not known when the answers were given, it is not said how long ago that was."""
        ended_s = max(self._steady() - late.last, 0.0) if is_known else None
        duration = late.last - late.first if is_known else 0.0
        sketches: dict[str, Sketch] = {} if late.labels is None or late.labels.empty else {"labels": late.labels}
        cost = 0.0 if self._rho is None else add_noise(sketches, self._rho, below)
        return WindowClosed(
            model=self._model,
            version=source.version,
            bundle=source.bundle,
            spec=source.spec,
            start=clock - (ended_s or 0.0) - duration,
            duration=duration,
            counters=Counters(labelled=late.labelled, correct=late.correct, late=late.labelled),
            sketches={name: sketch.encode() for name, sketch in sketches.items()},
            ended_s=ended_s,
            rho=cost,
        )


class Inputs:
    """The raw inputs of the last requests, in memory, while samples are wanted: bounded by bytes, the oldest goes."""

    def __init__(self, max_bytes: int = MAX_INPUT_BYTES) -> None:
        self._inputs: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes, self._max_bytes = 0, max_bytes
        self._lock = threading.Lock()

    def keep(self, name: str, at: float, data: bytes) -> None:
        """Keep one. ``at``: Unix seconds."""
        with self._lock:
            self._drop(name)
            self._inputs[name] = at, data
            self._bytes += len(data)
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._inputs)))

    def take(self, name: str) -> tuple[float, bytes] | None:
        """One, which is not kept any longer."""
        with self._lock:
            found = self._inputs.get(name)
            self._drop(name)
            return found

    def forget(self) -> None:
        """Keep none."""
        with self._lock:
            self._inputs.clear()
            self._bytes = 0

    def _drop(self, name: str) -> None:
        found = self._inputs.pop(name, None)
        self._bytes -= 0 if found is None else len(found[1])


def _bits(items: Iterable[int]) -> bytes:
    """A bit for each item."""
    value = 0
    for item in items:
        value |= 1 << item
    return value.to_bytes(MAX_ITEMS // 8, "little")
