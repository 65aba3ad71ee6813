"""A rollout against a real database, with the fleet's own messages: on to the end, or back to where each device was."""

from __future__ import annotations

import queue

import numpy as np
import pytest
from cameras import EVEN, MODEL, OTHER_PROFILE, PROFILE, Cameras

from edgewise_hub.api.schemas import GatesIn, RolloutDetail, RolloutIn, StageIn
from edgewise_hub.fleet.tables import Device
from edgewise_hub.mqtt.inbox import Outbound
from edgewise_hub.registry.tables import Model
from edgewise_hub.rollouts import controller, view
from edgewise_hub.rollouts.errors import RolloutError
from edgewise_hub.rollouts.tables import Rollout

NAMES = ["cam-1", "cam-2", "cam-3", "cam-4"]
ALL = [StageIn(percent=100)]
STAGES = [StageIn(count=1), StageIn(percent=50), StageIn(percent=100)]
OPEN = {"errors": None, "latency_ratio": None, "mix_distance": None}
SKEWED = np.array([0.5, *[0.5 / 9] * 9])


@pytest.fixture
def fleet(cameras: Cameras) -> Cameras:
    """Four cameras and version 1, compiled but not rolled out."""
    cameras.enroll(*NAMES)
    cameras.compile()
    return cameras


def start(
    cameras: Cameras, version: int, stages: list[StageIn] = ALL, group: str | None = None, **gates: object
) -> str:
    """Create a rollout; without ``gates``, only installs are judged."""
    limits = GatesIn.model_validate({"deadline": 60, **(gates or OPEN)})
    body = RolloutIn(model=MODEL, version=version, group=group, stages=stages, gates=limits)
    with cameras.hub.database.write() as session:
        return controller.create(session, cameras.hub, body, cameras.now).id


def refused(cameras: Cameras, version: int, **wishes: object) -> str:
    with pytest.raises(RolloutError) as caught:
        start(cameras, version, **wishes)  # type: ignore[arg-type]
    return caught.value.code


def look(cameras: Cameras, rollout: str) -> RolloutDetail:
    with cameras.hub.database.read() as session:
        row = session.get(Rollout, (cameras.hub.tenant, rollout))
        assert row is not None
        return view.detail(session, cameras.hub, row)


def tick(cameras: Cameras, seconds: float = 1.0) -> None:
    cameras.now += seconds
    controller.tick(cameras.hub, cameras.now)


def complete(cameras: Cameras, version: int, *names: str, group: str | None = None) -> str:
    """Roll a version out to the end."""
    rollout = start(cameras, version, group=group)
    cameras.obey(*names)
    tick(cameras)
    assert look(cameras, rollout).state == "completed"
    return rollout


def by_hand(cameras: Cameras, rollout: str, act: str) -> RolloutDetail:
    with cameras.hub.database.write() as session:
        row = session.get(Rollout, (cameras.hub.tenant, rollout))
        assert row is not None
        getattr(controller, act)(session, cameras.hub, row, cameras.now)
    return look(cameras, rollout)


def floor(cameras: Cameras) -> int:
    with cameras.hub.database.read() as session:
        model = session.get(Model, (cameras.hub.tenant, MODEL))
        assert model is not None
        return model.floor


def test_a_good_version_goes_through_its_stages_to_the_end(fleet: Cameras, hub_published: list[Outbound]) -> None:
    rollout = start(fleet, 1, STAGES)
    order = [device.device for device in look(fleet, rollout).devices]
    assert fleet.told(*order) == [1, None, None, None]
    tick(fleet)
    assert [message.topic.split("/")[4] for message in hub_published] == order[:1]
    fleet.obey(order[0], state="downloading")
    assert look(fleet, rollout).devices[0].state == "downloading"
    fleet.obey(order[0], state="trial")
    tick(fleet)
    assert look(fleet, rollout).devices[0].state == "trial"
    assert look(fleet, rollout).stage == 0

    for told in (2, 4):
        fleet.obey(*order[: told // 2])
        tick(fleet)
        assert fleet.told(*order) == [1] * told + [None] * (4 - told)
    fleet.obey(*order)
    tick(fleet)
    done = look(fleet, rollout)
    assert done.state == "completed"
    assert [stage.devices for stage in done.stages] == [1, 2, 4]
    assert {stage.state for stage in done.stages} == {"passed"}
    assert [event.decision for event in done.events] == ["start", "hold", "continue", "continue", "complete"]
    assert floor(fleet) == 1


def test_ticks_that_change_nothing_write_nothing(fleet: Cameras) -> None:
    rollout = start(fleet, 1)
    tick(fleet)
    before = look(fleet, rollout)
    events = fleet.hub.events.subscribe()
    for _ in range(5):
        tick(fleet)
    assert look(fleet, rollout) == before
    with pytest.raises(queue.Empty):
        events.get_nowait()


def test_a_version_that_gives_nan_is_stopped_at_the_canary_and_taken_back(fleet: Cameras) -> None:
    complete(fleet, 1, *NAMES)
    rollout = start(fleet, fleet.compile(), STAGES, errors=0.01, min_inferences=100)
    canary = look(fleet, rollout).devices[0].device
    fleet.obey(canary)
    fleet.send(*(fleet.window(canary, 2, 95, bad=5) for _ in range(4)))
    tick(fleet)
    stopped = look(fleet, rollout)
    assert (stopped.state, stopped.stage) == ("rolled-back", 0)
    assert stopped.stages[0].state == "failed"
    assert "20 of 400" in stopped.reason
    assert {gate.gate: gate.state for gate in stopped.gates}["errors"] == "fail"
    assert fleet.told(*NAMES) == [1] * 4
    assert stopped.devices[0].state == "pending"
    fleet.obey(canary)
    assert look(fleet, rollout).devices[0].state == "rolled-back"
    assert floor(fleet) == 1
    tick(fleet)
    assert fleet.told(*NAMES) == [1] * 4


def test_another_mix_of_predictions_is_stopped_and_the_same_is_not(fleet: Cameras) -> None:
    complete(fleet, 1, *NAMES)
    fleet.now += 10
    for bad in (True, False):
        fleet.send(*(fleet.window(name, 1, 400) for name in NAMES))
        fleet.now += 10
        rollout = start(fleet, fleet.compile(), [StageIn(count=2), StageIn(percent=100)], mix_distance=0.1)
        canaries = [device.device for device in look(fleet, rollout).devices[:2]]
        fleet.obey(*canaries)
        version = look(fleet, rollout).to_version
        fleet.send(*(fleet.window(name, version, 400, mix=SKEWED if bad else EVEN) for name in canaries))
        fleet.send(*(fleet.window(name, 1, 400) for name in set(NAMES) - set(canaries)))
        tick(fleet)
        judged = look(fleet, rollout)
        assert (judged.state, judged.stage) == (("rolled-back", 0) if bad else ("running", 1)), judged.reason
        fleet.obey(*NAMES)


def test_a_slow_version_is_stopped(fleet: Cameras) -> None:
    complete(fleet, 1, *NAMES)
    fleet.send(*(fleet.window(name, 1, 300, latency_s=0.010) for name in NAMES))
    rollout = start(fleet, fleet.compile(), STAGES, latency_ratio=2.0)
    canary = look(fleet, rollout).devices[0].device
    fleet.obey(canary)
    fleet.send(fleet.window(canary, 2, 300, latency_s=0.050))
    tick(fleet)
    assert look(fleet, rollout).state == "rolled-back"
    assert "p95" in look(fleet, rollout).reason


def test_each_stage_needs_evidence_of_its_own(fleet: Cameras) -> None:
    rollout = start(fleet, 1, [StageIn(count=1), StageIn(percent=100)], errors=0.01, min_inferences=100)
    canary = look(fleet, rollout).devices[0].device
    fleet.obey(canary)
    fleet.send(fleet.window(canary, 1, 500))
    tick(fleet)
    assert look(fleet, rollout).stage == 1
    fleet.obey(*NAMES)
    tick(fleet)
    assert look(fleet, rollout).state == "running"
    fleet.send(fleet.window(canary, 1, 100))
    tick(fleet)
    assert look(fleet, rollout).state == "completed"


def test_a_crash_on_the_device_is_taken_back_to_nothing_where_there_was_nothing(fleet: Cameras) -> None:
    rollout = start(fleet, 1)
    fleet.obey("cam-1", state="failed")
    tick(fleet)
    stopped = look(fleet, rollout)
    assert stopped.state == "rolled-back"
    assert "cam-1: crashed: it crashed" in stopped.reason
    assert fleet.told(*NAMES) == [None] * 4
    tick(fleet)
    assert fleet.told(*NAMES) == [None] * 4


def test_a_failure_of_an_earlier_try_is_not_held_against_the_next(fleet: Cameras) -> None:
    first = start(fleet, 1)
    fleet.obey(*NAMES, state="failed")
    tick(fleet)
    assert look(fleet, first).state == "rolled-back"
    second = start(fleet, 1)
    tick(fleet)
    assert look(fleet, second).state == "running"
    fleet.obey(*NAMES)
    tick(fleet)
    assert look(fleet, second).state == "completed"


def test_inconclusive_evidence_pauses_and_resuming_keeps_it(fleet: Cameras) -> None:
    rollout = start(fleet, 1, errors=0.01, min_inferences=100)
    fleet.obey(*NAMES)
    fleet.send(fleet.window("cam-1", 1, 60))
    tick(fleet, 61)
    paused = look(fleet, rollout)
    assert paused.state == "paused"
    assert "60 of 100 inferences" in paused.reason
    assert fleet.told(*NAMES) == [1] * 4
    fleet.send(fleet.window("cam-1", 1, 60))
    tick(fleet)
    assert look(fleet, rollout).state == "paused", "a paused rollout takes no decision"
    assert by_hand(fleet, rollout, "resume").deadline_at == fleet.now + 60
    tick(fleet)
    assert look(fleet, rollout).state == "completed"


def test_pause_holds_and_abort_takes_back(fleet: Cameras) -> None:
    complete(fleet, 1, *NAMES)
    rollout = start(fleet, fleet.compile(), STAGES)
    canary = look(fleet, rollout).devices[0].device
    assert by_hand(fleet, rollout, "pause").state == "paused"
    fleet.obey(canary)
    tick(fleet)
    assert fleet.told(*NAMES).count(2) == 1
    assert by_hand(fleet, rollout, "abort").state == "aborted"
    assert fleet.told(*NAMES) == [1] * 4
    with pytest.raises(RolloutError) as caught:
        by_hand(fleet, rollout, "resume")
    assert caught.value.code == "rollout-over"


def test_devices_go_back_each_to_its_own_version(fleet: Cameras) -> None:
    fleet.enroll("cam-5", group="district-b")
    complete(fleet, 1, *NAMES, group="district-a")
    complete(fleet, fleet.compile(), "cam-5", group="district-b")
    rollout = start(fleet, fleet.compile())
    assert fleet.told("cam-1", "cam-5") == [3, 3]
    assert look(fleet, rollout).from_version == 1
    by_hand(fleet, rollout, "abort")
    assert fleet.told("cam-1", "cam-5") == [1, 2]


def test_the_floor_stays_below_what_any_device_is_told(fleet: Cameras) -> None:
    fleet.enroll("cam-5", group="district-b")
    complete(fleet, 1, *NAMES, "cam-5")
    version = fleet.compile()
    complete(fleet, version, "cam-5", group="district-b")
    assert floor(fleet) == 1, "district-a still serves version 1"
    complete(fleet, version, *NAMES, group="district-a")
    assert floor(fleet) == version
    assert refused(fleet, 1) == "below-floor"


def test_who_enrolls_later_gets_the_newest_completed_version(fleet: Cameras) -> None:
    complete(fleet, 1, *NAMES)
    fleet.enroll("late-a", group="district-a")
    fleet.enroll("late-pi", profile=OTHER_PROFILE)
    tick(fleet)
    assert fleet.told("late-a", "late-pi") == [1, None]
    complete(fleet, fleet.compile(), *NAMES, "late-a", group="district-a")
    fleet.enroll("later-a", group="district-a")
    fleet.enroll("later-b", group="district-b")
    tick(fleet)
    assert fleet.told("later-a", "later-b") == [2, 1]


def test_who_joins_a_running_rollout_is_drawn_into_a_stage_to_come(fleet: Cameras) -> None:
    rollout = start(fleet, 1, [StageIn(count=1), StageIn(percent=100)])
    fleet.enroll("late")
    tick(fleet)
    late = next(device for device in look(fleet, rollout).devices if device.device == "late")
    assert (late.stage, late.state) == (1, "waiting")
    fleet.obey(*[device.device for device in look(fleet, rollout).devices if device.stage == 0])
    tick(fleet)
    fleet.enroll("last")
    tick(fleet)
    assert fleet.told("late", "last") == [1, None]
    fleet.obey(*NAMES, "late")
    tick(fleet)
    assert look(fleet, rollout).state == "completed"
    assert fleet.told("last") == [1]


def test_offline_devices_do_not_stop_a_stage_that_is_otherwise_confirmed(fleet: Cameras) -> None:
    rollout = start(fleet, 1)
    fleet.obey("cam-1", "cam-2", "cam-3")
    fleet.offline("cam-4")
    tick(fleet)
    assert look(fleet, rollout).state == "running"
    tick(fleet, 60)
    assert look(fleet, rollout).state == "completed"
    assert fleet.told("cam-4") == [1]


def test_a_revoked_device_is_nobodys_evidence(fleet: Cameras) -> None:
    rollout = start(fleet, 1)
    with fleet.hub.database.write() as session:
        device = session.get(Device, (fleet.hub.tenant, "cam-4"))
        assert device is not None
        device.revoked_at = fleet.now
    fleet.obey("cam-1", "cam-2", "cam-3")
    tick(fleet)
    assert look(fleet, rollout).state == "completed"


def test_a_hub_that_died_between_commit_and_publish_publishes_at_the_next_tick(
    fleet: Cameras, hub_published: list[Outbound]
) -> None:
    rollout = start(fleet, 1)  # committed, and nothing published: as if the hub had died here
    assert hub_published == []
    tick(fleet)
    assert sorted(message.topic.split("/")[4] for message in hub_published) == NAMES
    tick(fleet)
    assert len(hub_published) == 4, "once is enough"
    fleet.obey(*NAMES)
    tick(fleet)
    assert look(fleet, rollout).state == "completed"


class TestRefusals:
    def test_a_version_that_is_not_there_or_not_compiled(self, fleet: Cameras) -> None:
        assert refused(fleet, 9) == "unknown-version"
        version = fleet.compile(OTHER_PROFILE)
        with pytest.raises(RolloutError, match=f"not compiled for {PROFILE}"):
            start(fleet, version)

    def test_nobody_to_roll_out_to(self, fleet: Cameras) -> None:
        assert refused(fleet, 1, group="nowhere") == "no-devices"

    def test_one_rollout_of_a_model_at_a_time_on_a_device(self, fleet: Cameras) -> None:
        fleet.enroll("cam-5", group="district-b")
        rollout = start(fleet, 1, group="district-a")
        assert refused(fleet, 1) == "rollout-running"
        assert refused(fleet, 1, group="district-a") == "rollout-running"
        by_hand(fleet, rollout, "pause")
        assert refused(fleet, 1, group="district-a") == "rollout-running"
        other = start(fleet, 1, group="district-b")
        assert look(fleet, other).state == "running"

    def test_everybody_has_it(self, fleet: Cameras) -> None:
        complete(fleet, 1, *NAMES)
        assert refused(fleet, 1) == "already-assigned"

    @pytest.mark.parametrize(
        "stages",
        [
            [StageIn()],
            [StageIn(count=1, percent=5), StageIn(percent=100)],
            [StageIn(count=1), StageIn(percent=50)],
        ],
    )
    def test_a_plan_that_says_too_little_or_too_much(self, fleet: Cameras, stages: list[StageIn]) -> None:
        assert refused(fleet, 1, stages=stages) == "bad-plan"

    def test_a_deadline_within_the_soak(self, fleet: Cameras) -> None:
        assert refused(fleet, 1, soak=60.0, deadline=60.0) == "bad-plan"


def test_devices_whose_profile_the_version_is_not_compiled_for_are_left_alone(fleet: Cameras) -> None:
    fleet.enroll("pi-1", profile=OTHER_PROFILE)
    rollout = complete(fleet, 1, *NAMES)
    assert sorted(device.device for device in look(fleet, rollout).devices) == NAMES
    assert fleet.told("pi-1") == [None]
