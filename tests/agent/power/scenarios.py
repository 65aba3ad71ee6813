"""Stretches of a device's life whose writes can be told one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from agent_builders import MODEL, PROFILE, Bundle, HubKey, make_bundle, write_blobs
from releases import bundle_of, zipped
from small_hub import EnrollHub

from edgewise.bundle import digest
from edgewise.errors import EdgewiseError
from edgewise.wire.control import Duty, Failure
from edgewise_agent import identity as identities
from edgewise_agent.enroll import enroll
from edgewise_agent.store import installs as rules
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk, read
from edgewise_agent.store.installs import Install, Installs
from edgewise_agent.update import own, slots
from edgewise_agent.update.slots import SLOT_VARIABLE
from edgewise_agent.windows.spool import Spool


class Enroll:
    """The identity is whole or absent; the key that the hub knows is the one on disk; enrolling goes on."""

    name, outside = "enroll", ()

    def __init__(self, hub: EnrollHub) -> None:
        self._hub = hub

    def prepare(self, folder: Path) -> None:
        self._hub.known = None

    def run(self, folder: Path, disk: Disk, note: Callable[[Any], None]) -> None:
        self._hub.heard = note
        enroll(disk, folder / "data", hub=self._hub.url, token="a-join-token", name="cam-1", profile=PROFILE)
        note("enrolled")

    def facts(self, notes: Sequence[Any]) -> tuple[str | None, bool]:
        keys = [note for note in notes if note != "enrolled"]
        return (keys[-1] if keys else None, "enrolled" in notes)

    def check(self, folder: Path, facts: tuple[str | None, bool]) -> list[str]:
        key, enrolled = facts
        data = folder / "data"
        absent = read(data / identities.IDENTITY_FILE, 64 * 1024) is None
        if not absent:
            identities.load(data)
        elif enrolled:
            return ["it was enrolled, and its identity is gone"]
        self._hub.known, self._hub.heard = key, lambda _: None
        try:
            enroll(Disk(), data, hub=self._hub.url, token="a-join-token", name="cam-1", profile=PROFILE)
        except EdgewiseError as error:
            return [f"enrolling does not go on: {error}"]
        return []


class InstallAndGoBack:
    """Download, switch, confirm, switch, fail, go back: what serves is the version before or after, and whole."""

    name, outside = "install, switch, confirm, go back", ()

    def __init__(self, key: HubKey) -> None:
        self._bundles = {version: make_bundle(key, version) for version in (1, 2, 3)}

    def _install(self, version: int) -> Install:
        bundle = self._bundles[version]
        return Install(bundle=bundle.digest, version=version, release=version)

    def _open(self, disk: Disk, folder: Path) -> tuple[BlobStore, Installs]:
        blobs = BlobStore(disk, folder / "blobs" / "sha256")
        return blobs, Installs(disk, folder / "duties.json", blobs)

    def prepare(self, folder: Path) -> None:
        write_blobs(folder / "blobs" / "sha256", self._bundles[1])
        _, installs = self._open(Disk(), folder)
        installs.save(rules.confirm(rules.switch(installs.duties, MODEL, self._install(1)), MODEL))

    def run(self, folder: Path, disk: Disk, note: Callable[[Any], None]) -> None:
        blobs, installs = self._open(disk, folder)
        note((1,))
        for version in (2, 3):
            _download(blobs, self._bundles[version])
            note((2, version) if version == 3 else (1, version))
            installs.save(rules.switch(installs.duties, MODEL, self._install(version)))
            note((version,))
            if version == 2:
                note((2,))
                installs.save(rules.confirm(installs.duties, MODEL))
                installs.collect(set())
        failure = Failure(bundle=self._bundles[3].digest, generation=3, code="crash-loop", reason="it crashed twice")
        note((3, 2))
        installs.save(rules.fail(installs.duties, MODEL, failure))
        note((2,))
        installs.collect(set())

    def facts(self, notes: Sequence[Any]) -> tuple[int, ...]:
        return notes[-1] if notes else (1,)

    def check(self, folder: Path, facts: tuple[int, ...]) -> list[str]:
        blobs, installs = self._open(Disk(), folder)
        duty = installs.duties.models.get(MODEL)
        if duty is None:
            return ["nothing serves"]
        broken = [] if duty.active.version in facts else [f"version {duty.active.version} serves, expected {facts}"]
        broken += _not_whole(blobs, installs, duty.active.bundle)
        if not duty.confirmed and duty.previous is not None:
            broken += _not_whole(blobs, installs, duty.previous.bundle)
        for version in facts:  # and the download goes on, or begins again
            _download(blobs, self._bundles[version])
            broken += _not_whole(blobs, installs, self._bundles[version].digest)
        return broken


def _download(blobs: BlobStore, bundle: Bundle) -> None:
    """As blocks come: each blob in pieces, resumed where it stopped."""
    for sha256, data in bundle.blobs.items():
        if blobs.has(sha256):
            continue
        size = max(1024, -(-len(data) // 3))
        partial = blobs.open_partial(sha256, len(data), size)
        for index in sorted(set(range(partial.blocks)) - partial.have):
            partial.write(index, data[index * size : (index + 1) * size])
            if index == 1:
                partial.save()
        partial.finish()


def _not_whole(blobs: BlobStore, installs: Installs, bundle: str) -> list[str]:
    manifest = installs.manifest(bundle)
    if manifest is None:
        return [f"bundle {bundle[:8]} has no manifest"]
    digests = [blob.sha256 for blob in manifest.blobs.values()]
    return [f"blob {sha[:8]} of bundle {bundle[:8]} is not whole" for sha in digests if not blobs.verify(sha)]


class SpoolAndAck:
    """Nothing that was kept is lost before its ack; no number is used for two messages; nothing goes out twice."""

    name, outside = "spool and acknowledge", ()

    def _open(self, disk: Disk, folder: Path, epoch: int = 7) -> Spool:
        return Spool(disk, folder / "spool" / "inference", lambda: epoch)

    def prepare(self, folder: Path) -> None:
        """A new device."""

    def run(self, folder: Path, disk: Disk, note: Callable[[Any], None]) -> None:
        spool = self._open(disk, folder)
        for first in (0, 3):
            for mark in range(first + 1, first + 4):
                assert spool.add(_message(mark))
                note(("kept", mark))
            for _ in range(2):
                if (message := spool.next(1e9)) is not None:
                    content = msgspec.msgpack.decode(message.data)
                    note(("offered", content["first"], content["mark"]))
                    spool.sent(message, 1e9)
                    note(("acked", content["first"]))  # by the hub; whether we hear of it is another thing
                    spool.ack(spool.epoch, content["first"], 1e9)

    def facts(self, notes: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(notes)

    def check(self, folder: Path, facts: tuple[Any, ...]) -> list[str]:
        kept = {fact[1] for fact in facts if fact[0] == "kept"}
        offered = {fact[1]: fact[2] for fact in facts if fact[0] == "offered"}
        acked = max([0, *(fact[1] for fact in facts if fact[0] == "acked")])
        spool = self._open(Disk(), folder, epoch=8)
        broken = [] if spool.epoch == 7 or not kept else ["its epoch is lost, and every message with it"]
        spool.add(_message(99))
        found: dict[int, int] = {}
        while (message := spool.next(2e9)) is not None:
            content = msgspec.msgpack.decode(message.data)
            if content["first"] in found:
                broken.append(f"number {content['first']} goes out twice")
            found[content["first"]] = content["mark"]
            spool.sent(message, 2e9)
            spool.ack(spool.epoch, content["last"], 2e9)
        if spool.epoch == 7:
            broken += [f"{n} was offered as {m}, now as {found[n]}" for n, m in offered.items() if found.get(n, m) != m]
            broken += [f"message {mark} is lost" for mark in kept if mark > acked and mark not in found.values()]
            broken += [f"the new message took number {n}" for n, m in found.items() if m == 99 and n <= acked]
        return broken


class _Marks:
    """A spool's merging: messages are bags of marks."""

    def key(self, data: bytes) -> str:
        return "one"

    def merge(self, older: bytes, newer: bytes) -> bytes:
        a, b = msgspec.msgpack.decode(older), msgspec.msgpack.decode(newer)
        return msgspec.msgpack.encode({**a, "marks": a["marks"] + b["marks"]})


class SpoolFull:
    """While a full spool merges, nothing that was kept is lost or doubled, and what was offered stays as it is."""

    name, outside = "a full spool merges", ()

    def _open(self, disk: Disk, folder: Path, epoch: int = 7) -> Spool:
        return Spool(disk, folder / "spool" / "inference", lambda: epoch, _Marks(), max_messages=4)

    def prepare(self, folder: Path) -> None:
        """A new device."""

    def run(self, folder: Path, disk: Disk, note: Callable[[Any], None]) -> None:
        spool = self._open(disk, folder)
        for mark in range(1, 12):
            assert spool.add(_marked(mark))
            note(("kept", mark))
        for _ in range(2):
            message = spool.next(1e9)
            assert message is not None
            content = msgspec.msgpack.decode(message.data)
            note(("offered", content["first"], tuple(content["marks"])))
            spool.sent(message, 1e9)
        note(("acked", content["last"]))
        spool.ack(spool.epoch, content["last"], 1e9)
        for mark in range(12, 30):
            if spool.add(_marked(mark)):
                note(("kept", mark))

    def facts(self, notes: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(notes)

    def check(self, folder: Path, facts: tuple[Any, ...]) -> list[str]:
        kept = {fact[1] for fact in facts if fact[0] == "kept"}
        offered = {fact[1]: fact[2] for fact in facts if fact[0] == "offered"}
        acked = max([0, *(fact[1] for fact in facts if fact[0] == "acked")])
        arrived = [mark for first, marks in offered.items() if first <= acked for mark in marks]
        spool = self._open(Disk(), folder, epoch=8)
        broken = [] if spool.epoch == 7 or not kept else ["its epoch is lost, and every message with it"]
        reached = acked
        while (message := spool.next(2e9)) is not None:
            content = msgspec.msgpack.decode(message.data)
            first, marks = content["first"], tuple(content.get("marks", ()))
            if first in offered and offered[first] != marks:
                broken.append(f"number {first} was offered as {offered[first]}, now as {marks}")
            if first > acked:
                broken += [] if first == reached + 1 else [f"after {reached} comes {first}"]
                arrived, reached = [*arrived, *marks], content["last"]
            spool.sent(message, 2e9)
            spool.ack(spool.epoch, content["last"], 2e9)
        broken += [f"mark {mark} counts twice" for mark in set(arrived) if arrived.count(mark) > 1]
        return broken + [f"mark {mark} is lost" for mark in sorted(kept - set(arrived))]


def _marked(mark: int) -> Callable[[int, int], bytes]:
    def build(epoch: int, number: int) -> bytes:
        return msgspec.msgpack.encode({"epoch": epoch, "first": number, "last": number, "marks": [mark]})

    return build


def _message(mark: int) -> Callable[[int, int], bytes]:
    def build(epoch: int, number: int) -> bytes:
        return msgspec.msgpack.encode({"epoch": epoch, "first": number, "last": number, "mark": mark})

    return build


PIP = 0
"""No release: what pip installed."""


class OwnUpdate:
    """The agent's own update: what starts is the release before or the one on trial, and each of its files is whole;
    once no release is wished for, what pip installed."""

    name, outside = "the agent's own update", ()

    def __init__(self) -> None:
        files = {name: f"# {name}\n".encode() * 20 for name in ("edgewise/__init__.py", "edgewise_agent/main.py")}
        self._files = {n: {**files, "edgewise_agent/__init__.py": b"version = %d" % n} for n in (1, 2, 3)}

    def _stage(self, folder: Path, disk: Disk, version: int) -> own.OwnUpdate:
        """The agent of the slot that is active stages the next release."""
        kept = slots.load(folder)
        mine = own.OwnUpdate(disk, folder, BlobStore(Disk(), folder.parent / "blobs"), {SLOT_VARIABLE: kept.active})
        data = zipped(self._files[version])
        (folder.parent / "blobs" / digest(data)).write_bytes(data)
        manifest = bundle_of(HubKey(), version, [data]).manifest
        mine.stage(Duty(bundle=str(version) * 64, size=1, version=version, release=version), manifest, 5.0)
        return mine

    def _launch(self, folder: Path, disk: Disk) -> None:
        """What the launcher writes before a start."""
        kept = slots.load(folder)
        if (counted := slots.count_start(kept)) != kept:
            disk.replace(folder / slots.FILE, slots.encode(counted))

    def prepare(self, folder: Path) -> None:
        self._stage(folder, Disk(), 1)
        own.OwnUpdate(Disk(), folder, BlobStore(Disk(), folder.parent / "blobs"), {SLOT_VARIABLE: "a"}).confirm()

    def run(self, folder: Path, disk: Disk, note: Callable[[Any], None]) -> None:
        note((1, 2))
        self._stage(folder, disk, 2)
        self._launch(folder, disk)
        own.OwnUpdate(disk, folder, BlobStore(Disk(), folder.parent / "blobs"), {SLOT_VARIABLE: "b"}).confirm()
        note((2,))
        note((2, 3))
        self._stage(folder, disk, 3)
        for _ in range(slots.MAX_STARTS + 1):
            self._launch(folder, disk)
        note((2,))
        note((2, PIP))
        own.OwnUpdate(disk, folder, BlobStore(Disk(), folder.parent / "blobs"), {SLOT_VARIABLE: "b"}).leave()
        note((PIP,))

    def facts(self, notes: Sequence[Any]) -> tuple[int, ...]:
        return notes[-1] if notes else (1,)

    def check(self, folder: Path, facts: tuple[int, ...]) -> list[str]:
        self._launch(folder, Disk())
        kept = slots.load(folder)
        broken = []
        for slot in {slots.starts(kept, 0), kept.active}:
            if slot == slots.BASE and PIP in facts:
                continue
            release = kept.release(slot)
            if release is None or release.version not in facts:
                broken.append(f"slot {slot} starts, which holds {release}; expected {facts}")
                continue
            for name, data in self._files[release.version].items():
                if read(folder / "agent" / slot / name, 10_000) != data:
                    broken.append(f"slot {slot}: {name} is not that of release {release.version}")
        return broken


def quick(key: HubKey, hub: EnrollHub) -> Iterable[Any]:
    """Those of the default run."""
    return (Enroll(hub), InstallAndGoBack(key), SpoolAndAck(), SpoolFull(), OwnUpdate())
