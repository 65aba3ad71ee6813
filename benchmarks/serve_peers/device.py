"""The benchmark's model, and an agent's data folder with it installed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "agent"))

import numpy as np
import onnx
from agent_builders import Bundle as Built
from agent_builders import HubKey, identity, write_blobs
from onnx import TensorProto, helper, numpy_helper

from edgewise.bundle import Blob, Bounds, Manifest, Tensor, digest, seal
from edgewise.sketch.spec import EmbeddingSpec, SketchSpec
from edgewise.wire.codec import encode_json
from edgewise.wire.control import Duty
from edgewise_agent import identity as identities
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk
from edgewise_agent.store.installs import Duties, Install, Installs, ModelDuty

MODEL, CLASSES, WIDTH, FEATURES = "cnn", 10, 64, 256


def network(path: Path) -> None:
    """Three convolutions, 96x96 -> 64-d embedding -> 10 scores."""
    rng = np.random.default_rng(0)
    shapes = {
        "c1": (16, 3, 3, 3),
        "c2": (32, 16, 3, 3),
        "c3": (32, 32, 3, 3),
        "w1": (32, WIDTH),
        "w2": (WIDTH, CLASSES),
    }
    weights = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    nodes = []
    given = "image"
    for name in ("c1", "c2", "c3"):
        nodes.append(helper.make_node("Conv", [given, name], [f"{name}o"], pads=[1, 1, 1, 1], strides=[2, 2]))
        nodes.append(helper.make_node("Relu", [f"{name}o"], [f"{name}r"]))
        given = f"{name}r"
    nodes += [
        helper.make_node("GlobalAveragePool", [given], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "w2"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 96, 96])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def install(data: Path, model: Path, image: np.ndarray) -> None:
    """An enrolled data folder whose hub cannot be reached, with the model as a confirmed install."""
    key, disk = HubKey(), Disk()
    disk.folder(data)
    projection = np.random.default_rng(7).normal(size=(FEATURES // 2, WIDTH)).astype("<f4").tobytes()
    spec = SketchSpec(
        embedding=EmbeddingSpec(dimension=WIDTH, features=FEATURES, sigma=1.0, seed=7, projection=digest(projection)),
        classes=CLASSES,
        confidence_edges=[0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99],
    )
    smoke = io.BytesIO()
    np.savez(smoke, image=image)
    parts = {
        "model": model.read_bytes(),
        "sketch": encode_json(spec),
        "projection": projection,
        "smoke": smoke.getvalue(),
    }
    manifest = Manifest(
        tenant="default",
        model=MODEL,
        version=1,
        release=1,
        profile="linux-x86-64",
        runtime="onnxruntime",
        inputs=[Tensor(name="image", datatype="FP32", shape=[-1, 3, 96, 96])],
        outputs=[
            Tensor(name="scores", datatype="FP32", shape=[-1, CLASSES]),
            Tensor(name="embedding", datatype="FP32", shape=[-1, WIDTH]),
        ],
        scores="scores",
        embedding="embedding",
        labels=[str(i) for i in range(CLASSES)],
        bounds={"image": Bounds(low=-9, high=9)},
        blobs={role: Blob(sha256=digest(content), size=len(content)) for role, content in parts.items()},
        created_at=1.0,
    )
    envelope = seal(manifest, key.sign)
    duty = Duty(bundle=digest(envelope), size=len(envelope), version=1, release=1)
    blobs = {digest(envelope): envelope, **{digest(content): content for content in parts.values()}}
    identities.save(disk, data, identity(key))
    store = BlobStore(disk, data / "blobs" / "sha256")
    write_blobs(store.folder, Built(duty, manifest, blobs))
    active = Install(bundle=duty.bundle, version=1, release=1)
    Installs(disk, data / "duties.json", store).save(Duties(models={MODEL: ModelDuty(active=active, confirmed=True)}))
