"""The ledger of privacy: written before a window leaves, composed over windows, and final at the owner's limit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgewise.privacy import epsilon_of, rho_of
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise_agent.serving.channel import WindowClosed
from edgewise_agent.serving.options import BadOption, Privacy, of_owner
from edgewise_agent.store.disk import Disk, DiskError
from edgewise_agent.windows.collector import Collector
from edgewise_agent.windows.privacy import FILE, Keeper, LedgerDamaged, load

SPEC = SketchSpec(classes=3)
OWNER = Privacy(epsilon=1.0, delta=1e-6)


def window(privacy: Privacy | None = OWNER, items: int = 50) -> WindowClosed:
    filling = Collector(
        model="m", version=1, bundle="b" * 64, spec=SPEC, spec_digest="5" * 64, projection=None, window_s=1.0,
        now=0.0, clock=0.0, privacy=privacy,
    )  # fmt: skip
    filling.record(items, 0, 0.001, np.eye(3, dtype=np.float32)[np.zeros(items, int)], None)
    closed = filling.poll(2.0, 2.0)
    assert closed is not None
    return closed


def test_a_window_has_noise_where_its_owner_wants_it_alone() -> None:
    assert WindowSketches.decode(SPEC, window(None).sketches).classes.counts.tolist() == [50, 0, 0]
    private = window()
    sketches = WindowSketches.decode(SPEC, private.sketches)
    assert sketches.classes.noise > 0 and sketches.latency.noise == 0
    assert 0 < private.rho <= rho_of(1.0, 1e-6)


def test_what_windows_cost_adds_up_and_survives(tmp_path: Path) -> None:
    keeper = Keeper(Disk(), tmp_path, OWNER)
    sent = [window() for _ in range(4)]
    assert [keeper.passed(one) for one in sent] == sent
    again = Keeper(Disk(), tmp_path, OWNER)
    assert again.ledger.models["m"].windows == 4
    assert again.ledger.epsilon("m") == pytest.approx(epsilon_of(sum(one.rho for one in sent), 1e-6))
    assert 1.9 < again.facts()["privacy_epsilon"] < 2.2, "four windows cost about twice one"
    assert load(tmp_path).report()["m"]["windows"] == 4


def test_over_the_limit_no_sketch_of_the_data_leaves(tmp_path: Path) -> None:
    keeper = Keeper(Disk(), tmp_path, Privacy(epsilon=1.0, limit=1.5))
    left = [set(keeper.passed(window()).sketches) for _ in range(4)]
    assert left == [{"latency", "classes"}] * 2 + [{"latency"}] * 2
    assert keeper.ledger.models["m"].withheld == 2 and keeper.ledger.epsilon("m") <= 1.5


class FullDisk(Disk):
    """No room."""

    def replace(self, path: Path, data: bytes) -> None:
        raise DiskError(f"{path}: full")


def test_nothing_leaves_whose_cost_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DiskError):
        Keeper(FullDisk(), tmp_path, OWNER).passed(window())


def test_a_damaged_ledger_stops_an_agent_with_privacy_and_no_other(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"delta": 7}))
    with pytest.raises(LedgerDamaged, match="nobody knows what was spent"):
        Keeper(Disk(), tmp_path, OWNER)
    plain = window(None)
    assert Keeper(Disk(), tmp_path, Privacy()).passed(plain) is plain


def test_the_owner_says_so_in_the_environment() -> None:
    chosen = of_owner({"EDGEWISE_AGENT_PRIVACY_EPSILON": "0.5", "EDGEWISE_AGENT_PRIVACY_LIMIT": "8"}).privacy
    assert (chosen.epsilon, chosen.delta, chosen.limit, chosen.on) == (0.5, 1e-6, 8.0, True)
    assert not of_owner({}).privacy.on
    with pytest.raises(BadOption, match="PRIVACY"):
        of_owner({"EDGEWISE_AGENT_PRIVACY_EPSILON": "-1"})
