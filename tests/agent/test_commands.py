"""The commands of whoever stands beside the device: what is here, what is wrong, what to do."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_builders import (
    MODEL,
    AgentProcess,
    Broker,
    HubKey,
    MiniHub,
    free_port,
    identity,
    infer_body,
    make_bundle,
    make_desired,
    wait_for,
    write_blobs,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgewise.wire.control import Failure
from edgewise_agent import identity as identities
from edgewise_agent import logs
from edgewise_agent.commands import doctor
from edgewise_agent.commands.unit import UNIT
from edgewise_agent.main import main
from edgewise_agent.notify import Notifier
from edgewise_agent.store import installs as rules
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk
from edgewise_agent.store.installs import Install, Installs
from edgewise_agent.trust import STATE_FILE

SECRET = "a-secret-of-the-device"


def cli(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgewise_agent.main", *arguments, "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_whoever_stands_beside_the_device_is_told(tmp_path: Path, key: HubKey, broker: Broker) -> None:
    data = tmp_path / "agent"
    agent, hub = AgentProcess(data, key, broker.url), MiniHub(key, broker)
    try:
        agent.start()
        bundle = make_bundle(key, 1)
        hub.publish(make_desired(1, bundle), bundle)
        wait_for(lambda: hub.runs(bundle), "confirmed")
        model = json.loads(cli(data, "models", "--json").stdout)[0]
        assert (model["model"], model["version"], model["duty"], model["whole"]) == (MODEL, 1, "active", True)
        assert [tensor["name"] for tensor in model["inputs"]] == ["image"]

        np.savez(tmp_path / "x.npz", image=np.full((1, 1, 4, 4), 0.5, np.float32))
        np.save(tmp_path / "x.npy", np.full((1, 1, 4, 4), 0.5, np.float32))
        (tmp_path / "x.json").write_text(json.dumps(infer_body()))
        answers = [json.loads(cli(data, "infer", str(tmp_path / f"x.{kind}"), "--json").stdout) for kind in KINDS]
        assert answers[0]["outputs"] == answers[1]["outputs"] == answers[2]["outputs"]
        assert answers[0]["model_version"] == "1"
        wrong = cli(data, "infer", str(tmp_path / "x.npz"), "--model", "other")
        assert wrong.returncode == 1 and "404" in wrong.stderr

        findings = {f["check"]: f for f in json.loads(cli(data, "doctor", "--json").stdout)}
        assert all(f["ok"] for f in findings.values()), findings
        assert {"disk", "identity", "clock", "broker", "agent", f"model {MODEL}"} == set(findings)

        lines = [json.loads(line) for line in cli(data, "logs", "--json", "-n", "500").stdout.splitlines()]
        assert any("action: Confirm" in line["message"] for line in lines)
        assert len(cli(data, "logs", "-n", "2").stdout.splitlines()) == 2
        assert "running" in json.loads(cli(data, "status", "--json").stdout)
        written = b"".join(path.read_bytes() for path in [*(data / "logs").iterdir(), data / "agent.log"])
        assert written and SECRET.encode() not in written
    finally:
        agent.stop()
        hub.close()


KINDS = ("npz", "npy", "json")


def enrolled(data: Path, key: HubKey, broker_url: str) -> Path:
    disk = Disk()
    disk.folder(data)
    identities.save(disk, data, identity(key, broker_url))
    return data


def wrong(data: Path, clock: float | None = None, port: int | None = None) -> dict[str, doctor.Finding]:
    now = time.time() if clock is None else clock
    found = doctor.examine(data, port or free_port(), lambda: now)
    return {finding.check: finding for finding in found if not finding.ok}


def test_doctor_names_a_device_without_identity(tmp_path: Path) -> None:
    finding = wrong(tmp_path)["identity"]
    assert "not enrolled" in finding.found and "edgewise-agent enroll" in finding.do


def test_doctor_names_a_broker_that_is_away_and_one_that_has_no_name(tmp_path: Path, key: HubKey) -> None:
    away = wrong(enrolled(tmp_path / "a", key, f"mqtt://127.0.0.1:{free_port()}"))["broker"]
    assert "unreachable" in away.found and "firewall" in away.do
    assert "no such name" in wrong(enrolled(tmp_path / "b", key, "mqtt://no-such-host.invalid:1883"))["broker"].found


def test_doctor_names_a_revoked_identity(tmp_path: Path, key: HubKey) -> None:
    broker = Broker(tmp_path / "broker")
    broker.start()
    broker.stop()
    configuration = tmp_path / "broker" / "mosquitto.conf"
    (tmp_path / "broker" / "passwords").touch()
    text = configuration.read_text().replace("allow_anonymous true", "allow_anonymous false")
    configuration.write_text(text + f"password_file {tmp_path}/broker/passwords\n")
    process = subprocess.Popen(["mosquitto", "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        wait_for(broker._answers, "mosquitto listens")
        finding = wrong(enrolled(tmp_path / "d", key, broker.url))["broker"]
        assert "Not authorized" in finding.found and "revoked" in finding.found and "join token" in finding.do
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def expired(tmp_path: Path) -> Iterator[int]:
    """A TLS port of localhost whose certificate has expired."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    then = datetime.now(timezone.utc) - timedelta(days=30)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(then)
        .not_valid_after(then + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(private, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    os.environ["SSL_CERT_FILE"] = str(pem)  # its authority is known: what is wrong is the date alone
    yield listener.getsockname()[1]
    del os.environ["SSL_CERT_FILE"]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_doctor_names_an_expired_certificate(tmp_path: Path, key: HubKey, expired: int) -> None:
    finding = wrong(enrolled(tmp_path / "d", key, f"mqtts://localhost:{expired}"))["broker"]
    assert "certificate has expired" in finding.found and "renew it" in finding.do


def test_doctor_names_a_clock_that_was_never_set_or_is_behind(tmp_path: Path, key: HubKey) -> None:
    data = enrolled(tmp_path, key, "mqtt://127.0.0.1:1")
    assert "1970-01-01" in wrong(data, clock=5.0)["clock"].found
    (data / STATE_FILE).write_text(json.dumps({"signed_time": 1_900_000_000.0}))
    finding = wrong(data, clock=1_800_000_000.0)["clock"]
    assert "2030" in finding.found and "timedatectl" in finding.do
    assert "clock" not in wrong(data, clock=1_900_000_100.0)


def test_doctor_names_a_token_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    places = f"a.example=file:{tmp_path / 'token'},b.example=file:{tmp_path / 'none'}"
    good, bad = doctor.check_tokens({"EDGEWISE_AGENT_SERVE_ESCALATE_TOKENS": places})
    assert good.ok and "a.example" in good.found and not bad.ok and "No such file" in bad.found and bad.do
    assert "s3cret" not in good.found + bad.found
    (wrong,) = doctor.check_tokens({"EDGEWISE_AGENT_SERVE_ESCALATE_TOKENS": "s3cret"})
    assert not wrong.ok and wrong.check == "options" and "s3cret" not in wrong.found


def test_doctor_names_a_port_that_is_taken(tmp_path: Path, key: HubKey) -> None:
    data = enrolled(tmp_path, key, "mqtt://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = wrong(data, port=taken.getsockname()[1])
    assert "in use" in found["port"].found and "--port" in found["port"].do
    assert "port" not in wrong(data)


def test_doctor_names_a_missing_runtime_a_lost_blob_and_a_failure(tmp_path: Path, key: HubKey) -> None:
    data = enrolled(tmp_path, key, "mqtt://127.0.0.1:1")
    bundle, other = make_bundle(key, 1, runtime="tensorrt"), make_bundle(key, 2)
    write_blobs(data / "blobs" / "sha256", bundle, other)
    kept = Installs(Disk(), data / "duties.json", BlobStore(Disk(), data / "blobs" / "sha256"))
    duties = rules.switch(kept.duties, MODEL, Install(bundle=bundle.digest, version=1, release=1))
    kept.save(duties)
    assert "tensorrt is not installed" in wrong(data)[f"model {MODEL}"].found
    failure = Failure(bundle="f" * 64, generation=4, code="crash-loop", reason="it crashed 2 times")
    kept.save(
        rules.fail(rules.switch(duties, MODEL, Install(bundle=other.digest, version=2, release=2)), MODEL, failure)
    )
    assert "generation 4: crash-loop" in wrong(data)[f"model {MODEL}"].found
    kept.save(rules.drop(kept.duties, MODEL))
    kept.save(rules.switch(kept.duties, MODEL, Install(bundle=other.digest, version=2, release=2)))
    (data / "blobs" / "sha256" / other.manifest.blobs["model"].sha256).unlink()
    assert "blobs are missing" in wrong(data)[f"model {MODEL}"].found


def test_doctor_names_a_disk_that_is_not_ours(tmp_path: Path) -> None:
    assert "no such folder" in wrong(tmp_path / "nowhere")["disk"].found


def test_logs_are_a_bounded_ring_without_secrets(tmp_path: Path) -> None:
    logger = logging.Logger("test")
    ring = logs.Ring(tmp_path / logs.RING)
    ring.setFormatter(logs.JsonLines(["hunter-2"]))
    logger.addHandler(ring)
    for number in range(4000):
        logger.info("line %d: the password is hunter-2, token=abc.def, mqtt://user:pw@host %s", number, "x" * 300)
    ring.close()
    files = list((tmp_path / "logs").iterdir())
    assert sum(path.stat().st_size for path in files) <= logs.RING_FILES * logs.RING_BYTES
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    text = "".join(path.read_text() for path in files)
    assert not any(secret in text for secret in ("hunter-2", "abc.def", "user:pw"))
    numbers = [int(line["message"].split()[1][:-1]) for line in logs.read_ring(tmp_path)]
    assert numbers == list(range(numbers[0], 4000)) and len(numbers) > 500


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer s3cret",
        '{"token": "s3cret"}',
        "EDGEWISE_JOIN_TOKEN=s3cret",
        "api_key = 's3cret'",
        "https://me:s3cret@hub.example/",
    ],
)
def test_what_is_named_like_a_secret_is_taken_out(text: str) -> None:
    assert "s3cret" not in logs.redact(text) and "***" in logs.redact(text)


def test_redaction_leaves_the_rest() -> None:
    text = "tokens were 5; bundle 3f2a failed: secretary; https://hub.example:8443/api"
    assert logs.redact(text) == text


def test_a_torn_line_and_a_flood_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / logs.RING).write_bytes(b'{"level": "info", "message": "whole"}\n{"level": "in')
    assert [line["message"] for line in logs.read_ring(tmp_path)] == ["whole"]
    limit = logs.RateLimit()
    record = logging.LogRecord("x", logging.INFO, "", 0, "again", None, None)
    assert sum(limit.filter(record) for _ in range(1000)) == logs.REPEATS


def test_the_unit_is_one_that_systemd_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["unit", "--data", str(tmp_path), "--user", "root", "--port", "8700"])
    text = capsys.readouterr().out
    assert "Type=notify" in text and "WatchdogSec=" in text and f"--data {tmp_path} --port 8700" in text
    assert len(text.splitlines()) == len(UNIT.splitlines())
    path = tmp_path / "edgewise-agent.service"
    path.write_text(text)
    try:
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    assert "edgewise-agent" not in checked.stderr, checked.stderr


def test_systemd_is_told_that_it_is_ready_and_alive(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        path = str(tmp_path / "notify")
        systemd.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.ready()
        for now in (0.0, 1.0, 5.0):
            notifier.alive(now)
        notifier.stopping()
        systemd.settimeout(30)
        assert [systemd.recv(100) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]
    notifier.ready()  # nobody listens any more
    Notifier({}).ready()


def test_every_variable_of_the_environment_is_in_the_reference() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "agent-configuration.md").read_text()
    sources = "".join(path.read_text() for path in (root / "agent" / "edgewise_agent").rglob("*.py"))
    named = set(re.findall(r"EDGEWISE_AGENT_[A-Z_]*[A-Z]", sources))
    assert {name for name in named if f"`{name}`" not in page} == set()
    assert len(named) > 5


def test_errors_are_one_line(tmp_path: Path) -> None:
    for arguments in (["models"], ["infer", "x.npz"], ["status"]):
        done: Any = cli(tmp_path, *arguments)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
