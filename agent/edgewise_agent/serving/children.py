"""The serve children of one agent: the one that serves, a candidate beside it, and those that are leaving.

Rules that hold here:
- a predecessor leaves only when its successor listens, so that no request finds nobody;
- a child that is silent for ``HANG_S`` (``START_S`` until its first word) is ended, and is then as dead as one that
  crashed;
- a child that leaves has ``DRAIN_S`` to answer what is in flight and to give its last windows away;
- a child that takes far more memory than it may is ended; one that has grown a little past it is told of;
- without a model there is no process: ``idle`` answers.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgewise_agent.reconcile import Child
from edgewise_agent.serving.allowance import Allowance, has_grown, is_too_much
from edgewise_agent.serving.answers import forget
from edgewise_agent.serving.channel import FromChild, Heartbeat, Listening, Load, Ready, Serve, ServeModel
from edgewise_agent.serving.idle import IdleServer
from edgewise_agent.serving.options import Options
from edgewise_agent.serving.process import ServeProcess, Serving
from edgewise_agent.trial import HANG_S

log = logging.getLogger(__name__)

DRAIN_S = 15.0
START_S = 60.0
"""Until its first word: a busy small board takes its time to start Python."""
Role = Literal["serving", "candidate", "leaving"]
Said = Callable[[Serving, FromChild | None], None]


@dataclass
class Running:
    """A serve child that lives. Times are monotonic seconds."""

    process: Serving
    heard_at: float
    started: bool = False
    """Has it said anything yet?"""
    changes: str | None = None
    """The place whose bundle is new in this child."""
    ready: bool = False
    served_since: float | None = None
    leave_by: float | None = None
    repairable: set[str] = field(default_factory=set)
    runtimes: list[str] = field(default_factory=list)
    allowed: int | None = None
    """Bytes that it may take."""
    rss: int = 0
    rss_least: int = 0
    """With its models loaded; loading itself may take more for a moment."""

    def observed(self) -> Child:
        """For ``reconcile``."""
        grown = has_grown(self.rss, self.rss_least, self.allowed)
        return Child(self.process.bundles, self.ready, self.served_since, frozenset(self.repairable), grown)


class Children:
    """Starts them, knows each one's role, and hands the traffic over."""

    def __init__(
        self,
        blobs: Path,
        listeners: Sequence[socket.socket],
        said: Said,
        options: Options | None = None,
        device: str = "",
        answers: Path | None = None,
        allowed: Allowance | None = None,
    ) -> None:
        """``device``: our name; ``answers``: the folder in which answers are remembered."""
        self._blobs, self._listeners, self._said, self._device = blobs, listeners, said, device
        self._options, self._answers, self._allowed = options or Options(), answers, allowed or Allowance()
        self.serving: Running | None = None
        self.candidate: Running | None = None
        self.leaving: list[Running] = []

    def start(self, models: list[ServeModel], now: float) -> None:
        """Start the child that serves."""
        self.serving = self._spawn(models, now)

    def prepare(self, models: list[ServeModel], changes: str | None, now: float) -> None:
        """Start a candidate."""
        self.candidate = self._spawn(models, now)
        self.candidate.changes = changes

    def abandon(self, now: float) -> Running | None:
        """Let the candidate go."""
        gone, self.candidate = self.candidate, None
        if gone is not None:
            self.leaving.append(gone)
            self._leave(gone, now)
        return gone

    def take_over(self) -> None:
        """The candidate serves; its predecessor leaves as soon as the candidate listens."""
        if self.serving is not None:
            self.leaving.append(self.serving)
        self.serving, self.candidate = self.candidate, None
        if self.serving is not None:
            self.serving.process.send(Serve())

    def role(self, process: Serving) -> tuple[Role, Running] | None:
        """Who is this? None for one that is gone."""
        if self.serving is not None and self.serving.process is process:
            return "serving", self.serving
        if self.candidate is not None and self.candidate.process is process:
            return "candidate", self.candidate
        return next((("leaving", child) for child in self.leaving if child.process is process), None)

    def heard(self, process: Serving, message: FromChild, now: float) -> None:
        """Keep what a message says of its child."""
        found = self.role(process)
        if found is None:
            return
        role, child = found
        child.heard_at, child.started = now, True
        match message:
            case Ready(runtimes=runtimes, rss=rss):
                child.ready, child.runtimes, child.rss_least = True, runtimes, rss
                if role == "serving":
                    process.send(Serve())
            case Listening():
                child.served_since = now
                for other in self.leaving:
                    self._leave(other, now)
            case Heartbeat(rss=rss):
                child.rss = rss
                if child.ready:
                    child.rss_least = min(rss, child.rss_least)

    def gone(self, process: Serving) -> tuple[Role, Running] | None:
        """A child's channel closed: forget it; who was it?"""
        found = self.role(process)
        if found is None:
            return None
        role, child = found
        if role == "serving":
            self.serving = None
        elif role == "candidate":
            self.candidate = None
        else:
            self.leaving.remove(child)
        return found

    def check(self, now: float) -> None:
        """End those that are silent, or that do not leave; their closed channels report it."""
        for child in (self.serving, self.candidate, *self.leaving):
            if child is None:
                continue
            late = child.leave_by is not None and now >= child.leave_by
            large = child.rss_least > 0 and is_too_much(child.rss, child.rss_least, child.allowed)
            if late or large or now - child.heard_at >= (HANG_S if child.started else START_S):
                child.process.kill()

    def forget(self, kept: Collection[str]) -> None:
        """Remove the answers of models that are not ``kept``."""
        if self._answers is not None:
            try:
                forget(self._answers, kept)
            except OSError as error:  # it is tried again when something else has changed
                log.warning("%s: %s", self._answers, error.strerror)

    def stop(self, now: float) -> None:
        """All leave."""
        self.abandon(now)
        if self.serving is not None:
            self.leaving.append(self.serving)
            self.serving = None
        for child in self.leaving:
            self._leave(child, now)

    def _spawn(self, models: list[ServeModel], now: float) -> Running:
        if not models and self._options.grpc_port is None:
            return Running(IdleServer(self._listeners, self._options, self._said), heard_at=now)
        load = Load(
            blobs=str(self._blobs),
            answers=None if self._answers is None else str(self._answers),
            device=self._device,
            models=models,
            options=self._options,
            threads=self._allowed.threads,
        )
        process = ServeProcess(load, self._listeners, self._said)
        return Running(process, heard_at=now, allowed=self._allowed.bytes(len(process.bundles)))

    def _leave(self, child: Running, now: float) -> None:
        if child.leave_by is None:
            child.leave_by = now + DRAIN_S
            child.process.drain()
