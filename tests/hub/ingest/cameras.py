"""A small fleet of digit cameras against a hub without a broker: enrolls, compiles, obeys, serves and reports windows,
with the wire's own messages through the hub's own handlers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgewise.bundle import Blob, Manifest, Tensor, digest
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.wire.codec import encode_json, encode_msgpack
from edgewise.wire.control import Failure, Progress, Reported, ReportedModel
from edgewise.wire.topics import Topic
from edgewise.wire.windows import Counters, Window
from edgewise_hub.fleet import devices, groups
from edgewise_hub.fleet.tables import DesiredState, Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring import ingest, streams
from edgewise_hub.mqtt.inbox import Handler, Inbound, Outcome
from edgewise_hub.registry import versions
from edgewise_hub.registry.tables import Bundle

MODEL = "digits"
PROFILE = "linux-x86-64"
OTHER_PROFILE = "raspberry-pi-5"
SPEC = SketchSpec(classes=10, confidence_edges=[0.5, 0.9])
EVEN = np.full(10, 0.1)
EPOCH = 7


class Cameras:
    """``now`` is the test's clock, Unix seconds."""

    def __init__(self, hub: Hub, folder: Path, seed: int = 0) -> None:
        self.hub, self.folder, self.now = hub, folder, 1000.0
        self.random = np.random.default_rng(seed)
        self.ingest: Handler = streams.make_handler(hub, [ingest.stream(hub)])
        self._sequences: dict[str, itertools.count[int]] = {}

    def enroll(self, *names: str, group: str = "district-a", profile: str = PROFILE) -> None:
        """Enrolled, online, in one group."""
        with self.hub.database.write() as session:
            for name in names:
                session.add(
                    Device(
                        tenant_id=self.hub.tenant,
                        id=name,
                        profile=profile,
                        public_key=name,
                        join_token_id="t",
                        enrolled_at=self.now,
                        online=True,
                    )
                )
                groups.replace(session, self.hub, name, [group])

    def compile(self, *profiles: str) -> int:
        """The next version, with a bundle for each profile."""
        with self.hub.database.write() as session:
            version = versions.register(session, self.hub, MODEL, {"kind": "onnx"}, {}, {}, "", self.now)
            for profile in profiles or (PROFILE,):
                self._bundle(session, version.version, profile)
            return version.version

    def bundle(self, version: int, profile: str = PROFILE) -> Bundle:
        """The bundle of a version for a profile."""
        with self.hub.database.read() as session:
            found = versions.find_bundle(session, self.hub, MODEL, version, profile)
            assert found is not None
            return found

    def window(
        self,
        device: str,
        version: int,
        n: int = 100,
        /,
        *,
        bad: int = 0,
        mix: npt.NDArray[np.float64] = EVEN,
        latency_s: float = 0.001,
        correct: int | None = None,
        profile: str = PROFILE,
        **changes: object,
    ) -> Window:
        """One window of ``n`` answers with classes drawn from ``mix``, and of ``bad`` values that were not finite."""
        sketches = WindowSketches(SPEC)
        for label in self.random.choice(10, size=n, p=mix):
            sketches.update(latency_s * self.random.uniform(0.9, 1.0), scores=np.eye(10, dtype=np.float32)[[label]] * 5)
        sequence = next(self._sequences.setdefault(device, itertools.count(1)))
        bundle = self.bundle(version, profile)
        values: dict[str, object] = {
            "device": device,
            "epoch": EPOCH,
            "first": sequence,
            "last": sequence,
            "start": self.now,
            "duration": 1.0,
            "model": MODEL,
            "version": version,
            "bundle": bundle.digest,
            "spec": bundle.spec,
            "counters": Counters(
                inferences=n,
                nonfinite_outputs=bad,
                labelled=n if correct is not None else 0,
                correct=correct or 0,
            ),
            "sketches": sketches.encode(),
        }
        return Window(**{**values, **changes})  # type: ignore[arg-type]

    def send(self, *windows: Window, sender: str | None = None) -> Outcome:
        """Deliver windows in one batch, as the broker would."""
        return self.deliver(inbound(sender or w.device, encode_msgpack(w), self.now) for w in windows)

    def deliver(self, messages: Iterable[Inbound]) -> Outcome:
        """One batch through the handler, committed."""
        with self.hub.database.write() as session:
            return self.ingest(session, list(messages))

    def obey(self, *names: str, state: str = "confirmed") -> None:
        """The devices do what they are told: ``confirmed``, ``trial``, ``failed`` (with a crash) or ``downloading``."""
        for name in names:
            with self.hub.database.read() as session:
                desired = session.get(DesiredState, (self.hub.tenant, name))
                assert desired is not None, f"{name} was told nothing"
                device = session.get(Device, (self.hub.tenant, name))
                assert device is not None
                before = (device.reported or {}).get("models", {}).get(MODEL, {}).get("confirmed")
            wish = desired.content["models"].get(MODEL)
            bundle = wish["duties"]["active"]["bundle"] if wish else None
            if state == "downloading":
                progress = Progress(
                    device=name,
                    generation=desired.generation,
                    model=MODEL,
                    bundle=bundle or "",
                    step="downloading",
                    done=1,
                    total=4,
                )
                self._receive("progress", name, encode_json(progress))
                continue
            crash = Failure(bundle=bundle or "", generation=desired.generation, code="crashed", reason="it crashed")
            model = {
                "confirmed": ReportedModel(running=bundle, confirmed=bundle),
                "trial": ReportedModel(running=bundle, confirmed=before),
                "failed": ReportedModel(running=before, confirmed=before, failed=[crash]),
            }[state]
            self._report(name, desired.generation, {MODEL: model} if wish else {})

    def offline(self, *names: str) -> None:
        """Their connection is lost."""
        with self.hub.database.write() as session:
            for name in names:
                device = session.get(Device, (self.hub.tenant, name))
                assert device is not None
                device.online = False

    def told(self, *names: str) -> list[int | None]:
        """The version that each device's desired state names."""
        told: list[int | None] = []
        with self.hub.database.read() as session:
            for name in names:
                state = session.get(DesiredState, (self.hub.tenant, name))
                wish = state.content["models"].get(MODEL) if state else None
                told.append(wish["duties"]["active"]["version"] if wish else None)
        return told

    def _report(self, name: str, generation: int, models: dict[str, ReportedModel]) -> None:
        with self.hub.database.read() as session:
            device = session.get(Device, (self.hub.tenant, name))
            assert device is not None
        reported = Reported(device=name, profile=device.profile, agent="test", generation=generation, models=models)
        self._receive("reported", name, encode_json(reported))

    def _receive(self, kind: str, name: str, payload: bytes) -> None:
        handler = {"reported": devices.handle_reported, "progress": devices.handle_progress}[kind]
        with self.hub.database.write() as session:
            outcome = handler(session, [inbound(name, payload, self.now, kind=kind, rest="")])
        assert not outcome.refusals

    def _bundle(self, session: object, version: int, profile: str) -> None:
        contents = {"model": f"model {version} {profile}".encode(), "sketch": encode_json(SPEC)}
        files = {}
        for role, content in contents.items():
            files[role] = self.folder / f"{version}-{profile}-{role}"
            files[role].write_bytes(content)
        manifest = Manifest(
            tenant=self.hub.tenant,
            model=MODEL,
            version=version,
            release=version,
            profile=profile,
            runtime="onnxruntime",
            inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 4])],
            outputs=[Tensor(name="scores", datatype="FP32", shape=[-1, 10])],
            scores="scores",
            blobs={role: Blob(sha256=digest(content), size=len(content)) for role, content in contents.items()},
            created_at=self.now,
        )
        versions.add_bundle(session, self.hub, manifest, files, files["sketch"], {}, self.now)  # type: ignore[arg-type]


def inbound(device: str, payload: bytes, at: float, *, kind: str = "windows", rest: str = "inference") -> Inbound:
    """A message as the connection hands it on."""
    return Inbound(topic=Topic("main", device, kind, rest), payload=payload, received_at=at)
