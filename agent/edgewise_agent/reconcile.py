"""What to do next: (desired, observed, now) -> actions. Pure: no socket, file or clock.

Rules that hold here:
- what must serve is the duties file's word; a serve child for it is started before anything else is considered;
- a new bundle first runs in a second serve child (the candidate), takes over when that one is ready, and one bundle
  changes at a time, so that a candidate that dies names its cause;
- an install beside an active one (shadow, candidate) is added only while every active one is confirmed and is the one
  wished for: no trial is judged by a child that runs one. After a crash the actives start alone; an install that was
  added ``MAX_STARTS`` times without a steady child is given up;
- a serve child that has grown past its memory is replaced by its like, which takes over first; one that is on trial is
  not, and ends if it goes on growing;
- an action that changes the duties file is the last of its list: the next is decided on what it left;
- the agent's own release is fetched here like any bundle; what becomes of it is ``update``'s;
- without a desired state in force (none, not yet, no longer) nothing new begins; what serves goes on, and a trial ends.

The agent calls this until it returns nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgewise.wire.control import Desired, DesiredModel, Duty
from edgewise_agent import trial
from edgewise_agent.places import beside, model_of, place
from edgewise_agent.serving.routing.choose import needed
from edgewise_agent.store.installs import Duties, Install
from edgewise_agent.update import AGENT

Bundles = Mapping[str, str]
"""Place (see ``places``) -> bundle."""


@dataclass(frozen=True)
class Fetch:
    """Begin to download a bundle."""

    model: str
    duty: Duty


@dataclass(frozen=True)
class StopFetch:
    """The bundle that is downloading is not wanted any more; what came of it stays."""


@dataclass(frozen=True)
class Start:
    """Start the serve child for what the duties file says."""

    bundles: Bundles


@dataclass(frozen=True)
class Prepare:
    """Start a candidate; ``model``: the place that changes in it (None: only fewer places)."""

    bundles: Bundles
    model: str | None


@dataclass(frozen=True)
class Abandon:
    """Stop the candidate: something else is wanted."""


@dataclass(frozen=True)
class TakeOver:
    """The candidate is ready: the duties file, then the traffic. ``install`` is what becomes active (None: nothing)."""

    model: str | None
    install: Install | None


@dataclass(frozen=True)
class Confirm:
    """The trial is over, well."""

    model: str


@dataclass(frozen=True)
class GoBack:
    """The trial is over, badly: the previous bundle is active again."""

    model: str
    bundle: str
    reason: str


@dataclass(frozen=True)
class GiveUp:
    """A bundle that was started too often and never became ready, or steady, is not started again."""

    model: str
    bundle: str


@dataclass(frozen=True)
class Forgive:
    """Installs beside the active ones have served for long: their starts are forgotten."""

    bundles: tuple[str, ...]


@dataclass(frozen=True)
class Drop:
    """The model is not wanted here any more."""

    model: str


Action = Fetch | StopFetch | Start | Prepare | Abandon | TakeOver | Confirm | GoBack | GiveUp | Forgive | Drop


@dataclass(frozen=True)
class Child:
    """A serve child that lives. ``served_since`` is monotonic; ``repairable``: models it could not load because a blob
    was damaged; ``grown``: it takes more memory than it may."""

    bundles: Bundles
    ready: bool = False
    served_since: float | None = None
    repairable: frozenset[str] = frozenset()
    grown: bool = False


@dataclass(frozen=True)
class Observed:
    """What is there. ``whole``: bundles that are in the store; ``crashes``: of unconfirmed bundles, in this process."""

    duties: Duties = field(default_factory=Duties)
    in_force: bool = True
    whole: frozenset[str] = frozenset()
    fetching: str | None = None
    serving: Child | None = None
    candidate: Child | None = None
    crashes: Mapping[str, int] = field(default_factory=dict)
    restart_at: float = 0.0


def reconcile(desired: Desired | None, observed: Observed, now: float) -> list[Action]:
    """The next actions, in order; ``now`` is monotonic seconds. Empty when all is as it should be, or is on its way."""
    duties, serving = observed.duties, observed.serving
    wishes = desired.models if desired is not None and observed.in_force else {}
    verdicts = {m: _judge(desired, observed, m, now) for m in sorted(duties.models) if not duties.models[m].confirmed}
    for model, verdict in verdicts.items():
        if verdict == "go-back":
            bundle = duties.models[model].active.bundle
            crashes, starts = observed.crashes.get(bundle, 0), duties.attempts.get(bundle, 0)
            return [GoBack(model, bundle, f"in its trial it crashed {crashes} times and was started {starts} times")]
    for model, verdict in verdicts.items():
        if verdict == "confirm":
            return [Confirm(model)]
    if desired is not None and observed.in_force:
        for model in sorted(duties.models):
            if model not in wishes or "active" not in wishes[model].duties:
                return [Drop(model)]
    if serving is not None and serving.served_since is not None and now - serving.served_since >= trial.STEADY_S:
        steady = sorted({b for at, b in serving.bundles.items() if beside(at) and duties.attempts.get(b)})
        if steady:
            return [Forgive(tuple(steady))]

    actions = _fetch(desired, wishes, observed)
    if serving is None and now >= observed.restart_at:
        actions.append(Start(duties.active()))
    return actions + _change(desired, wishes, observed, now)


def _judge(desired: Desired | None, observed: Observed, model: str, now: float) -> trial.Verdict:
    bundle = observed.duties.models[model].active.bundle
    serving = observed.serving
    serves_it = serving is not None and serving.bundles.get(model) == bundle
    since = serving.served_since if serving is not None and serves_it else None
    wish = desired.models.get(model) if desired is not None else None
    return trial.judge(
        crashes=observed.crashes.get(bundle, 0),
        starts=observed.duties.attempts.get(bundle, 0),
        alive=serving is not None,
        served_s=None if since is None else now - since,
        trial_s=(wish or DesiredModel(duties={})).trial_s,
    )


def _wanted(desired: Desired | None, wishes: Mapping[str, DesiredModel], observed: Observed) -> dict[str, Duty]:
    """Model -> duty that is wished for and has not failed in this generation."""
    generation = desired.generation if desired is not None else 0
    return {
        model: wish.duties["active"]
        for model, wish in sorted(wishes.items())
        if "active" in wish.duties and not observed.duties.failed(model, wish.duties["active"].bundle, generation)
    }


def _beside(desired: Desired | None, wishes: Mapping[str, DesiredModel], observed: Observed) -> dict[str, Duty]:
    """Place -> duty that is wished for beside an active install, can be carried out, and has not failed in this
    generation. None while any model is on trial."""
    active = observed.duties.active()
    if desired is None or not all(duty.confirmed for duty in observed.duties.models.values()):
        return {}
    found: dict[str, Duty] = {}
    for model, wish in sorted(wishes.items()):
        role = needed(wish.policy)
        duty = wish.duties.get(role) if role is not None else None
        settled = "active" in wish.duties and wish.duties["active"].bundle == active.get(model)
        if role is None or duty is None or not settled:
            continue
        if not observed.duties.failed(model, duty.bundle, desired.generation):
            found[place(model, role)] = duty
    return found


def _fetch(desired: Desired | None, wishes: Mapping[str, DesiredModel], observed: Observed) -> list[Action]:
    """One bundle at a time, in the order of the models' names."""
    missing = {
        duty.bundle: Fetch(model_of(at), duty)
        for at, duty in (_wanted(desired, wishes, observed) | _beside(desired, wishes, observed)).items()
        if duty.bundle not in observed.whole
    }
    if observed.fetching in missing:
        return []
    stop: list[Action] = [] if observed.fetching is None else [StopFetch()]
    return stop + list(missing.values())[:1]


def _outgrown(observed: Observed, now: float) -> bool:
    """Shall the serve child be replaced for its size?"""
    serving, duties = observed.serving, observed.duties.models.values()
    if serving is None or not serving.grown or serving.served_since is None:
        return False
    return now - serving.served_since >= trial.MIN_LIFE_S and all(duty.confirmed for duty in duties)


def _change(
    desired: Desired | None, wishes: Mapping[str, DesiredModel], observed: Observed, now: float
) -> list[Action]:
    """Bring what runs one bundle nearer to what is wanted."""
    base, serving, candidate = observed.duties.active(), observed.serving, observed.candidate
    changes = {
        model: duty
        for model, duty in _wanted(desired, wishes, observed).items()
        if duty.bundle != base.get(model) and duty.bundle in observed.whole and model != AGENT
    }
    model = min(changes, default=None)
    target = base if model is None else {**base, model: changes[model].bundle}
    runs = serving.bundles if serving is not None else base
    if model is None and serving is not None:
        extra = {at: d.bundle for at, d in _beside(desired, wishes, observed).items() if d.bundle in observed.whole}
        if desired is None or not observed.in_force:  # what serves goes on
            extra = {at: bundle for at, bundle in runs.items() if beside(at)}
        target = base | {at: bundle for at, bundle in extra.items() if runs.get(at) == bundle}
        added = min((at for at in extra if at not in target), default=None)
        if added is not None and serving.served_since is not None:
            model, target = added, {**target, added: extra[added]}
    repaired = serving is not None and any(base.get(m) in observed.whole for m in serving.repairable)
    if target == runs and not repaired and not _outgrown(observed, now):
        return [Abandon()] if candidate is not None else []
    if candidate is not None and candidate.bundles != target:
        return [Abandon()]
    if candidate is None:
        if model is not None and observed.duties.attempts.get(target[model], 0) >= trial.MAX_STARTS:
            return [GiveUp(model_of(model), target[model])]
        return [Prepare(target, model)] if model is not None or now >= observed.restart_at else []
    if not candidate.ready:
        return []
    duty = changes.get(model) if model is not None else None
    return [TakeOver(model, Install(bundle=duty.bundle, version=duty.version, release=duty.release) if duty else None)]
