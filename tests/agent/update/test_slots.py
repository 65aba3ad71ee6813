"""What decides is pure: which slot starts, what the agent does, and what a wheel may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_builders import HubKey
from releases import zipped

from edgewise.wire.control import Duty
from edgewise_agent.store.disk import Disk
from edgewise_agent.update import slots, wheels
from edgewise_agent.update.own import decide
from edgewise_agent.update.slots import BASE, MAX_FAST_CRASHES, MAX_STARTS, Release, Slots

R1, R2 = (Release(letter * 64, version, version) for letter, version in (("a", 1), ("b", 2)))
WISH = Duty(bundle=R2.bundle, size=10, version=2, release=2)


def test_a_release_is_staged_tried_and_confirmed() -> None:
    first = slots.confirm(slots.count_start(slots.stage(Slots(), R1, 600)))
    assert (first.active, first.trial, first.release("a")) == ("a", None, R1)
    second = slots.stage(first, R2, 600)
    assert (slots.starts(second, 0), second.active, second.release("b")) == ("b", "a", R2)
    assert slots.confirm(second).active == "b"
    third = slots.stage(slots.confirm(second), R1, 600)
    assert third.trial is not None and third.trial.slot == "a"


def test_too_many_starts_are_the_end_of_a_trial() -> None:
    kept = slots.stage(slots.confirm(slots.stage(Slots(), R1, 600)), R2, 600)
    for count in range(1, MAX_STARTS + 1):
        kept = slots.count_start(kept)
        assert kept.trial is not None and kept.trial.starts == count
    kept = slots.count_start(kept)
    assert kept.trial is None and slots.starts(kept, 0) == "a"
    assert kept.failed is not None and (kept.failed.bundle, kept.failed.code) == (R2.bundle, "crash-loop")


def test_a_confirmed_slot_that_cannot_start_gives_way() -> None:
    kept = slots.confirm(slots.stage(Slots(), R1, 600))
    assert [slots.starts(kept, n) for n in (0, MAX_FAST_CRASHES - 1, MAX_FAST_CRASHES)] == ["a", "a", BASE]


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert slots.load(tmp_path) == Slots()
    kept = slots.fail(slots.stage(slots.confirm(slots.stage(Slots(), R1, 600)), R2, 600), "not-confirmed", "in time")
    for state in (kept, slots.stage(kept, R2, 5.0)):
        (tmp_path / "agent").mkdir(exist_ok=True)
        (tmp_path / slots.FILE).write_bytes(slots.encode(state))
        assert slots.load(tmp_path) == state
    for damaged in (b"", b"[]", b'{"active": 1}', b"\xff"):
        (tmp_path / slots.FILE).write_bytes(damaged)
        assert slots.load(tmp_path) == Slots(), "the base install always starts"


ON_TRIAL = slots.stage(slots.confirm(slots.stage(Slots(), R1, 600)), R2, 600)
SETTLED = slots.confirm(slots.stage(Slots(), R1, 600))


@pytest.mark.parametrize(
    ("kept", "running", "wish", "more", "step"),
    [
        (SETTLED, "a", WISH, {"whole": True}, "stage"),
        (SETTLED, "a", WISH, {}, "nothing"),
        (SETTLED, "a", WISH, {"whole": True, "failed": True}, "nothing"),
        (SETTLED, "a", None, {"whole": True}, "nothing"),
        (SETTLED, "a", None, {"taken_back": True}, "leave"),
        (SETTLED, BASE, None, {"taken_back": True}, "nothing"),
        (SETTLED, None, None, {"taken_back": True}, "nothing"),
        (SETTLED, None, WISH, {"whole": True}, "refuse"),
        (SETTLED, None, WISH, {"failed": True}, "nothing"),
        (Slots(), BASE, WISH, {"whole": True}, "stage"),
        (slots.confirm(ON_TRIAL), "b", WISH, {"whole": True}, "nothing"),
        (ON_TRIAL, "b", WISH, {"whole": True, "healthy_s": 4.0}, "nothing"),
        (ON_TRIAL, "b", WISH, {"whole": True, "healthy_s": 5.0}, "confirm"),
        (ON_TRIAL, "b", None, {"healthy_s": 5.0}, "confirm"),
        (ON_TRIAL, "b", None, {"taken_back": True}, "nothing"),
        (ON_TRIAL, "a", WISH, {"whole": True, "healthy_s": 5.0}, "nothing"),
    ],
)
def test_what_the_agent_does(kept: Slots, running: str | None, wish: Duty | None, more: Any, step: str) -> None:
    facts = {"whole": False, "failed": False, "taken_back": False, "healthy_s": 0.0, "trial_s": 5.0, **more}
    assert decide(kept, running, wish, **facts) == step


GOOD = {"edgewise_agent/main.py": b"", "edgewise/__init__.py": b""}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"edgewise/__init__.py": b""}, "the wheels of edgewise and edgewise-agent"),
        ({**GOOD, "../outside.py": b""}, "not inside"),
        ({**GOOD, "/etc/passwd": b""}, "not inside"),
        ({**GOOD, "x\\..\\y": b""}, "not inside"),
        ({**GOOD, "edgewise_agent/fast.so": b""}, "pure Python"),
        ({**GOOD, **{f"f{n}": b"" for n in range(wheels.MAX_FILES)}}, "at most"),
    ],
)
def test_wheels_that_are_refused_leave_the_slot_alone(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    (tmp_path / "x.whl").write_bytes(zipped(files))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").touch()
    with pytest.raises(wheels.BadWheel, match=reason):
        wheels.unpack(Disk(), [tmp_path / "x.whl"], tmp_path / "a")
    assert (tmp_path / "a" / "kept").exists() and not (tmp_path / "outside.py").exists()


def test_a_wheel_is_bounded_and_read_with_care(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MAX_BYTES", 1000)
    for name, data in (("bomb", zipped({**GOOD, "x": bytes(1001)})), ("no zip", b"PK no zip"), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(wheels.BadWheel):
            wheels.unpack(Disk(), [tmp_path / name], tmp_path / "a")


def test_what_was_in_the_slot_is_gone(tmp_path: Path, key: HubKey) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "old.py").touch()
    (tmp_path / "x.whl").write_bytes(zipped({**GOOD, "x-1.data/scripts/run": b"", "edgewise/wire/__init__.py": b"new"}))
    wheels.unpack(Disk(), [tmp_path / "x.whl"], tmp_path / "a")
    found = sorted(
        path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file()
    )
    assert found == ["edgewise/__init__.py", "edgewise/wire/__init__.py", "edgewise_agent/main.py"]
