"""The agent's side of its own update: decides (``decide`` is pure), unpacks, confirms, and says so in ``reported``."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec

from edgewise.bundle import Manifest
from edgewise.wire.control import Desired, Duty
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk
from edgewise_agent.store.installs import Duties, Install, ModelDuty
from edgewise_agent.update import AGENT, slots, wheels
from edgewise_agent.update.slots import Release, Slots

log = logging.getLogger(__name__)

DEFAULT_TRIAL_S = 60.0
"""Of a release that is on trial and not wished for any more."""
CONFIRM_WITHIN_S = 600.0
"""A release that did not reach its hub and serve for so long is given up (or ten trials, where those are longer)."""

Step = Literal["nothing", "stage", "confirm", "refuse", "leave"]


def decide(
    kept: Slots,
    running: str | None,
    wish: Duty | None,
    *,
    whole: bool,
    failed: bool,
    taken_back: bool,
    healthy_s: float,
    trial_s: float,
) -> Step:
    """``running``: the slot that we run from (None: nobody launched us); ``healthy_s``: seconds that we have been
    connected and serving; ``whole``: the wished bundle is in the store; ``failed``: it failed in this generation;
    ``taken_back``: a desired state is in force that wishes for no release (the first one's rollout was aborted)."""
    if kept.trial is not None:
        if running == kept.trial.slot:
            return "confirm" if healthy_s >= trial_s else "nothing"
        return "nothing"
    if taken_back and running is not None and running != slots.BASE:
        return "leave"
    if wish is None or failed:
        return "nothing"
    if running is None:
        return "refuse"
    now = kept.release(running)
    if now is not None and now.bundle == wish.bundle:
        return "nothing"
    return "stage" if whole else "nothing"


class OwnUpdate:
    """``slots.json`` and the slots, of the agent that runs."""

    def __init__(self, disk: Disk, data: Path, blobs: BlobStore, environment: Mapping[str, str] = os.environ) -> None:
        self._disk, self._data, self._blobs = disk, data, blobs
        self.running = environment.get(slots.SLOT_VARIABLE)
        self.slots = slots.load(data)

    @staticmethod
    def wish(desired: Desired | None) -> Duty | None:
        """The release that is wished for."""
        model = desired.models.get(AGENT) if desired is not None else None
        return model.duties.get("active") if model is not None else None

    def stage(self, duty: Duty, manifest: Manifest, trial_s: float) -> None:
        """Unpack a whole bundle into the free slot; its trial is the next start. Raises BadWheel, DiskError."""
        release = Release(duty.bundle, duty.version, duty.release)
        self._save(slots.clear(self.slots))
        paths = [self._blobs.path(blob.sha256) for _, blob in sorted(manifest.blobs.items())]
        wheels.unpack(self._disk, paths, self._data / "agent" / self.slots.free)
        self._save(slots.stage(self.slots, release, max(CONFIRM_WITHIN_S, 10 * trial_s)))
        log.info("agent release %d is staged in slot %s", release.version, self.slots.trial and self.slots.trial.slot)

    def confirm(self) -> Release | None:
        """We serve, and reached the hub: this slot is the one to start from now on. Raises DiskError."""
        self._save(slots.confirm(self.slots))
        return self.slots.release(self.slots.active)

    def leave(self) -> None:
        """The base install is the one to start from now on. Raises DiskError."""
        self._save(slots.leave(self.slots))
        log.info("no release of the agent is wished for: back to the base install")

    def failure_told(self) -> None:
        """What the launcher gave up (``slots.failed``) is in ``duties.json`` now. Raises DiskError."""
        self._save(replace(self.slots, failed=None))

    def reported(self, duties: Duties) -> Duties:
        """``duties`` with ourselves among the models, where we run from a slot."""
        now = self.slots.release(self.running) if self.running is not None else None
        if now is None:
            return duties
        before = self.slots.release(self.slots.active)
        own = ModelDuty(
            active=_install(now),
            confirmed=self.slots.trial is None,
            previous=_install(before) if self.slots.trial is not None and before is not None else None,
        )
        return msgspec.structs.replace(duties, models={**duties.models, AGENT: own})

    def running_bundle(self) -> dict[str, str]:
        """As ``reported`` wants it: {} when we run from the base install."""
        now = self.slots.release(self.running) if self.running is not None else None
        return {} if now is None else {AGENT: now.bundle}

    def _save(self, changed: Slots) -> None:
        if changed != self.slots:
            self._disk.folder((self._data / slots.FILE).parent)
            self._disk.replace(self._data / slots.FILE, slots.encode(changed))
            self.slots = changed


def _install(release: Release) -> Install:
    return Install(bundle=release.bundle, version=release.version, release=release.release)
