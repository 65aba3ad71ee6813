"""Devices: each a full MQTT client with the agent's own connection, fetch, limits and blob store; or an HTTP client.

Several share one process (a thread each, beside paho's), since a hundred Python processes would measure the machine's
scheduler. What is left out of the agent is serving, spools and reports.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import queue
import random
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from edgewise.wire.blocks import Block, DeltaOffer
from edgewise.wire.codec import decode_msgpack
from edgewise.wire.control import Duty
from edgewise.wire.control import Transfer as Limits
from edgewise.wire.enrollment import SigningKey
from edgewise_agent.connection import Connection
from edgewise_agent.download import BlockRefused
from edgewise_agent.events import Connected, Event, Inbound
from edgewise_agent.fetch import Fetching
from edgewise_agent.identity import Identity, verifier
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk
from edgewise_agent.transfer import Transfer
from edgewise_agent.trust import check_manifest

MODEL, PROFILE = "network", "linux-x86-64"
TICK_S = 0.25


class Camera(threading.Thread):
    """One device. ``go`` lets it fetch; it ends when its bundle is whole."""

    def __init__(self, folder: Path, task: dict[str, Any], number: int, go: threading.Event) -> None:
        super().__init__(name=f"camera-{number}", daemon=True)
        username, password = task["accounts"][number]
        self._task, self._go = task, go
        self._identity = Identity(
            hub="http://127.0.0.1",
            tenant=task["tenant"],
            device=f"camera-{number}",
            profile=PROFILE,
            broker_url=task["broker_url"],
            username=username,
            password=password,
            keys=[SigningKey(**key) for key in task["keys"]],
            time=1.0,
        )
        disk = Disk()
        self._blobs = BlobStore(disk, folder / "blobs")
        self._bases: dict[str, str] = {}
        if task["base"]:
            self._bases = {"model": hashlib.sha256(Path(task["base"]).read_bytes()).hexdigest()}
            with contextlib.suppress(FileExistsError):
                shutil.copy(task["base"], self._blobs.path(self._bases["model"]))
        self._events: queue.Queue[Event] = queue.Queue(1024)
        self._connection = Connection(self._identity, disk, folder / "session", self._events)
        self._transfer = Transfer(
            self._connection, self._identity.tenant, self._identity.device, Limits(), time.monotonic()
        )
        self.connected = threading.Event()
        self.bytes = self.refused = 0
        self._fetching: Fetching | None = None
        self._connection.start()

    def run(self) -> None:
        """As the agent's loop: events, then what is due."""
        busy = False
        while self._fetching is None or not self._fetching.done:
            if self._go.is_set() and self._fetching is None:
                self._begin()
            timeout = 0.0 if busy else TICK_S if self._fetching else 0.02
            for _ in range(32):
                try:
                    event = self._events.get(timeout=timeout) if timeout else self._events.get_nowait()
                except queue.Empty:
                    break
                self._handle(event)
                timeout = 0.0
            if self._fetching is not None:
                self._fetching.work()
                self._transfer.look(self._fetching, time.monotonic(), time.localtime())
                busy = self._fetching.busy
        self._transfer.look(None, time.monotonic(), time.localtime())

    def stop(self) -> None:
        """Say goodbye."""
        assert self._fetching is not None and self._fetching.done, f"{self.name} has no whole bundle"
        self._connection.stop()

    def dropped(self) -> int:
        """Messages that came faster than they were taken, or were refused."""
        return self._connection.dropped + self.refused

    def _begin(self) -> None:
        duty = Duty(**self._task["bundle"])
        self._fetching = Fetching(
            MODEL,
            duty,
            1,
            self._blobs,
            lambda envelope: check_manifest(
                envelope,
                duty,
                tenant=self._identity.tenant,
                model=MODEL,
                profile=PROFILE,
                runtimes={"onnxruntime"},
                floor=0,
                verify=verifier(self._identity.keys),
            ),
            self._bases,
            random.random(),
        )

    def _handle(self, event: Event) -> None:
        if isinstance(event, Connected):
            self.connected.set()
        if not isinstance(event, Inbound) or self._fetching is None:
            return
        self.bytes += len(event.payload)
        now = time.monotonic()
        try:
            if (event.kind, event.rest) == ("blob", "offer"):
                self._fetching.offer(decode_msgpack(event.payload, DeltaOffer), now)
                return
            block = decode_msgpack(event.payload, Block)
            try:
                self._fetching.receive(block, now, event.kind == "cast")
            finally:
                if event.kind == "cast":
                    self._transfer.paced(block)
        except BlockRefused:
            self.refused += 1


class Browser(threading.Thread):
    """The same over plain HTTP: one GET, written, synced, hashed, renamed."""

    def __init__(self, folder: Path, task: dict[str, Any], number: int, go: threading.Event) -> None:
        super().__init__(name=f"browser-{number}", daemon=True)
        self._folder, self._task, self._go = folder, task, go
        self.connected = threading.Event()
        self.connected.set()
        self.bytes = 0

    def run(self) -> None:
        """Wait for the word, and fetch."""
        self._go.wait()
        self._folder.mkdir(parents=True)
        connection = http.client.HTTPConnection("127.0.0.1", self._task["http_port"], timeout=600)
        connection.request("GET", f"/{self._task['blob']}")
        answer, hasher = connection.getresponse(), hashlib.sha256()
        with (self._folder / "part").open("wb") as file:
            while chunk := answer.read(64 * 1024):
                file.write(chunk)
                hasher.update(chunk)
                self.bytes += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        connection.close()
        assert hasher.hexdigest() == self._task["blob"]
        (self._folder / "part").rename(self._folder / self._task["blob"])

    def stop(self) -> None:
        """Nothing is left open."""

    def dropped(self) -> int:
        """TCP drops nothing."""
        return 0


def main(kind: str, folder: Path, first: int, count: int) -> None:
    """``count`` devices; their task comes on standard input, then a line that lets them go."""
    task = json.loads(sys.stdin.readline())
    go = threading.Event()
    device = Camera if kind == "mqtt" else Browser
    devices = [device(folder / str(number), task, number, go) for number in range(first, first + count)]
    for each in devices:
        each.start()
    for each in devices:
        assert each.connected.wait(60), f"{each.name} did not connect"
    print("ready", flush=True)
    sys.stdin.readline()
    go.set()
    for each in devices:
        each.join()
    print("done", flush=True)
    for each in devices:
        each.stop()
    took = {"bytes": sum(each.bytes for each in devices), "dropped": sum(each.dropped() for each in devices)}
    print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
