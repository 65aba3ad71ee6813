"""``edgewise-agent doctor``: what is wrong here, and what to do. Each check is a function of its own, and none changes
anything; a check that finds nothing wrong says what it saw."""

from __future__ import annotations

import argparse
import json
import os
import queue
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edgewise.errors import EdgewiseError
from edgewise_agent import identity as identities
from edgewise_agent.commands.parts import DEFAULT_PORT, Command, installs, running, with_json
from edgewise_agent.connection import broker_address
from edgewise_agent.identity import Identity
from edgewise_agent.runtimes import RUNTIMES, available
from edgewise_agent.serving.options import of_owner
from edgewise_agent.serving.routing.tokens import read_token
from edgewise_agent.store.disk import FREE_MARGIN, Disk
from edgewise_agent.trust import TrustState, read_state

TIMEOUT_S = 5.0
EARLIEST = 1_700_000_000.0
"""A clock before it (2023) was never set."""


@dataclass(frozen=True)
class Finding:
    """One check's: ``do`` says what to do where something is wrong."""

    check: str
    ok: bool
    found: str
    do: str = ""


def add(command: Command) -> None:
    """Its arguments."""
    sub = command("doctor", run, "What is wrong with this device, and what to do. Exit 1 when something is.")
    sub.add_argument("--port", type=int, default=DEFAULT_PORT, help="the port that run is given")
    with_json(sub)


def run(arguments: argparse.Namespace) -> None:
    """Print every finding."""
    findings = list(examine(arguments.data, arguments.port))
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check}: {finding.found}")
            if finding.do:
                print(f"      -> {finding.do}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


def examine(data: Path, port: int, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Every check, the first causes first."""
    yield check_disk(data)
    try:
        who = identities.load(data)
    except EdgewiseError as error:
        yield Finding("identity", False, str(error), "edgewise-agent enroll --hub ... --name ... --profile ...")
        return
    yield Finding("identity", True, f"{who.tenant}/{who.device} ({who.profile}), hub {who.hub}")
    yield check_clock(data, who, clock())
    yield check_broker(who)
    yield from check_port(data, port)
    yield from check_models(data)
    yield from check_tokens(os.environ)


def check_disk(data: Path) -> Finding:
    """Is there a folder, may we write to it, and is there room?"""
    if not data.is_dir():
        return Finding("disk", False, f"{data}: no such folder", "give --data the folder that the agent runs on")
    disk, probe = Disk(), data / "doctor.probe"
    try:
        disk.replace(probe, b"probe")
        disk.unlink(probe)
        free = disk.free(data)
    except EdgewiseError as error:
        return Finding("disk", False, str(error), "free some space, or run as the user who owns the folder")
    if free < FREE_MARGIN:
        need = f"expected {FREE_MARGIN / 2**20:.0f} MiB free, got {free / 2**20:.1f}"
        return Finding("disk", False, f"{data}: {need}", "free some space: nothing is downloaded until then")
    return Finding("disk", True, f"{free / 2**20:.0f} MiB free")


def check_tokens(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Can the tokens be read that the owner has for servers? In the environment of ``doctor``, which is that of ``run``
    where both are started alike."""
    try:
        tokens = of_owner(environment).escalate_tokens
    except EdgewiseError as error:
        yield Finding("options", False, str(error), "mend the variable in the environment of edgewise-agent run")
        return
    for token in tokens:
        host, _, place = token.partition("=")
        try:
            read_token(place, environment)
        except EdgewiseError as error:
            yield Finding("escalation", False, f"{host}: {error}", "put the server's token there, for the agent's user")
        else:
            yield Finding("escalation", True, f"{host}: there is a token at {place}")


def check_clock(data: Path, who: Identity, now: float) -> Finding:
    """Against what was signed: nobody may be asked while there is no connection."""
    try:
        signed = max(who.time, (read_state(data) or TrustState()).signed_time)
    except EdgewiseError as error:
        return Finding("clock", False, str(error), "enroll anew")
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST or now < signed - 60:
        return Finding(
            "clock",
            False,
            f"{at} is before the newest signed time, {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(signed))}",
            "set the clock (timedatectl set-ntp true), or give the board a clock with a battery",
        )
    return Finding("clock", True, at)


def check_broker(who: Identity) -> Finding:
    """Name, port, certificate, and whether it takes us; by a client of its own, so that the agent's stays."""
    try:
        host, port, tls = broker_address(who.broker_url)
    except EdgewiseError as error:
        return Finding("broker", False, str(error), "enroll again")
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as plain:
            if tls:
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
                    pass
    except ssl.SSLCertVerificationError as error:
        return Finding(
            "broker",
            False,
            f"{where}: its certificate is refused: {error.verify_message}",
            "if it expired: renew it on the broker; if it is not valid yet: set this clock; if its authority is "
            "unknown: add that to this system",
        )
    except socket.gaierror as error:
        return Finding("broker", False, f"{host}: no such name: {error.strerror}", "check DNS and the network")
    except OSError as error:
        return Finding(
            "broker", False, f"{where}: unreachable: {error}", "check the network, a firewall, and that the hub is up"
        )
    answer = _connect(who, host, port, tls)
    if answer is None:
        return Finding("broker", False, f"{where}: no answer to MQTT", "is something else listening on that port?")
    if answer.startswith(("Not authorized", "Bad user name")):
        return Finding(
            "broker",
            False,
            f"{where}: {answer}: the hub does not know this identity, or has revoked it",
            "edgewise-agent enroll, with a new join token",
        )
    if answer != "Success":
        return Finding("broker", False, f"{where}: {answer}", "see the broker's log")
    return Finding("broker", True, f"{where} takes this device" + (" over TLS" if tls else ""))


def _connect(who: Identity, host: str, port: int, tls: bool) -> str | None:
    """What the broker answers to our name and password; None: nothing."""
    answers: queue.Queue[str] = queue.Queue()
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id=f"{who.tenant}.{who.device}.doctor", protocol=mqtt.MQTTv5
    )
    client.username_pw_set(who.username, who.password)
    client.on_connect = lambda *arguments: answers.put(str(arguments[3]))
    if tls:
        client.tls_set()
    try:
        client.connect(host, port, int(TIMEOUT_S))
        client.loop_start()
        return answers.get(timeout=TIMEOUT_S)
    except (OSError, queue.Empty):
        return None
    finally:
        client.disconnect()
        client.loop_stop()


def check_port(data: Path, port: int) -> Iterator[Finding]:
    """Does an agent run here? If not: would it get its port?"""
    agent = running(data)
    if agent is not None:
        yield Finding("agent", True, f"runs, serving at {agent['url']}")
        return
    yield Finding("agent", False, "does not run", "systemctl start edgewise-agent, or edgewise-agent run")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            yield Finding(
                "port", False, f"{port}: {error.strerror}", "stop what listens there, or choose another with --port"
            )
        else:
            yield Finding("port", True, f"{port} is free")


def check_models(data: Path) -> Iterator[Finding]:
    """Is every model whole, is its runtime here, and did anything fail?"""
    try:
        kept = installs(data)
    except EdgewiseError as error:
        yield Finding("models", "nothing is installed" in str(error), str(error))
        return
    for model, duty in sorted(kept.duties.models.items()):
        manifest = kept.manifest(duty.active.bundle)
        runtime = manifest.runtime if manifest else ""
        name = f"model {model}"
        if not kept.whole(duty.active.bundle):
            yield Finding(name, False, "blobs are missing", "it is fetched again once there is a connection")
        elif runtime not in available():
            how = RUNTIMES[runtime].install if runtime in RUNTIMES else "update the agent"
            yield Finding(name, False, f"its runtime {runtime} is not installed", how)
        else:
            yield Finding(name, True, f"version {duty.active.version}, {runtime}")
    for model, failures in sorted(kept.duties.failures.items()):
        for failure in failures[-1:]:
            yield Finding(
                f"model {model}",
                False,
                f"bundle {failure.bundle[:12]} failed in generation {failure.generation}: {failure.code}: "
                f"{failure.reason}",
                "it is not tried again until the hub says so (a new rollout); edgewise-agent logs tells more",
            )
