"""What serving may take: threads and memory; and that a model which takes the process down takes nothing else."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_builders import (
    MODEL,
    AgentProcess,
    Broker,
    HubKey,
    MiniHub,
    Requests,
    call,
    infer_body,
    make_bundle,
    make_desired,
    wait_for,
)
from bad_models import crashes, hoards

from edgewise_agent.serving.allowance import CHILD_MB, Allowance, allowance, has_grown, is_too_much
from edgewise_agent.serving.options import Options

INFER = f"/v2/models/{MODEL}/infer"
MB = 2**20
x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction traps on x86-64 alone")


@pytest.fixture
def hub(key: HubKey, broker: Broker) -> Iterator[MiniHub]:
    hub = MiniHub(key, broker)
    yield hub
    hub.close()


@pytest.fixture
def agent(tmp_path: Path, key: HubKey, broker: Broker) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path / "agent", key, broker.url)
    yield agent
    agent.stop()


def test_the_owner_goes_before_the_profile() -> None:
    pi = allowance("raspberry-pi-5", Options())
    assert pi == Allowance(threads=2, memory_mb=None, model_mb=1024)
    assert pi.bytes(2) == (CHILD_MB + 2 * 1024) * MB
    owner = allowance("raspberry-pi-5", Options(threads=1, memory_mb=200))
    assert owner.threads == 1 and owner.bytes(1) == owner.bytes(9) == 200 * MB
    assert allowance("a-board-of-mine", Options()) == Allowance() and Allowance().bytes(3) is None


def test_only_a_child_that_was_smaller_has_grown() -> None:
    assert not has_grown(90 * MB, 60 * MB, 100 * MB), "it may"
    assert has_grown(101 * MB, 60 * MB, 100 * MB)
    assert not has_grown(120 * MB, 110 * MB, 100 * MB), "anew it would be as large"
    assert not has_grown(10**12, MB, None)
    assert is_too_much(151 * MB, 60 * MB, 100 * MB) and not is_too_much(149 * MB, 60 * MB, 100 * MB)


@x86_only
def test_a_model_that_crashes_the_process_leaves_the_active_one_serving(
    agent: AgentProcess, hub: MiniHub, key: HubKey
) -> None:
    agent.start()
    first, bad = make_bundle(key, 1), make_bundle(key, 2, model_bytes=crashes(at=0))
    hub.publish(make_desired(1, first), first)
    wait_for(lambda: hub.runs(first), "the first version is confirmed")
    pid, load = agent.serve_pid(), Requests(agent.url + INFER)
    try:
        hub.publish(make_desired(2, bad), bad)
        wait_for(lambda: "failed" in hub.steps(bad), "the second one failed")
    finally:
        load.stop()
    (failure,) = [progress for progress in hub.progress if progress.step == "failed"]
    assert failure.code == "smoke-failed" and "SIGFPE" in failure.reason
    assert load.failures == [] and set(load.versions) == {"1"}
    assert agent.serve_pid() == pid, "the child that serves never noticed"


@x86_only
def test_one_that_crashes_on_some_requests_does_not_come_through_its_trial(
    agent: AgentProcess, hub: MiniHub, key: HubKey
) -> None:
    agent.start()
    first, bad = make_bundle(key, 1), make_bundle(key, 2, model_bytes=crashes(at=5))
    hub.publish(make_desired(1, first), first)
    wait_for(lambda: hub.runs(first), "the first version is confirmed")
    hub.publish(make_desired(2, bad, trial_s=3600), bad)

    def gone_back() -> bool:
        try:
            call(agent.url + INFER, infer_body(5.0))
        except OSError:
            pass  # that request took the child with it
        return "failed" in hub.steps(bad) and hub.runs(first)

    wait_for(gone_back, "the first version serves again")
    assert call(agent.url + INFER, infer_body(5.0))[1]["model_version"] == "1"


def test_a_child_that_outgrows_its_memory_is_replaced_without_a_failed_request(
    agent: AgentProcess, hub: MiniHub, key: HubKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.start()
    bundle = make_bundle(key, 1, model_bytes=hoards())
    hub.publish(make_desired(1, bundle), bundle)
    wait_for(lambda: hub.runs(bundle), "the version is confirmed")
    small = rss_mb(agent.serve_pid())
    agent.stop()
    monkeypatch.setenv("EDGEWISE_AGENT_SERVE_MEMORY_MB", str(round(1.4 * small)))
    agent.start()
    pid = agent.serve_pid()
    load = Requests(agent.url + INFER, threads=1)
    try:
        items = round(0.5 * small) * 2  # half of what it was, at 512 KB an item
        assert call(agent.url + INFER, infer_body(0.5, n=items))[0] == 200

        wait_for(lambda: agent.serve_pid() != pid, "another child serves")
    finally:
        load.stop()
    assert load.failures == []


def rss_mb(pid: int) -> float:
    """Of a process that runs."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MB
