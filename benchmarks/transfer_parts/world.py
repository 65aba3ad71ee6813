"""A hub's folder with devices and one model in two versions; and its messaging as a process of its own."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from edgewise.bundle import Blob, Manifest, Tensor, digest
from edgewise_hub import migrations
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.main import Ticker, start_messaging
from edgewise_hub.registry import versions
from edgewise_hub.registry.tables import Bundle
from edgewise_hub.settings import Settings

PROFILE, MODEL = "linux-x86-64", "network"


def make(data: Path, devices: int, model: Path, base: Path | None) -> dict[str, object]:
    """A hub's folder: ``devices`` enrolled, ``base`` as version 1 and ``model`` as the next. What the devices need."""
    data.mkdir(parents=True)
    hub = Hub.open(Settings(data=data))
    migrations.upgrade(hub.database)
    with hub.database.write() as session:
        for number in range(devices):
            session.add(
                Device(
                    tenant_id=hub.tenant,
                    id=f"camera-{number}",
                    profile=PROFILE,
                    public_key=f"key {number}",
                    join_token_id="none",
                    enrolled_at=1.0,
                )
            )
    for path in (base, model):
        if path is not None:
            bundle = _add(hub, data, path)
    task = {
        "tenant": hub.tenant,
        "bundle": {"bundle": bundle.digest, "size": bundle.size, "version": bundle.version, "release": bundle.version},
        "keys": [msgspec.to_builtins(hub.signer.public)],
        "blob": digest(model.read_bytes()),
        "base": str(base) if base else None,
    }
    hub.database.close()
    return task


def _add(hub: Hub, data: Path, model: Path) -> Bundle:
    reference = data / "reference.npz"
    reference.write_bytes(b"reference")
    files = {"model": model, "sketch": data / "sketch.json", "smoke": data / "smoke.npz"}
    files["sketch"].write_bytes(b"{}")
    files["smoke"].write_bytes(b"smoke")
    with hub.database.write() as session:
        version = versions.register(session, hub, MODEL, {"kind": "onnx"}, {}, {}, "", 1.0)
        manifest = Manifest(
            tenant=hub.tenant,
            model=MODEL,
            version=version.version,
            release=version.release,
            profile=PROFILE,
            runtime="onnxruntime",
            inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 4])],
            outputs=[Tensor(name="y", datatype="FP32", shape=[-1, 2])],
            blobs={
                role: Blob(sha256=digest(path.read_bytes()), size=path.stat().st_size) for role, path in files.items()
            },
            created_at=1.0,
        )
        return versions.add_bundle(session, hub, manifest, files, reference, {}, 2.0)


def serve(data: Path, devices: int, cast_from: int) -> None:
    """The hub's broker, connection, inbox, blocks and deltas. Prints the devices' accounts, and at the end the bytes
    that were sent; ends when its standard input does."""
    with ExitStack() as stack:
        hub = Hub.open(Settings(data=data, cast_from=cast_from))
        stack.callback(hub.database.close)
        start_messaging(stack, hub, Ticker(hub, []))
        assert hub.accounts is not None
        accounts = [hub.accounts.put(f"camera-{number}") for number in range(devices)]
        print(json.dumps({"broker_url": hub.broker_url, "accounts": accounts}), flush=True)
        sys.stdin.read()
        print(json.dumps({"blob_bytes_sent": hub.blob_bytes_sent}), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
