"""The hub as a real process: how it starts, what it refuses, how it stops, and what survives kill -9."""

from __future__ import annotations

import json
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewise.wire import topics
from edgewise_hub.fleet import desired
from edgewise_hub.hub import Hub
from edgewise_hub.mqtt.mosquitto import running
from edgewise_hub.settings import Settings, SettingsError

from .conftest import HubProcess, Peer, add_version, edgewise, enroll, eventually
from .test_desired import assign

StartHub = Callable[..., HubProcess]


def fails(*arguments: str, **environment: str) -> str:
    """Run ``edgewise`` to its end: it fails with one line, which this gives."""
    process = edgewise(*arguments, **environment)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, ""), err
    assert err.count("\n") == 1, err
    return err


def test_a_hub_starts_serves_its_command_line_and_stops_leaving_nothing(start_hub: StartHub, tmp_path: Path) -> None:
    hub = start_hub(tmp_path / "data")
    token_file = tmp_path / "data" / "operator.token"
    assert token_file.read_text() == hub.ready["operator_token"]
    for private in ("operator.token", "hub.json", "signing.key", "hub.db", "broker/password", "broker/mosquitto.conf"):
        assert stat.S_IMODE((tmp_path / "data" / private).stat().st_mode) & 0o077 == 0, private
    with hub.client as client:
        assert client.get("/readyz").status_code == 200
        assert client.get("/api/v1/system").json()["broker_connected"] is True

    made = edgewise("hub", "token", "--group", "lab", "--uses", "3", EDGEWISE_DATA=str(tmp_path / "data"))
    out, err = made.communicate(timeout=30)
    assert (made.returncode, err) == (0, "")
    assert out.startswith("ewj_") and out.count("\n") == 1
    opened = edgewise("hub", "open", "--json", EDGEWISE_DATA=str(tmp_path / "data"))
    out, err = opened.communicate(timeout=30)
    answer = json.loads(out)
    assert (answer["url"], len(answer["code"])) == (hub.ready["url"], 8)

    assert "a hub runs on it already" in fails("hub", "up", "--data", str(tmp_path / "data"), "--port", "0")
    broker = hub.broker_pid()
    assert hub.stop() == 0
    assert not running(broker)
    assert not (tmp_path / "data" / "hub.json").exists()

    port = (tmp_path / "data" / "broker" / "port").read_text()
    again = start_hub(tmp_path / "data")
    assert "operator_token" not in again.ready, "shown at the first start alone"
    assert (tmp_path / "data" / "broker" / "port").read_text() == port, "devices find the broker again"
    with again.client as client:
        assert client.get("/api/v1/system").status_code == 200


def test_events_are_streamed_live_and_end_with_the_hub(start_hub: StartHub, tmp_path: Path) -> None:
    hub = start_hub(tmp_path / "data")
    with hub.client as client, client.stream("GET", "/api/v1/events") as stream:
        lines = stream.iter_lines()
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert next(lines) == "retry: 1000"
        enroll(hub.client, "cam-1")
        heard = [next(line for line in lines if line.startswith("event:")), next(lines)]
        assert heard == ["event: device", 'data: {"id": "cam-1"}']
        hub.process.send_signal(signal.SIGINT)
        assert [line for line in lines if line.startswith("event:")] in ([], ["event: device"])
    assert hub.process.wait(15) == 0


def test_a_signal_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    process = edgewise("hub", "up", "--data", str(tmp_path), "--port", "0")
    eventually((tmp_path / "broker" / "pid").exists, "the broker's start")
    process.send_signal(signal.SIGTERM)
    broker = int((tmp_path / "broker" / "pid").read_text())
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert not running(broker)


def test_what_was_committed_before_kill_9_is_published_at_the_next_start(
    start_hub: StartHub, tmp_path: Path, peers: Callable[..., Peer]
) -> None:
    data = tmp_path / "data"
    hub = start_hub(data)
    identity = enroll(hub.client, "cam-1")
    orphan = hub.broker_pid()
    hub.process.kill()
    hub.process.wait()
    # What the hub would have committed just before it was killed, and not published yet.
    offline = Hub.open(Settings(data=data))
    (bundle,) = add_version(offline, tmp_path)
    assert assign(offline, "cam-1", 1) == ["cam-1"]
    assert desired.publish_pending(offline) == 0
    offline.database.close()

    start_hub(data)
    assert not running(orphan), "the broker that was left behind is ended first"
    peer = peers(identity)
    peer.subscribe(topics.desired("main", "cam-1"))
    eventually(
        lambda: any(bundle.digest.encode() in state for state in peer.hears(topics.desired("main", "cam-1"))),
        "the state that was committed",
    )


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        error = fails("hub", "up", "--data", str(tmp_path / "a"), "--port", port)
        assert f"port {port}" in error and "--port" in error
        error = fails("hub", "up", "--data", str(tmp_path / "b"), "--port", "0", "--broker-port", port)
        assert f"port {port}" in error and "--broker-port" in error


def test_without_mosquitto_it_says_how_to_get_it(tmp_path: Path) -> None:
    error = fails("hub", "up", "--data", str(tmp_path), "--port", "0", PATH="")
    assert "apt-get install mosquitto" in error and "EDGEWISE_BROKER_URL" in error


def test_a_broker_of_ones_own_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    error = fails("hub", "up", "--data", str(tmp_path), "--port", "0", EDGEWISE_BROKER_URL="http://u:hunter2@127.0.0.1")
    assert "expected mqtt://" in error and "hunter2" not in error


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org"])
def test_the_hub_listens_on_loopback_only(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError, match="loopback only"):
        Settings(data=tmp_path, host=host)


def test_the_command_line_refuses_another_address_in_one_line(tmp_path: Path) -> None:
    assert "loopback only" in fails("hub", "up", "--data", str(tmp_path), "--host", "0.0.0.0")


def test_a_bad_profile_is_named(tmp_path: Path) -> None:
    (tmp_path / "toaster.toml").write_text("schema = 1\n")
    error = fails("hub", "up", "--data", str(tmp_path / "data"), "--port", "0", "--profiles", str(tmp_path))
    assert "toaster.toml" in error
