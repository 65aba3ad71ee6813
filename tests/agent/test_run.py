"""``edgewise-agent run`` against a real mosquitto: install, switch, windows, acks, crashes, power cuts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from agent_builders import (
    DEVICE,
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

from edgewise.wire.blocks import BLOCK_SIZE
from edgewise.wire.codec import decode_msgpack
from edgewise.wire.control import SampleRequest
from edgewise.wire.windows import Window
from edgewise_agent.store.disk import Disk
from edgewise_agent.windows.consent import Grant, save_grants

INFER = f"/v2/models/{MODEL}/infer"


@pytest.fixture
def hub(key: HubKey, broker: Broker) -> Iterator[MiniHub]:
    hub = MiniHub(key, broker)
    yield hub
    hub.close()


@pytest.fixture
def agent(tmp_path: Path, key: HubKey, broker: Broker) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path / "agent", key, broker.url)
    agent.start()
    yield agent
    agent.stop()


def install(agent: AgentProcess, hub: MiniHub, key: HubKey, generation: int, version: int, **options: object):
    bundle = make_bundle(key, version, **options)  # type: ignore[arg-type]
    hub.publish(make_desired(generation, bundle), bundle)
    wait_for(lambda: hub.runs(bundle), f"version {version} confirmed")
    return bundle


def test_installs_switches_and_reports_each_step(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    assert call(agent.url + INFER, infer_body())[0] == 404
    first = install(agent, hub, key, 1, 1)
    status, answer = call(agent.url + INFER, infer_body(id="r-1"))
    assert (status, answer["model_version"], answer["id"]) == (200, "1", "r-1")
    assert [output["name"] for output in answer["outputs"]] == ["scores"]

    load = Requests(agent.url + INFER)
    second = install(agent, hub, key, 2, 2)
    load.stop()
    assert load.failures == []
    assert call(agent.url + INFER, infer_body())[1]["model_version"] == "2"
    assert hub.steps(second)[-3:] == ["installed", "trial", "confirmed"]
    assert first.digest != second.digest
    assert not (agent.data / "blobs" / "sha256" / first.digest).exists(), "the confirmed bundle's predecessor is gone"
    assert hub.presence[-1].online
    reported = hub.reported
    assert reported is not None and reported.facts["url"] == agent.url
    agent.stop()
    wait_for(lambda: not hub.presence[-1].online, "the agent said goodbye")
    assert agent.process.returncode == 0


def test_without_a_model_there_is_one_process(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    own, asked, done = psutil.Process(agent.process.pid), [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            asked.append(call(agent.url + "/v2/health/ready")[0])

    assert agent.serve_pid() == own.pid and own.children() == []
    with ThreadPoolExecutor(2) as pool:
        threads = [pool.submit(ask) for _ in range(2)]
        try:
            install(agent, hub, key, 1, 1)
            assert [child.pid for child in own.children()] == [agent.serve_pid()]
            assert call(agent.url + INFER, infer_body())[0] == 200
            hub.publish(make_desired(2, None))
            wait_for(lambda: own.children() == [], "the serve child has left")
        finally:
            done.set()
        assert [thread.result() for thread in threads] == [None, None]
    assert agent.serve_pid() == own.pid and set(asked) == {200}
    assert call(agent.url + INFER, infer_body())[0] == 404


def test_windows_wait_for_the_ack_and_survive_kill_9(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    bundle = install(agent, hub, key, 1, 1)
    hub.acking = False
    for _ in range(3):
        call(agent.url + INFER, infer_body())
    sent = wait_for(lambda: list(hub.windows), "a window")
    spool = agent.data / "spool" / "inference"

    def kept() -> int:
        windows = [decode_msgpack(path.read_bytes(), Window) for path in spool.glob("*.msg")]
        return sum(window.counters.inferences for window in windows)

    wait_for(lambda: kept() == 3, "no ack: it is kept")
    agent.kill()
    agent.start()
    wait_for(lambda: len(hub.windows) > len(sent), "sent again after the restart")
    hub.acking = True
    hub.ack("inference", sent[-1].epoch, hub.windows[-1].last)
    wait_for(lambda: not list(spool.glob("*.msg")), "trimmed by the ack")
    by_number = {(w.epoch, w.first): w for w in hub.windows}
    assert sum(w.counters.inferences for w in by_number.values()) == 3
    assert all(w.device == DEVICE and w.bundle == bundle.digest for w in hub.windows)
    assert all(w.spec == bundle.manifest.blobs["sketch"].sha256 for w in hub.windows)
    assert {"latency", "embedding", "classes", "confidence"} == set(hub.windows[0].sketches)
    call(agent.url + INFER, infer_body())
    wait_for(lambda: hub.windows[-1].last > sent[-1].last, "the numbers go on")
    assert hub.windows[-1].uncertainty is not None, "the ack said what time it is"
    assert abs(hub.windows[-1].start + hub.windows[-1].duration - time.time()) < 600
    wait_for(lambda: hub.healths, "how the device is")
    assert hub.healths[-1].gauges["disk_free"].mean > 0


def test_windows_made_before_anybody_knew_the_time_are_placed_once_it_is_known(
    agent: AgentProcess, hub: MiniHub, key: HubKey
) -> None:
    began, hub.acking = time.time(), False
    install(agent, hub, key, 1, 1)
    spool = agent.data / "spool" / "inference"

    def make_windows(number: int) -> None:
        def enough() -> bool:
            call(agent.url + INFER, infer_body())
            return len(list(spool.glob("*.msg"))) >= number

        wait_for(enough, f"{number} windows wait")

    make_windows(3)
    agent.kill()
    agent.start()
    make_windows(6)
    heard = wait_for(lambda: list(hub.windows), "one goes out, to learn the time by its ack")
    assert {window.first for window in heard} == {1} and heard[-1].uncertainty is None
    hub.acking = True
    hub.ack("inference", heard[-1].epoch, 1)
    placed = wait_for(lambda: [w for w in list(hub.windows) if 2 <= w.first <= 6][4:] and list(hub.windows), "the rest")
    first = {window.first: window for window in placed if window.first > 1}
    assert sorted(first)[:5] == [2, 3, 4, 5, 6] and all(w.uncertainty is not None for w in first.values())
    at = [first[number].start for number in (2, 3, 4, 5, 6)]
    off = max(window.uncertainty or 0.0 for window in first.values())
    assert at == sorted(at) and began - off <= at[0] and at[-1] <= time.time() + off


def test_download_resumes_after_kill_9(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    old = install(agent, hub, key, 1, 1)
    new = make_bundle(key, 2, padding=8 * 1024 * 1024)
    hub.publish(make_desired(2, new), new)
    wait_for(lambda: list((agent.data / "blobs" / "sha256").glob("*.have")), "mid-download")
    hub.serving_blocks = False
    agent.kill()
    agent.start()
    assert call(agent.url + INFER, infer_body())[1]["model_version"] == "1", "the old version serves"
    before, hub.serving_blocks = hub.blocks_sent, True
    wait_for(lambda: hub.runs(new), "version 2 confirmed")
    assert hub.blocks_sent - before < 8 * 1024 * 1024 // BLOCK_SIZE, "what was on disk was not asked for again"
    assert old.digest != new.digest


def test_crashing_version_goes_back(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    good = install(agent, hub, key, 1, 1)
    bad = make_bundle(key, 2)
    hub.publish(make_desired(2, bad, trial_s=60), bad)
    wait_for(lambda: hub.runs(bad, confirmed=False), "version 2 on trial")
    while not agent.lines.empty():
        agent.lines.get()
    for _ in range(2):
        os.kill(agent.serve_pid(), signal.SIGKILL)
        agent.listening()
    wait_for(lambda: hub.runs(good), "version 1 is back")
    wait_for(lambda: "failed" in hub.steps(bad), "the failure is told")
    assert hub.reported is not None
    failure = hub.reported.models[MODEL].failed[0]
    assert (failure.bundle, failure.code, failure.generation) == (bad.digest, "crash-loop", 2)
    assert call(agent.url + INFER, infer_body())[1]["model_version"] == "1"
    hub.publish(make_desired(3, bad, trial_s=0.2), bad)
    wait_for(lambda: hub.runs(bad), "tried again in a new generation")


def test_confirmed_child_that_dies_is_restarted(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    install(agent, hub, key, 1, 1)
    while not agent.lines.empty():
        agent.lines.get()
    pid = agent.serve_pid()
    os.kill(pid, signal.SIGKILL)
    assert agent.listening()["serve_pid"] != pid
    assert call(agent.url + INFER, infer_body())[0] == 200


def test_what_does_not_pass_smoke_never_serves(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    install(agent, hub, key, 1, 1)
    bad = make_bundle(key, 2, model_bytes=b"this is no model")
    hub.publish(make_desired(2, bad), bad)
    wait_for(lambda: "failed" in hub.steps(bad), "load failed")
    assert next(p.code for p in hub.progress if p.step == "failed") == "load-failed"
    assert call(agent.url + INFER, infer_body())[1]["model_version"] == "1"


def test_wrong_bytes_are_fetched_once_more_then_given_up(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    bad = make_bundle(key, 1)
    hub.corrupt = bad.manifest.blobs["model"].sha256
    hub.publish(make_desired(1, bad), bad)
    wait_for(lambda: "failed" in hub.steps(bad), "bad blob")
    assert hub.progress[-1].code == "bad-blob"
    assert not (agent.data / "blobs" / "sha256" / hub.corrupt).exists()


def test_refused_desired_state_changes_nothing_and_is_told(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    bundle = install(agent, hub, key, 5, 1)
    old = make_bundle(key, 2)
    hub.publish(make_desired(4, old), old)
    wait_for(lambda: "rejected" in hub.steps(old), "rejected")
    wait_for(lambda: hub.reported and hub.reported.rejected, "reported")
    assert hub.reported is not None and hub.reported.rejected is not None
    assert hub.reported.rejected.code == "old-generation"
    assert hub.reported.generation == 5 and hub.runs(bundle)
    stranger = MiniHub(HubKey(), agent_broker(hub))
    stranger.publish(make_desired(9, old))
    wait_for(lambda: hub.reported and hub.reported.rejected and hub.reported.rejected.code == "bad-signature", "forged")
    stranger.close()
    assert hub.runs(bundle)


def agent_broker(hub: MiniHub) -> Broker:
    return hub.broker


def test_serves_without_a_hub_and_reconnects(agent: AgentProcess, hub: MiniHub, key: HubKey, broker: Broker) -> None:
    install(agent, hub, key, 1, 1)
    broker.stop(signal.SIGKILL)
    agent.kill()
    agent.start()
    assert call(agent.url + INFER, infer_body())[0] == 200
    spool = agent.data / "spool" / "inference"
    wait_for(lambda: list(spool.glob("*.msg")), "a window waits on disk")
    broker.start()
    wait_for(lambda: hub.windows and not list(spool.glob("*.msg")), "sent and acknowledged", 40)


def test_samples_leave_only_under_both_budgets(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    bundle = make_bundle(key, 1)
    hub.publish(make_desired(1, bundle, samples=SampleRequest(id="ask-1", count=3, bytes=10_000)), bundle)
    wait_for(lambda: hub.runs(bundle), "confirmed")
    feedback = f"{agent.url}/v2/models/{MODEL}/feedback"

    def label(name: str) -> int:
        assert call(agent.url + INFER, infer_body(id=name))[0] == 200
        return call(feedback, {"id": name, "label": 1})[0]

    assert label("before") == 204
    assert call(feedback, {"id": "unknown", "label": 1})[0] == 404
    save_grants(Disk(), agent.data, {MODEL: Grant(count=2, bytes=10_000)})
    wait_for(lambda: hub.reported and hub.reported.consent.get(MODEL), "consent is reported")
    for i in range(5):
        label(f"s-{i}")
    wait_for(lambda: hub.samples, "samples")
    wait_for(lambda: hub.reported and hub.reported.consent[MODEL].sent_count == 2, "spent is reported")
    taken = [s for batch in hub.samples for s in batch.samples]
    assert [s.request for s in taken] == ["s-0", "s-1"]
    assert all(s.label == 1 and len(s.input) == 64 for s in taken)
    assert (hub.samples[0].dtype, hub.samples[0].shape, hub.samples[0].request_id) == ("FP32", [1, 4, 4], "ask-1")


def test_going_elsewhere_during_a_trial(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    first = install(agent, hub, key, 1, 1)
    second, third = make_bundle(key, 2), make_bundle(key, 3)
    hub.publish(make_desired(2, second, trial_s=60), second)
    wait_for(lambda: hub.runs(second, confirmed=False), "version 2 on trial")
    assert hub.reported is not None and hub.reported.models[MODEL].confirmed == first.digest
    sent = hub.blocks_sent
    hub.publish(make_desired(3, first, trial_s=60))
    wait_for(lambda: hub.runs(first), "back by the hub's wish")
    assert hub.blocks_sent == sent, "it was still here"
    hub.publish(make_desired(4, third, trial_s=0.2), third)
    wait_for(lambda: hub.runs(third), "and on to version 3")
