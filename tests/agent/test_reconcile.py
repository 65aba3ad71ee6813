"""Reconcile: what is done next, for every state of a device; and that it always comes to rest where it should."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.wire.control import Desired, DesiredModel, Duty, Failure
from edgewise.wire.experiment import AB
from edgewise_agent import trial
from edgewise_agent.places import place
from edgewise_agent.reconcile import (
    Abandon,
    Action,
    Child,
    Confirm,
    Drop,
    Fetch,
    Forgive,
    GiveUp,
    GoBack,
    Observed,
    Prepare,
    Start,
    StopFetch,
    TakeOver,
    reconcile,
)
from edgewise_agent.store import installs
from edgewise_agent.store.installs import Duties, Install, ModelDuty

OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64
M = "digits"


def install(bundle: str) -> Install:
    return Install(bundle=bundle, version=1, release=1)


def duty(bundle: str) -> Duty:
    return Duty(bundle=bundle, size=10, version=1, release=1)


def desired(bundle: str | None = NEW, generation: int = 1, **models: str) -> Desired:
    wishes = {**({M: bundle} if bundle else {}), **models}
    return Desired(
        tenant="t",
        device="d",
        profile="p",
        generation=generation,
        models={m: DesiredModel(duties={"active": duty(b)}, trial_s=30) for m, b in wishes.items()},
        issued_at=0,
        not_before=0,
        not_after=1,
    )


def confirmed(bundle: str) -> Duties:
    return Duties(models={M: ModelDuty(active=install(bundle), confirmed=True)})


def on_trial(bundle: str, previous: str | None = OLD, starts: int = 1) -> Duties:
    before = install(previous) if previous else None
    return Duties(models={M: ModelDuty(active=install(bundle), previous=before)}, attempts={bundle: starts})


def serving(bundle: str | None, since: float | None = 0.0) -> Child:
    return Child({M: bundle} if bundle else {}, ready=True, served_since=since)


FAILED = Duties(
    models=confirmed(OLD).models, failures={M: [Failure(bundle=NEW, generation=1, code="smoke-failed", reason="")]}
)
BOTH = frozenset({OLD, NEW})

TABLE: dict[str, tuple[Desired | None, dict[str, Any], list[Action]]] = {
    "first boot serves nothing yet": (None, {}, [Start({})]),
    "boot serves what the duties say": (None, {"duties": confirmed(OLD)}, [Start({M: OLD})]),
    "not before the backoff is over": (None, {"duties": confirmed(OLD), "restart_at": 11.0}, []),
    "all is as wished": (
        desired(OLD),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH},
        [],
    ),
    "a new bundle is fetched": (
        desired(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": frozenset({OLD})},
        [Fetch(M, duty(NEW))],
    ),
    "a fetch goes on": (
        desired(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": frozenset({OLD}), "fetching": NEW},
        [],
    ),
    "a fetch for another is stopped first": (
        desired(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": frozenset({OLD}), "fetching": OTHER},
        [StopFetch(), Fetch(M, duty(NEW))],
    ),
    "a fetch that nobody wants is stopped": (
        desired(OLD),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH, "fetching": OTHER},
        [StopFetch()],
    ),
    "a whole bundle is prepared beside the old one": (
        desired(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH},
        [Prepare({M: NEW}, M)],
    ),
    "a candidate that loads is waited for": (
        desired(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH, "candidate": Child({M: NEW})},
        [],
    ),
    "a candidate that is ready takes over": (
        desired(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH, "candidate": Child({M: NEW}, True)},
        [TakeOver(M, install(NEW))],
    ),
    "a candidate for something else goes": (
        desired(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH, "candidate": Child({M: OTHER}, True)},
        [Abandon()],
    ),
    "a candidate that nobody wants any more goes": (
        desired(OLD),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH, "candidate": Child({M: NEW}, True)},
        [Abandon()],
    ),
    "what failed in this generation is left alone": (
        desired(),
        {"duties": FAILED, "serving": serving(OLD), "whole": BOTH},
        [],
    ),
    "what failed in an earlier generation is tried again": (
        desired(generation=2),
        {"duties": FAILED, "serving": serving(OLD), "whole": BOTH},
        [Prepare({M: NEW}, M)],
    ),
    "a bundle that takes the supervisor down with it is given up": (
        desired(),
        {
            "duties": msgspec.structs.replace(confirmed(OLD), attempts={NEW: trial.MAX_STARTS}),
            "serving": serving(OLD),
            "whole": BOTH,
        },
        [GiveUp(M, NEW)],
    ),
    "a trial is waited for": (desired(), {"duties": on_trial(NEW), "serving": serving(NEW), "whole": BOTH}, []),
    "a trial that is over is confirmed": (
        desired(),
        {"duties": on_trial(NEW), "serving": serving(NEW, -20.0), "whole": BOTH},
        [Confirm(M)],
    ),
    "a trial counts from when requests were taken": (
        desired(),
        {"duties": on_trial(NEW), "serving": serving(NEW, None), "whole": BOTH},
        [],
    ),
    "one crash is forgiven": (
        desired(),
        {"duties": on_trial(NEW), "whole": BOTH, "crashes": {NEW: 1}},
        [Start({M: NEW})],
    ),
    "the second crash goes back": (
        desired(),
        {"duties": on_trial(NEW, starts=2), "whole": BOTH, "crashes": {NEW: 2}},
        [GoBack(M, NEW, "in its trial it crashed 2 times and was started 2 times")],
    ),
    "a board that reboots three times goes back": (
        desired(),
        {"duties": on_trial(NEW, starts=3), "whole": BOTH},
        [GoBack(M, NEW, "in its trial it crashed 0 times and was started 3 times")],
    ),
    "the third start is still a try": (
        desired(),
        {"duties": on_trial(NEW, starts=3), "serving": serving(NEW), "whole": BOTH},
        [],
    ),
    "after going back the old one starts": (desired(), {"duties": FAILED, "whole": BOTH}, [Start({M: OLD})]),
    "going elsewhere during a trial": (
        desired(OTHER),
        {"duties": on_trial(NEW), "serving": serving(NEW), "whole": frozenset({OLD, NEW, OTHER})},
        [Prepare({M: OTHER}, M)],
    ),
    "a model that is not wished for is dropped": (
        desired(None),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH},
        [Drop(M)],
    ),
    "a child that still serves a dropped model is replaced": (
        desired(None),
        {"serving": serving(OLD), "whole": BOTH},
        [Prepare({}, None)],
    ),
    "out of force nothing new begins": (
        desired(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH, "in_force": False},
        [],
    ),
    "out of force a candidate goes": (
        desired(),
        {
            "duties": confirmed(OLD),
            "serving": serving(OLD),
            "whole": BOTH,
            "in_force": False,
            "candidate": Child({M: NEW}, True),
        },
        [Abandon()],
    ),
    "out of force nothing is dropped": (
        desired(None),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH, "in_force": False},
        [],
    ),
    "out of force a trial still ends": (
        desired(),
        {"duties": on_trial(NEW), "serving": serving(NEW, -20.0), "whole": BOTH, "in_force": False},
        [Confirm(M)],
    ),
    "a damaged bundle is fetched again": (
        desired(OLD),
        {
            "duties": confirmed(OLD),
            "serving": Child({M: OLD}, True, 0.0, frozenset({M})),
            "whole": frozenset(),
        },
        [Fetch(M, duty(OLD))],
    ),
    "a repaired bundle is served again": (
        desired(OLD),
        {
            "duties": confirmed(OLD),
            "serving": Child({M: OLD}, True, 0.0, frozenset({M})),
            "whole": BOTH,
        },
        [Prepare({M: OLD}, None)],
    ),
    "one model changes at a time": (
        desired(NEW, other=OTHER),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": frozenset({OLD, NEW, OTHER})},
        [Prepare({M: NEW}, M)],
    ),
    "while the confirmed one waits to restart, a new one may replace it": (
        desired(),
        {"duties": confirmed(OLD), "whole": BOTH, "restart_at": 99.0},
        [Prepare({M: NEW}, M)],
    ),
}


def ab(active: str = OLD, **models: str) -> Desired:
    """An A/B of ``active`` and OTHER."""
    wish = desired(active, **models)
    model = DesiredModel(duties={"active": duty(active), "candidate": duty(OTHER)}, policy=AB(experiment="x"))
    return msgspec.structs.replace(wish, models={**wish.models, M: model})


AT = place(M, "candidate")
ALL = frozenset({OLD, NEW, OTHER})
BOTH_ARMS = Child({M: OLD, AT: OTHER}, True, 0.0)

TABLE |= {
    "a candidate is fetched": (
        ab(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": BOTH},
        [Fetch(M, duty(OTHER))],
    ),
    "a candidate is prepared beside the active one": (
        ab(),
        {"duties": confirmed(OLD), "serving": serving(OLD), "whole": ALL},
        [Prepare({M: OLD, AT: OTHER}, AT)],
    ),
    "taking a candidate in switches no duty": (
        ab(),
        {
            "duties": confirmed(OLD),
            "serving": serving(OLD),
            "whole": ALL,
            "candidate": Child({M: OLD, AT: OTHER}, True),
        },
        [TakeOver(AT, None)],
    ),
    "with both arms it is at rest": (ab(), {"duties": confirmed(OLD), "serving": BOTH_ARMS, "whole": ALL}, []),
    "a trial runs without a candidate": (
        ab(NEW),
        {"duties": on_trial(NEW), "serving": serving(NEW), "whole": ALL},
        [],
    ),
    "a new active one comes first, alone": (
        ab(NEW),
        {"duties": confirmed(OLD), "serving": BOTH_ARMS, "whole": ALL},
        [Prepare({M: NEW}, M)],
    ),
    "after a crash the active one starts alone": (
        ab(),
        {"duties": confirmed(OLD), "whole": ALL},
        [Start({M: OLD})],
    ),
    "a candidate that was started too often is given up": (
        ab(),
        {
            "duties": msgspec.structs.replace(confirmed(OLD), attempts={OTHER: trial.MAX_STARTS}),
            "serving": serving(OLD),
            "whole": ALL,
        },
        [GiveUp(M, OTHER)],
    ),
    "a steady candidate's starts are forgiven": (
        ab(),
        {
            "duties": msgspec.structs.replace(confirmed(OLD), attempts={OTHER: 2}),
            "serving": Child({M: OLD, AT: OTHER}, True, 10.0 - trial.STEADY_S),
            "whole": ALL,
        },
        [Forgive((OTHER,))],
    ),
    "an experiment that is over leaves": (
        desired(OLD),
        {"duties": confirmed(OLD), "serving": BOTH_ARMS, "whole": ALL},
        [Prepare({M: OLD}, None)],
    ),
    "out of force an experiment goes on": (
        ab(),
        {"duties": confirmed(OLD), "serving": BOTH_ARMS, "whole": ALL, "in_force": False},
        [],
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_next_action(case: str) -> None:
    wish, observed, expected = TABLE[case]
    assert reconcile(wish, Observed(**observed), 10.0) == expected


class Device:
    """A device on which every action works, but for bundles in ``bad``: those crash in their trial or never load."""

    def __init__(self, duties: Duties, bad: dict[str, str]) -> None:
        self.now, self.bad, self.generation = 10.0, bad, 1
        self.whole = {d.active.bundle for d in duties.models.values()}
        self.duties, self.crashes = duties, dict[str, int]()
        self.serving: Child | None = None
        self.candidate: Child | None = None

    def observed(self) -> Observed:
        return Observed(
            duties=self.duties,
            whole=frozenset(self.whole),
            serving=self.serving,
            candidate=self.candidate,
            crashes=self.crashes,
        )

    def fail(self, model: str, bundle: str) -> None:
        failure = Failure(bundle=bundle, generation=self.generation, code="x", reason="")
        self.duties = installs.fail(self.duties, model, failure)

    def act(self, action: Action) -> None:
        match action:
            case Fetch(_, wanted):
                self.whole.add(wanted.bundle)
            case Start(bundles):
                self.serving = Child(bundles, True, self.now)
            case Prepare(bundles, model):
                if model is not None and self.bad.get(bundles[model]) == "load":
                    self.fail(model, bundles[model])
                else:
                    self.candidate = Child(bundles, True)
            case TakeOver(model, new):
                if model is not None and new is not None:
                    self.duties = installs.switch(self.duties, model, new)
                assert self.candidate is not None
                self.serving, self.candidate = Child(self.candidate.bundles, True, self.now), None
            case Abandon():
                self.candidate = None
            case Confirm(model):
                self.duties = installs.confirm(self.duties, model)
            case GoBack(model, bundle, _) | GiveUp(model, bundle):
                self.fail(model, bundle)
            case Drop(model):
                self.duties = installs.drop(self.duties, model)

    def crash(self) -> None:
        for model_duty in self.duties.models.values():
            bundle = model_duty.active.bundle
            if not model_duty.confirmed and self.bad.get(bundle) == "crash" and self.serving is not None:
                self.crashes[bundle] = self.crashes.get(bundle, 0) + 1
                self.serving = None


BUNDLES = [letter * 64 for letter in "abcdef"]
WISHES = st.dictionaries(st.sampled_from(["cats", "digits", "dogs"]), st.sampled_from(BUNDLES), max_size=3)


@settings(max_examples=300, deadline=None)
@given(
    before=st.dictionaries(st.sampled_from(["cats", "digits", "dogs"]), st.sampled_from(BUNDLES), max_size=3),
    wishes=WISHES,
    bad=st.dictionaries(st.sampled_from(BUNDLES), st.sampled_from(["load", "crash"])),
)
def test_comes_to_rest_on_what_is_wished_or_on_the_last_good(
    before: dict[str, str], wishes: dict[str, str], bad: dict[str, str]
) -> None:
    device = Device(Duties(models={m: ModelDuty(active=install(b), confirmed=True) for m, b in before.items()}), bad)
    wish = desired(None, **wishes)
    for _ in range(200):
        actions = reconcile(wish, device.observed(), device.now)
        for action in actions:
            device.act(action)
        device.crash()
        if not actions:
            device.now += 10
    assert reconcile(wish, device.observed(), device.now) == []
    expected = {m: b for m, b in wishes.items() if b not in bad or before.get(m) == b}
    expected |= {m: before[m] for m, b in wishes.items() if b in bad and m in before and before[m] != b}
    assert device.duties.active() == expected
    assert all(model_duty.confirmed for model_duty in device.duties.models.values())
    assert device.serving is not None and dict(device.serving.bundles) == expected


@pytest.mark.parametrize(
    ("duties", "served_s", "actions"),
    [
        (confirmed(OLD), trial.MIN_LIFE_S, [Prepare({M: OLD}, None)]),
        (confirmed(OLD), trial.MIN_LIFE_S - 1, []),
        (on_trial(OLD, previous=None), trial.MIN_LIFE_S, []),
    ],
)
def test_a_child_that_has_grown_is_replaced_by_its_like(duties: Duties, served_s: float, actions: list[Action]) -> None:
    grown = Child({M: OLD}, ready=True, served_since=100.0, grown=True)
    observed = Observed(duties=duties, whole=BOTH, serving=grown)
    assert reconcile(desired(OLD), observed, 100.0 + served_s) == actions
    like = Child({M: OLD}, ready=True)
    observed = Observed(duties=confirmed(OLD), whole=BOTH, serving=grown, candidate=like)
    assert reconcile(desired(OLD), observed, 100.0 + trial.MIN_LIFE_S) == [TakeOver(None, None)]
