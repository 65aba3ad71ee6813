"""Experiments against a real database, with the fleet's own messages: who is told what, what counts, how each ends."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from cameras import EPOCH, MODEL, OTHER_PROFILE, PROFILE, Cameras, inbound

from edgewise.wire.codec import encode_msgpack
from edgewise.wire.experiment import STREAM_EXPERIMENT, Arm, Sums
from edgewise.wire.experiment import Experiment as Report
from edgewise_hub.api.schemas import ExperimentDetail, ExperimentIn, GatesIn, PromoteIn, RolloutIn, StageIn
from edgewise_hub.experiments import controller, ingest, view
from edgewise_hub.experiments.assign import takes_part
from edgewise_hub.experiments.errors import ExperimentError
from edgewise_hub.experiments.tables import Experiment
from edgewise_hub.fleet import groups
from edgewise_hub.fleet.tables import DesiredState, Device
from edgewise_hub.monitoring import streams
from edgewise_hub.mqtt.inbox import Outcome
from edgewise_hub.rollouts import controller as rollouts
from edgewise_hub.rollouts.errors import RolloutError
from edgewise_hub.rollouts.tables import Rollout

NAMES = ["cam-1", "cam-2", "cam-3", "cam-4"]
CANARY = {"kind": "canary-requests", "share": 0.5}
OPEN = GatesIn(errors=None, latency_ratio=None, mix_distance=None, deadline=60)
SEQUENCE = itertools.count(1)


@pytest.fixture
def fleet(cameras: Cameras) -> Cameras:
    """Four cameras that run version 1; version 2 is compiled."""
    cameras.enroll(*NAMES)
    cameras.compile()
    cameras.compile()
    roll_out(cameras, 1, *NAMES)
    return cameras


def roll_out(cameras: Cameras, version: int, *names: str, obey: bool = True) -> str:
    body = RolloutIn(model=MODEL, version=version, stages=[StageIn(percent=100)], gates=OPEN)
    with cameras.hub.database.write() as session:
        rollout = rollouts.create(session, cameras.hub, body, cameras.now).id
    if obey:
        cameras.obey(*names)
        cameras.now += 1
        rollouts.tick(cameras.hub, cameras.now)
    return rollout


def start(cameras: Cameras, policy: dict[str, Any] = CANARY, **changes: Any) -> str:
    wishes: dict[str, Any] = {"candidate": 2, "min_samples": 50, **changes}
    body = ExperimentIn.model_validate({"model": MODEL, "policy": policy, **wishes})
    with cameras.hub.database.write() as session:
        return controller.create(session, cameras.hub, body, cameras.now).id


def refused(cameras: Cameras, **changes: Any) -> str:
    with pytest.raises(ExperimentError) as caught:
        start(cameras, **changes)
    return caught.value.code


def look(cameras: Cameras, experiment: str) -> ExperimentDetail:
    with cameras.hub.database.read() as session:
        row = session.get(Experiment, (cameras.hub.tenant, experiment))
        assert row is not None
        return view.detail(session, cameras.hub, row)


def tick(cameras: Cameras) -> None:
    cameras.now += 1
    controller.tick(cameras.hub, cameras.now)


def told(cameras: Cameras, *names: str) -> list[dict[str, Any]]:
    """Version by duty, and the policy's experiment, of each device."""
    found = []
    with cameras.hub.database.read() as session:
        for name in names:
            state = session.get(DesiredState, (cameras.hub.tenant, name))
            assert state is not None
            wish = state.content["models"][MODEL]
            duties = {role: duty["version"] for role, duty in wish["duties"].items()}
            found.append({**duties, "policy": wish["policy"] and wish["policy"]["experiment"]})
    return found


def report(cameras: Cameras, device: str, experiment: str, sums: Sums, **changes: Any) -> Outcome:
    number = next(SEQUENCE)
    values: dict[str, Any] = {
        "device": device,
        "epoch": EPOCH,
        "first": number,
        "last": number,
        "start": cameras.now,
        "duration": 1.0,
        "model": MODEL,
        "experiment": experiment,
        "kind": "canary-requests",
        "versions": {"active": 1, "candidate": 2},
        "sums": sums,
        **changes,
    }
    message = inbound(device, encode_msgpack(Report(**values)), cameras.now, rest=STREAM_EXPERIMENT)
    handler = streams.make_handler(cameras.hub, [ingest.stream(cameras.hub)])
    with cameras.hub.database.write() as session:
        return handler(session, [message])


def window(right: float, wrong: float, n: int = 40) -> Sums:
    """``right`` and ``wrong``: how often the candidate and the control are right."""
    arms = {
        role: Arm(requests=n, latency={20: n}, labelled=n, correct=round(n * share))
        for role, share in (("candidate", right), ("active", wrong))
    }
    return Sums(arms=arms)  # type: ignore[arg-type]


def feed(cameras: Cameras, experiment: str, right: float, wrong: float, rounds: int = 60) -> ExperimentDetail:
    """Windows of all that take part, until it ends."""
    for _ in range(rounds):
        for name in NAMES:
            assert not report(cameras, name, experiment, window(right, wrong)).refusals
        tick(cameras)
        found = look(cameras, experiment)
        if found.state == "ended":
            break
    return found


def test_every_device_is_told_and_a_winner_is_promoted(fleet: Cameras) -> None:
    fleet.offline("cam-4")
    experiment = start(fleet)
    waits = {device.device: device.reason for device in look(fleet, experiment).devices}
    assert waits == {"cam-1": "installing", "cam-2": "installing", "cam-3": "installing", "cam-4": "offline"}
    both = {"active": 1, "candidate": 2, "policy": experiment}
    assert told(fleet, *NAMES) == [both] * 4
    found = feed(fleet, experiment, 0.95, 0.8)
    assert found.decision == "candidate-wins" and found.low is not None and 0 < found.low < 0.15 < (found.high or 0)
    assert [arm.role for arm in found.arms] == ["control", "candidate"]
    assert found.arms[1].accuracy == pytest.approx(0.95) and found.arms[1].latency_p95_ms is not None
    assert found.history and found.history[-1].n == found.n
    alone = {"active": 1, "policy": None}
    assert told(fleet, *NAMES) == [alone] * 4, "it ends with the control alone"
    with fleet.hub.database.write() as session:
        row = session.get(Experiment, (fleet.hub.tenant, experiment))
        assert row is not None
        rollout = controller.promote(session, fleet.hub, row, PromoteIn(gates=OPEN), fleet.now)
        assert (rollout.to_version, rollout.from_version) == (2, 1)
        with pytest.raises(ExperimentError, match="promoted already"):
            controller.promote(session, fleet.hub, row, PromoteIn(), fleet.now)
    assert look(fleet, experiment).rollout is not None


def test_a_loser_is_not_promoted_unless_somebody_insists(fleet: Cameras) -> None:
    experiment = start(fleet)
    assert feed(fleet, experiment, 0.7, 0.9).decision == "control-wins"
    with fleet.hub.database.write() as session:
        row = session.get(Experiment, (fleet.hub.tenant, experiment))
        assert row is not None
        with pytest.raises(ExperimentError) as caught:
            controller.promote(session, fleet.hub, row, PromoteIn(), fleet.now)
        assert caught.value.code == "not-proved"
        assert controller.promote(session, fleet.hub, row, PromoteIn(force=True, gates=OPEN), fleet.now).to_version == 2


def test_a_window_counts_once_and_late_ones_change_nothing(fleet: Cameras) -> None:
    experiment = start(fleet)
    for _ in range(3):
        outcome = report(fleet, "cam-1", experiment, window(0.9, 0.9), first=901, last=901, epoch=9)
        assert not outcome.refusals and len(outcome.publish) == 1
    tick(fleet)
    tick(fleet)
    assert look(fleet, experiment).arms[0].requests == 40
    with fleet.hub.database.write() as session:
        row = session.get(Experiment, (fleet.hub.tenant, experiment))
        assert row is not None
        controller.stop(session, fleet.hub, row, fleet.now)
        with pytest.raises(ExperimentError, match="has ended already"):
            controller.stop(session, fleet.hub, row, fleet.now)
    assert not report(fleet, "cam-1", experiment, window(0.9, 0.9)).refusals
    tick(fleet)
    stopped = look(fleet, experiment)
    assert (stopped.decision, stopped.arms[0].requests) == ("stopped", 40)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"experiment": "none"}, "unknown-experiment"),
        ({"kind": "shadow"}, "unknown-experiment"),
        ({"versions": {"active": 1, "candidate": 3}}, "other-versions"),
        ({"sums": Sums(arms={"active": Arm(requests=1, errors=2)})}, "absurd"),
        ({"sums": Sums(arms={"candidate": Arm(labelled=1, correct=2)})}, "absurd"),
        ({"sums": Sums(arms={"active": Arm(requests=1, latency={3: 2})})}, "absurd"),
        ({"sums": Sums(arms={"active": Arm(requests=9, latency={99: 1})})}, "absurd"),
    ],
)
def test_what_cannot_be_is_refused_and_the_ack_moves_on(fleet: Cameras, changes: dict[str, Any], code: str) -> None:
    experiment = start(fleet)
    values = {"experiment": experiment, "sums": window(0.9, 0.9), **changes}
    outcome = report(fleet, "cam-1", values.pop("experiment"), values.pop("sums"), **values)
    assert [refusal.code for refusal in outcome.refusals] == [code]
    assert len(outcome.publish) == 1
    tick(fleet)
    assert look(fleet, experiment).arms[0].requests == 0


def test_only_who_can_takes_part_and_who_comes_later_does_too(fleet: Cameras) -> None:
    fleet.enroll("pi-1", profile=OTHER_PROFILE)
    experiment = start(fleet)
    assert look(fleet, experiment).devices_left_out == 1
    fleet.enroll("cam-5")
    rollouts.tick(fleet.hub, fleet.now)  # a newcomer gets what the last rollout brought
    tick(fleet)
    assert told(fleet, "cam-5") == [{"active": 1, "candidate": 2, "policy": experiment}]
    assert report(fleet, "pi-1", experiment, window(1, 1)).refusals[0].code == "unknown-experiment"
    with fleet.hub.database.write() as session:
        device = session.get(Device, (fleet.hub.tenant, "cam-5"))
        assert device is not None
        device.revoked_at = fleet.now
    tick(fleet)
    states = {device.device: device.state for device in look(fleet, experiment).devices}
    assert states == {**dict.fromkeys(NAMES, "waiting"), "cam-5": "left"}


def test_a_share_of_the_devices_is_drawn_by_hash(fleet: Cameras) -> None:
    experiment = start(fleet, devices=0.5)
    drawn = [name for name in NAMES if takes_part(experiment, name, 0.5)]
    assert [device.device for device in look(fleet, experiment).devices] == drawn
    places = [takes_part("e", f"d{i}", 0.3) for i in range(4000)]
    assert 0.25 < sum(places) / 4000 < 0.35 and places == [takes_part("e", f"d{i}", 0.3) for i in range(4000)]


def test_one_experiment_or_rollout_at_a_time(fleet: Cameras) -> None:
    assert refused(fleet, candidate=7) == "unknown-version"
    assert refused(fleet, candidate=1) == "bad-plan"
    assert refused(fleet, group="nowhere") == "no-devices"
    experiment = start(fleet, group="district-a")
    assert refused(fleet) == "experiment-running"
    with pytest.raises(RolloutError, match=f"experiment {experiment} of {MODEL} runs on some of these devices"):
        roll_out(fleet, 2, obey=False)
    with fleet.hub.database.write() as session:
        row = session.get(Experiment, (fleet.hub.tenant, experiment))
        assert row is not None
        controller.stop(session, fleet.hub, row, fleet.now)
    roll_out(fleet, 2, obey=False)
    assert refused(fleet, control=1, candidate=2) in ("rollout-running", "not-compiled")


def test_a_candidate_without_a_bundle_is_refused(fleet: Cameras) -> None:
    assert fleet.compile(OTHER_PROFILE) == 3
    assert refused(fleet, candidate=3) == "not-compiled"
    assert PROFILE != OTHER_PROFILE


def test_a_candidate_that_fails_on_devices_is_stopped(fleet: Cameras) -> None:
    experiment = start(fleet)
    bundle = fleet.bundle(2).digest
    with fleet.hub.database.write() as session:
        device = session.get(Device, (fleet.hub.tenant, "cam-2"))
        assert device is not None and device.reported is not None
        failed = {"bundle": bundle, "generation": 99, "code": "crashed", "reason": "it crashed", "log_tail": ""}
        model = {**device.reported["models"][MODEL], "failed": [failed]}
        device.reported = {**device.reported, "models": {MODEL: model}}
    tick(fleet)
    stopped = look(fleet, experiment)
    assert (stopped.state, stopped.decision) == ("ended", "guardrail")
    assert "failed on 1 of 4 devices" in stopped.reason
    assert [device.reason for device in stopped.devices if device.state == "failed"] == ["crashed: it crashed"]


def test_a_broken_split_shows_no_result(fleet: Cameras) -> None:
    experiment = start(fleet)
    for _ in range(30):
        arms = {"active": Arm(requests=70, labelled=70), "candidate": Arm(requests=10, labelled=10)}
        report(fleet, "cam-1", experiment, Sums(arms=arms))  # type: ignore[arg-type]
        tick(fleet)
    found = look(fleet, experiment)
    assert (found.decision, found.effect, found.history) == ("broken", None, [])


def test_every_kind_gives_the_duty_that_it_needs(fleet: Cameras) -> None:
    for policy, role in (
        ({"kind": "shadow", "share": 0.5}, "shadow"),
        ({"kind": "ab", "weight": 0.2, "by": "device"}, "candidate"),
        ({"kind": "interleave", "output": "scores"}, "candidate"),
        ({"kind": "escalate", "threshold": 0.6, "url": "https://server.example", "model": "big"}, None),
    ):
        experiment = start(fleet, policy, candidate=2 if role else None)
        expected = {"active": 1, "policy": experiment} | ({role: 2} if role else {})
        assert told(fleet, "cam-1") == [expected]
        with fleet.hub.database.write() as session:
            row = session.get(Experiment, (fleet.hub.tenant, experiment))
            assert row is not None
            controller.stop(session, fleet.hub, row, fleet.now)
            if role is None:
                with pytest.raises(ExperimentError, match="nothing to roll out"):
                    controller.promote(session, fleet.hub, row, PromoteIn(force=True), fleet.now)


def test_who_leaves_the_group_takes_no_part_any_more(fleet: Cameras) -> None:
    start(fleet, group="district-a")
    with fleet.hub.database.write() as session:
        groups.replace(session, fleet.hub, "cam-3", ["elsewhere"])
    tick(fleet)
    assert told(fleet, "cam-3") == [{"active": 1, "policy": None}]
    with fleet.hub.database.read() as session:
        assert session.query(Rollout).count() == 1
