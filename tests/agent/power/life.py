"""A device's whole life in this process: the real agent, serve children, broker and a small hub, under the shim.

What the hub has seen is what the promises are about: a generation that was reported never falls, a version that was
confirmed is served (or the next one), a window that was sent is kept until its ack, under its number.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent_builders import (
    MODEL,
    Broker,
    Bundle,
    HubKey,
    MiniHub,
    call,
    identity,
    infer_body,
    make_bundle,
    make_desired,
    wait_for,
)

from edgewise.wire.codec import decode_msgpack
from edgewise.wire.windows import STREAM_WINDOWS, Window
from edgewise_agent import identity as identities
from edgewise_agent.agent import Agent
from edgewise_agent.reconcile import Start, reconcile
from edgewise_agent.store.disk import Disk
from edgewise_agent.windows.spool import Spool


class Facts(NamedTuple):
    """What the hub has seen before the cut. ``versions``: that may serve; ``sent``: windows without an ack."""

    generation: int = 0
    versions: tuple[int, ...] = (0,)
    sent: tuple[tuple[int, int, int], ...] = ()


class Life:
    """Install, switch under load, windows and acks, a version that crashes and is taken back."""

    name, outside = "a device's whole life", ("answers", "logs")

    def __init__(self, key: HubKey, broker: Broker) -> None:
        self._key, self._broker = key, broker
        self._bundles = {version: make_bundle(key, version) for version in (1, 2, 3)}
        self._version_of = {bundle.digest: version for version, bundle in self._bundles.items()}
        self._listener = socket.create_server(("127.0.0.1", 0))

    def prepare(self, folder: Path) -> None:
        identities.save(Disk(), folder, identity(self._key, self._broker.url))

    def run(self, folder: Path, disk: Disk, note: Callable[[Any], None]) -> None:
        hub = MiniHub(self._key, self._broker, acking=False)
        lines: list[dict[str, Any]] = []
        agent = Agent(folder, identity(self._key, self._broker.url), disk, [self._listener], lines.append)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            wait_for(lambda: lines, "it listens")
            self._live(hub, lines, note)
        finally:
            agent.request_stop()
            thread.join(60)
            hub.close()
        assert not thread.is_alive()

    def _live(self, hub: MiniHub, lines: list[dict[str, Any]], note: Callable[[Any], None]) -> None:
        url = f"{lines[0]['url']}/v2/models/{MODEL}/infer"
        for generation, version in ((1, 1), (2, 2)):
            bundle = self._bundles[version]
            note(Facts(generation - 1, (version - 1, version)))
            hub.publish(make_desired(generation, bundle), bundle)
            wait_for(lambda bundle=bundle: hub.runs(bundle), f"version {version} is confirmed")
            note(Facts(generation, (version,)))
            self._windows(hub, url, generation, version, note)
        bad: Bundle = self._bundles[3]
        note(Facts(2, (2, 3)))
        hub.publish(make_desired(3, bad, trial_s=60), bad)
        wait_for(lambda: hub.runs(bad, confirmed=False), "version 3 is on trial")
        note(Facts(3, (2, 3)))
        for _ in range(2):
            known = len(lines)
            os.kill(lines[-1]["serve_pid"], signal.SIGKILL)
            wait_for(lambda known=known: len(lines) > known, "it listens again")
        wait_for(lambda: hub.runs(self._bundles[2]), "version 2 is back")
        note(Facts(3, (2,)))

    def _windows(self, hub: MiniHub, url: str, generation: int, version: int, note: Callable[[Any], None]) -> None:
        """One window is sent, and then acknowledged."""
        known = len(hub.windows)
        assert call(url, infer_body())[0] == 200
        wait_for(lambda: len(hub.windows) > known, "a window")
        sent = tuple({(w.epoch, w.last, w.counters.inferences) for w in hub.windows[known:]})
        note(Facts(generation, (version,), sent))
        epoch, last, _ = max(sent)
        note(Facts(generation, (version,)))
        hub.ack(STREAM_WINDOWS, epoch, last)

    def facts(self, notes: Sequence[Any]) -> Facts:
        return notes[-1] if notes else Facts()

    def check(self, folder: Path, facts: Facts) -> list[str]:
        who = identities.load(folder)
        agent = Agent(folder, who, Disk(), [self._listener], lambda _: None)
        actions = agent._actions
        broken = []
        if actions.generation < facts.generation:
            broken.append(f"generation {actions.generation} is in force after {facts.generation}")
        first = next(a for a in reconcile(actions.desired, actions.observe(0.0), 0.0) if isinstance(a, Start))
        serves = first.bundles.get(MODEL)
        version = self._version_of[serves] if serves else 0
        if version not in facts.versions:
            broken.append(f"version {version} serves, expected one of {facts.versions}")
        if serves is not None and (not actions.installs.whole(serves) or actions.installs.repair(serves)):
            broken.append(f"version {version} is not whole")
        kept = _windows_in(agent._spools[STREAM_WINDOWS])
        return broken + [
            f"window {sent[1]} was sent as {sent}, is kept as {kept.get(sent[1])}"
            for sent in facts.sent
            if kept.get(sent[1]) != sent
        ]


def _windows_in(spool: Spool) -> dict[int, tuple[int, int, int]]:
    """Everything that would be sent: last number -> (epoch, last number, inferences). Drains the spool."""
    found: dict[int, tuple[int, int, int]] = {}
    while (message := spool.next(1e9)) is not None:
        window = decode_msgpack(message.data, Window)
        assert window.last not in found, f"window {window.last} goes out twice"
        found[window.last] = (window.epoch, window.last, window.counters.inferences)
        spool.sent(message, 1e9)
        spool.ack(window.epoch, window.last, 1e9)
    return found
