"""Which install of the agent starts: the one that pip put there (``base``), or slot ``a`` or ``b``. Pure.

Rules that hold here:
- a new release is on trial in the slot that is not active, until the agent in it confirms: it served, and reached its
  hub;
- each start of a trial is counted, durably and before it, so that one that takes the board down with it counts too; at
  the MAX_STARTS-th crash, or when it was not confirmed in time, the active install is started again, for good;
- a confirmed slot that crashes at once, again and again, gives way to ``base`` until the launcher is started anew.

Imports nothing but the standard library: it must work whatever is in the slots.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

FILE = "agent/slots.json"
SLOT_VARIABLE = "EDGEWISE_AGENT_SLOT"
"""Set by ``edgewise_agent.launch`` for the agent that it starts: the slot that it runs from. Not for owners."""
RESTART = 75
"""Exit status of an agent that asks the launcher to start what ``slots.json`` now says."""
BASE = "base"
MAX_STARTS = 3
MAX_FAST_CRASHES = 5
FAST_S = 60.0


@dataclass(frozen=True)
class Release:
    """A release of the agent: its bundle, version and release number."""

    bundle: str
    version: int
    release: int


@dataclass(frozen=True)
class Trial:
    """``within_s``: it must be confirmed so many seconds after each start."""

    slot: str
    within_s: float
    starts: int = 0


@dataclass(frozen=True)
class Failed:
    """A release that did not come through; the agent tells the hub, and then forgets it here."""

    bundle: str
    code: str
    reason: str


@dataclass(frozen=True)
class Slots:
    """The content of ``slots.json``. ``holds``: slot -> what is unpacked in it."""

    active: str = BASE
    trial: Trial | None = None
    holds: tuple[tuple[str, Release], ...] = ()
    failed: Failed | None = None

    def release(self, slot: str) -> Release | None:
        """What a slot holds."""
        return dict(self.holds).get(slot)

    @property
    def free(self) -> str:
        """The slot that a new release is unpacked into."""
        return "b" if self.active == "a" else "a"


def load(data: Path) -> Slots:
    """From the data folder; a file that is not ours means the base install. Raises OSError when it cannot be read."""
    try:
        content = json.loads((data / FILE).read_bytes())
        return Slots(
            active=str(content["active"]),
            trial=Trial(**content["trial"]) if content["trial"] else None,
            holds=tuple((str(slot), Release(**release)) for slot, release in content["holds"]),
            failed=Failed(**content["failed"]) if content["failed"] else None,
        )
    except FileNotFoundError:
        return Slots()
    except (ValueError, TypeError, KeyError):
        return Slots()


def encode(slots: Slots) -> bytes:
    """As it is on disk."""
    return json.dumps(asdict(slots), indent=1).encode()


def clear(slots: Slots) -> Slots:
    """Before the free slot is written: it holds nothing."""
    return replace(slots, holds=tuple(kept for kept in slots.holds if kept[0] != slots.free))


def stage(slots: Slots, release: Release, within_s: float) -> Slots:
    """``release`` is whole in the free slot: its trial begins with the next start."""
    slot = slots.free
    return replace(clear(slots), trial=Trial(slot, within_s), holds=(*clear(slots).holds, (slot, release)), failed=None)


def count_start(slots: Slots) -> Slots:
    """Before each start: one more of the trial, or its end after too many."""
    if slots.trial is None:
        return slots
    if slots.trial.starts >= MAX_STARTS:
        return fail(slots, "crash-loop", f"it was started {MAX_STARTS} times and never confirmed")
    return replace(slots, trial=replace(slots.trial, starts=slots.trial.starts + 1))


def fail(slots: Slots, code: str, reason: str) -> Slots:
    """The trial is over, badly: the active install is started again."""
    assert slots.trial is not None
    release = slots.release(slots.trial.slot)
    return replace(slots, trial=None, failed=Failed(release.bundle if release else "0" * 64, code, reason))


def confirm(slots: Slots) -> Slots:
    """The trial is over, well."""
    assert slots.trial is not None
    return replace(slots, active=slots.trial.slot, trial=None)


def leave(slots: Slots) -> Slots:
    """No release is wished for any more: what pip installed is started again."""
    return replace(slots, active=BASE, trial=None)


def starts(slots: Slots, fast_crashes: int) -> str:
    """The slot to start now."""
    if slots.trial is not None:
        return slots.trial.slot
    return BASE if fast_crashes >= MAX_FAST_CRASHES else slots.active
