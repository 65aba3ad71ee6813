"""An agent's data folder with a model installed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "agent"))

import numpy as np
from agent_builders import Bundle as Built
from agent_builders import HubKey, identity, write_blobs

from edgewise.bundle import Blob, Bounds, Datatype, Manifest, Tensor, digest, seal
from edgewise.sketch.spec import EmbeddingSpec, SketchSpec
from edgewise.wire.codec import encode_json
from edgewise.wire.control import Duty
from edgewise_agent import identity as identities
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk
from edgewise_agent.store.installs import Duties, Install, Installs, ModelDuty
from serve_peers.workloads import WIDTH, Workload

FEATURES = 256
DATATYPES: dict[str, Datatype] = {"float32": "FP32", "int64": "INT64"}


def enroll(data: Path) -> HubKey:
    """An enrolled data folder whose hub cannot be reached."""
    key, disk = HubKey(), Disk()
    disk.folder(data)
    identities.save(disk, data, identity(key))
    return key


def install(data: Path, model: Path, workload: Workload) -> None:
    """The same with the model as a confirmed install, sketches of its embedding and its classes included."""
    key, disk = enroll(data), Disk()
    embedding = workload.output if not workload.classes else "embedding"
    width = workload.width if not workload.classes else WIDTH
    projection = np.random.default_rng(7).normal(size=(FEATURES // 2, width)).astype("<f4").tobytes()
    spec = SketchSpec(
        embedding=EmbeddingSpec(dimension=width, features=FEATURES, sigma=1.0, seed=7, projection=digest(projection)),
        classes=workload.classes or None,
        confidence_edges=[0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99] if workload.classes else [],
    )
    smoke = io.BytesIO()
    np.savez(smoke, **workload.inputs)
    parts = {
        "model": model.read_bytes(),
        "sketch": encode_json(spec),
        "projection": projection,
        "smoke": smoke.getvalue(),
    }
    names = {workload.output: workload.width, embedding: width}
    manifest = Manifest(
        tenant="default",
        model=workload.name,
        version=1,
        release=1,
        profile="linux-x86-64",
        runtime="onnxruntime",
        inputs=[
            Tensor(name=name, datatype=DATATYPES[array.dtype.name], shape=[-1, *array.shape[1:]])
            for name, array in workload.inputs.items()
        ],
        outputs=[Tensor(name=name, datatype="FP32", shape=[-1, size]) for name, size in names.items()],
        scores=workload.output if workload.classes else None,
        embedding=embedding,
        labels=[str(i) for i in range(workload.classes)],
        bounds={
            name: Bounds(low=float(array.min()) - 9, high=float(array.max()) + 9)
            for name, array in workload.inputs.items()
        },
        blobs={role: Blob(sha256=digest(content), size=len(content)) for role, content in parts.items()},
        created_at=1.0,
    )
    envelope = seal(manifest, key.sign)
    duty = Duty(bundle=digest(envelope), size=len(envelope), version=1, release=1)
    blobs = {digest(envelope): envelope, **{digest(content): content for content in parts.values()}}
    store = BlobStore(disk, data / "blobs" / "sha256")
    write_blobs(store.folder, Built(duty, manifest, blobs))
    active = Install(bundle=duty.bundle, version=1, release=1)
    duties = Duties(models={workload.name: ModelDuty(active=active, confirmed=True)})
    Installs(disk, data / "duties.json", store).save(duties)
