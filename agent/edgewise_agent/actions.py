"""Carries out what ``reconcile`` decides, and observes what it decides on. Thin: every rule is elsewhere.

Rules that hold here:
- the duties file changes before what it describes;
- whatever ends a bundle's way on this device is one ``Failure``, recorded in the same write as what follows from it,
  and told to the hub.

It is past 400 lines since what an action does, and what is left behind where it fails, are read together.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from edgewise.bundle import Manifest
from edgewise.errors import EdgewiseError
from edgewise.wire.blocks import Block, DeltaOffer
from edgewise.wire.control import Desired, DesiredModel, Duty, Failure, Progress, Step
from edgewise_agent import reconcile as do
from edgewise_agent import trial
from edgewise_agent.download import BlockRefused
from edgewise_agent.fetch import Fetching
from edgewise_agent.identity import Identity, verifier
from edgewise_agent.places import beside, model_of, role_of
from edgewise_agent.runtimes import available
from edgewise_agent.serving.channel import Configure, LoadFailed, ServeModel
from edgewise_agent.serving.children import Children, Running
from edgewise_agent.store import installs as duty_rules
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import DiskError
from edgewise_agent.store.installs import Installs
from edgewise_agent.transfer import Transfer
from edgewise_agent.trust import TrustState, check_manifest, may_act

log = logging.getLogger(__name__)

PROGRESS_S = 1.0


class Actions:
    """The device's install machinery: the desired state, the duties, the fetch and the serve children."""

    def __init__(
        self,
        identity: Identity,
        blobs: BlobStore,
        installs: Installs,
        children: Children,
        publish: Callable[[Progress], None],
        sampling: Callable[[str], bool],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """``publish`` sends progress; ``sampling(model)``: shall inputs be kept for samples? ``draw``: [0, 1)."""
        self._identity, self._blobs, self._publish, self._sampling = identity, blobs, publish, sampling
        self._verify = verifier(identity.keys)
        self.installs, self.children = installs, children
        self.desired: Desired | None = None
        self.trust = TrustState(signed_time=identity.time)
        self._fetching: Fetching | None = None
        self._trusted: set[tuple[str, int]] = set()
        self._crashes: dict[str, int] = {}
        self._restarts = 0
        self._restart_at = 0.0
        self._progress_at = float("-inf")
        self._spread = draw()
        self.collect_due = True
        self._tail = ""  # last lines of the serve child that died last

    # Observing

    @property
    def generation(self) -> int:
        """The newest generation seen."""
        return self.trust.generation

    def observe(self, clock: float) -> do.Observed:
        """What is there; ``clock`` is Unix seconds."""
        children = self.children
        return do.Observed(
            duties=self.installs.duties,
            in_force=self.desired is not None and may_act(self.desired, self.trust, clock),
            whole=self.whole(),
            fetching=self._fetching.duty.bundle if self._fetching else None,
            serving=children.serving.observed() if children.serving else None,
            candidate=children.candidate.observed() if children.candidate else None,
            crashes=self._crashes,
            restart_at=self._restart_at,
        )

    def whole(self) -> frozenset[str]:
        """Bundles that are in the store, each checked against its duty once a generation, however it came there."""
        duties = self.installs.duties
        whole = {b for b in duties.active().values() if self.installs.whole(b)}
        whole |= {
            d.previous.bundle for d in duties.models.values() if d.previous and self.installs.whole(d.previous.bundle)
        }
        for model, wish in (self.desired.models if self.desired else {}).items():
            for duty in wish.duties.values():
                key = (duty.bundle, self.generation)
                if duties.failed(model, duty.bundle, self.generation) or not self.installs.whole(duty.bundle):
                    continue
                if key not in self._trusted:
                    try:
                        self._check(model, wish, duty)(self._blobs.read(duty.bundle, duty.size) or b"")
                    except EdgewiseError as error:
                        self.fail(model, duty.bundle, error.code, str(error))
                        continue
                    self._trusted.add(key)
                whole.add(duty.bundle)
        return frozenset(whole)

    def running(self) -> dict[str, str]:
        """Model -> bundle that takes traffic."""
        serving = self.children.serving
        if serving is None or serving.served_since is None:
            return {}
        return {m: b for m, b in serving.process.bundles.items() if m not in serving.repairable and not beside(m)}

    # Acting

    def carry_out(self, action: do.Action, now: float) -> None:
        """Do one thing. Raises DiskError when the disk refuses; then nothing has changed, and it is tried again."""
        log.info("action: %s", action)
        match action:
            case do.Fetch(model, duty):
                self._fetch(model, duty)
            case do.StopFetch():
                self.suspend()
            case do.Start(bundles):
                self._count_starts([b for m, b in bundles.items() if not self.installs.duties.models[m].confirmed])
                self.children.start(self._models(bundles), now)
            case do.Prepare(bundles, changes):
                self._count_starts([bundles[changes]] if changes else [])
                self.children.prepare(self._models(bundles), changes, now)
            case do.Abandon():
                self._forgive(self.children.abandon(now))
            case do.TakeOver(changes, install):
                self._take_over(changes, install)
            case do.Confirm(model):
                self.installs.save(duty_rules.confirm(self.installs.duties, model))
                bundle = self.installs.duties.models[model].active.bundle
                self._crashes.pop(bundle, None)
                self.progress(model, bundle, "confirmed")
                self.collect_due = True
            case do.GoBack(model, bundle, reason):
                self.fail(model, bundle, "crash-loop", reason, self._tail)
                self._restart_at = now
            case do.GiveUp(model, bundle):
                self.fail(
                    model,
                    bundle,
                    "crash-loop",
                    f"it was started {trial.MAX_STARTS} times and never became ready and steady",
                )
            case do.Forgive(bundles):
                duties = self.installs.duties
                for bundle in bundles:
                    duties = duty_rules.attempts(duties, bundle, None)
                self.installs.save(duties)
            case do.Drop(model):
                self.installs.save(duty_rules.drop(self.installs.duties, model))
                self.collect_due = True

    def _fetch(self, model: str, duty: Duty) -> None:
        assert self.desired is not None
        check = self._check(model, self.desired.models[model], duty)
        try:
            self._fetching = Fetching(
                model, duty, self.generation, self._blobs, check, self._bases(model), self._spread
            )
        except EdgewiseError as error:
            self.fail(model, duty.bundle, error.code, str(error))
            return
        self._fetched()

    def _check(self, model: str, wish: DesiredModel, duty: Duty) -> Callable[[bytes], Manifest]:
        def check(envelope: bytes) -> Manifest:
            return check_manifest(
                envelope,
                duty,
                tenant=self._identity.tenant,
                model=model,
                profile=self._identity.profile,
                runtimes=set(available()),
                floor=max(wish.floor, self.trust.floors.get(model, 0)),
                verify=self._verify,
            )

        return check

    def _bases(self, model: str) -> dict[str, str]:
        """Role -> blob of the bundle that serves now: what a delta may start from."""
        duty = self.installs.duties.models.get(model)
        manifest = self.installs.manifest(duty.active.bundle) if duty is not None else None
        return {role: blob.sha256 for role, blob in manifest.blobs.items()} if manifest is not None else {}

    def block(self, block: Block, now: float, cast: bool = False) -> None:
        """A block came. Raises BlockRefused (counted by the caller); other errors end the fetch."""
        if self._fetching is None and not cast:
            raise BlockRefused(f"block of {block.digest[:12]}: nothing is on its way")
        self._fetch_on(lambda fetching: fetching.receive(block, now, cast))
        fetching = self._fetching
        if fetching is not None and now - self._progress_at >= PROGRESS_S:
            self._progress_at = now
            done, total = fetching.progress
            self.progress(fetching.model, fetching.duty.bundle, "downloading", done=done, total=total)

    def offer(self, offer: DeltaOffer, now: float) -> None:
        """The hub's answer about a delta. Raises BlockRefused; other errors end the fetch."""
        self._fetch_on(lambda fetching: fetching.offer(offer, now))

    def transfer(self, transfer: Transfer, now: float, local: time.struct_time) -> bool:
        """Ask for what is missing, and do a step of what needs no asking; is there another one at once?"""
        self._fetch_on(Fetching.work)
        self._fetch_on(lambda fetching: transfer.look(fetching, now, local))
        if self._fetching is None:
            transfer.look(None, now, local)
        return self._fetching is not None and self._fetching.busy

    def _fetch_on(self, step: Callable[[Fetching], None]) -> None:
        """One step of the fetch, if there is one. Raises BlockRefused; any other error is the end of it."""
        fetching = self._fetching
        if fetching is None:
            return
        try:
            step(fetching)
        except BlockRefused:
            raise
        except EdgewiseError as error:
            self._fetching = None
            self.fail(fetching.model, fetching.duty.bundle, error.code, str(error))
            return
        self._fetched()

    def _fetched(self) -> None:
        fetching = self._fetching
        if fetching is not None and fetching.done:
            self._fetching = None
            self.progress(fetching.model, fetching.duty.bundle, "installed")

    def reconnected(self, now: float) -> None:
        """A new connection: ask for blocks again."""
        if self._fetching:
            self._fetching.reconnected(now)

    def suspend(self) -> None:
        """Stop fetching; what came stays, to be resumed."""
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            fetching.suspend()

    def _take_over(self, changes: str | None, install: duty_rules.Install | None) -> None:
        if changes is not None and install is not None:
            duties = duty_rules.switch(self.installs.duties, changes, install)
            confirmed = duties.models[changes].confirmed
            self.installs.save(duty_rules.attempts(duties, install.bundle, None) if confirmed else duties)
            self._crashes.pop(install.bundle, None)
            self.progress(changes, install.bundle, "confirmed" if confirmed else "trial")
        self._forgive_beside()
        self.children.take_over()

    def _models(self, bundles: do.Bundles) -> list[ServeModel]:
        wishes = self.desired.models if self.desired else {}
        default = DesiredModel(duties={})
        return [
            ServeModel(
                model=model,
                bundle=bundle,
                window_s=wishes.get(model, default).window_s,
                sampling=self._sampling(model),
                policy=wishes.get(model, default).policy,
                others={role_of(at): b for at, b in bundles.items() if beside(at) and model_of(at) == model},
                quality=wishes.get(model, default).quality,
            )
            for model, bundle in sorted(bundles.items())
            if not beside(model)
        ]

    def configure(self) -> None:
        """Tell the serve children what the desired state and the owner's consent now say."""
        for child in (self.children.serving, self.children.candidate):
            if child is not None:
                child.process.send(Configure(models=self._models(child.process.bundles)))

    def _count_starts(self, bundles: list[str]) -> None:
        duties = self.installs.duties
        for bundle in bundles:
            duties = duty_rules.attempts(duties, bundle, duties.attempts.get(bundle, 0) + 1)
        self.installs.save(duties)

    def _forgive(self, child: Running | None) -> None:
        """A start that ended by our own wish does not count against its bundle."""
        if child is not None:
            duties = self.installs.duties
            for bundle in child.process.bundles.values():
                if bundle in duties.attempts:
                    duties = duty_rules.attempts(duties, bundle, duties.attempts[bundle] - 1)
            self.installs.save(duties)

    def _forgive_beside(self) -> None:
        """Installs beside the active ones that go with the serve child, by our own wish."""
        old, new = self.children.serving, self.children.candidate
        if old is None or new is None:
            return
        duties = self.installs.duties
        for at, bundle in old.process.bundles.items():
            if beside(at) and at not in new.process.bundles and bundle in duties.attempts:
                duties = duty_rules.attempts(duties, bundle, duties.attempts[bundle] - 1)
        self.installs.save(duties)

    def fail(self, model: str, bundle: str, code: str, reason: str, log_tail: str = "") -> None:
        """Record and tell why a bundle is not served; if it is on trial, its predecessor is active again."""
        failure = Failure(
            bundle=bundle, generation=self.generation, code=code, reason=reason[:800], log_tail=log_tail[-1500:]
        )
        log.error("%s: bundle %s failed: %s: %s", model, bundle[:12], code, reason)
        self.installs.save_or_remember(duty_rules.fail(self.installs.duties, model, failure))
        self._crashes.pop(bundle, None)
        self.progress(model, bundle, "failed", code=code, reason=failure.reason, log_tail=failure.log_tail)

    def progress(
        self,
        model: str,
        bundle: str,
        step: Step,
        *,
        done: int = 0,
        total: int = 0,
        code: str = "",
        reason: str = "",
        log_tail: str = "",
    ) -> None:
        """Tell the hub how far a bundle has come."""
        self._publish(
            Progress(
                device=self._identity.device,
                generation=self.generation,
                model=model,
                bundle=bundle,
                step=step,
                done=done,
                total=total,
                code=code,
                reason=reason,
                log_tail=log_tail,
            )
        )

    def collect(self) -> None:
        """At rest, after something changed: remove blobs that no duty names and nobody wants. Raises DiskError."""
        if not self.collect_due or self._fetching is not None or self.children.candidate is not None:
            return
        self.collect_due = False
        wishes = self.desired.models.values() if self.desired else []
        self.children.forget({*self.installs.duties.models, *(self.desired.models if self.desired else {})})
        self.installs.collect({duty.bundle for wish in wishes for duty in wish.duties.values()})

    # What the serve children say

    def load_failed(self, child: Running, candidate: bool, failed: LoadFailed) -> None:
        """A model could not be loaded. In a candidate the new bundle is to blame, even where another model fails
        beside it (the two may not fit together); a damaged bundle is fetched again."""
        tail = child.process.tail((self._identity.password,))
        reason = f"{failed.model}: {failed.reason}"
        duty = self.installs.duties.models.get(failed.model)
        if failed.role != "active":
            self.fail(failed.model, failed.bundle, failed.code, reason, tail)
        elif failed.code == "bad-blob" and self.installs.repair(failed.bundle):
            log.error("%s: bundle %s is damaged on disk and will be fetched again", failed.model, failed.bundle[:12])
            child.repairable.add(failed.model)
        elif candidate and child.changes is not None:
            self.fail(model_of(child.changes), child.process.bundles[child.changes], failed.code, reason, tail)
        elif duty is not None and not duty.confirmed and duty.active.bundle == failed.bundle:
            self.fail(failed.model, failed.bundle, failed.code, reason, tail)
        else:
            log.error("bundle %s is confirmed, and yet: %s: %s", failed.bundle[:12], failed.code, reason)

    def child_gone(self, role: str, child: Running, now: float) -> None:
        """A serve child is dead. One that was leaving did as it was told."""
        how = child.process.ended()
        if role == "leaving":
            return
        self._tail = child.process.tail((self._identity.password,))
        log.error("serve child %d (%s) %s", child.process.pid, role, how)
        if role == "candidate":
            if child.changes is None:
                self._restart_at = now + trial.backoff(2)
            elif not self.installs.duties.failed(
                model_of(child.changes), child.process.bundles[child.changes], self.generation
            ):
                reason = f"its serve child {how} before it was ready"
                self.fail(
                    model_of(child.changes), child.process.bundles[child.changes], "smoke-failed", reason, self._tail
                )
            return
        if child.served_since is not None and now - child.served_since >= trial.STEADY_S:
            self._restarts = 0
        self._restarts += 1
        self._restart_at = now + trial.backoff(self._restarts)
        for model, duty in self.installs.duties.models.items():
            bundle = duty.active.bundle
            if not duty.confirmed and child.process.bundles.get(model) == bundle:
                self._crashes[bundle] = self._crashes.get(bundle, 0) + 1

    def stop(self, now: float) -> None:
        """The agent stops: keep what was fetched, forgive the trials, let the children leave."""
        try:
            self.suspend()
            self._forgive(self.children.candidate)
            self._forgive(self.children.serving)
        except DiskError as error:
            log.error("while stopping: %s", error)
        self.children.stop(now)
