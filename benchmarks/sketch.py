"""What a window's sketches cost on the device: CPU beside the inference itself, and bytes on the wire."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from report import interleave, write

from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.sketch.spec import EmbeddingSpec, projection_matrix
from edgewise_agent.runtimes import open_runtime

CLASSES, WIDTH, FEATURES = 10, 64, 256


def network(folder: Path) -> Path:
    """A small CNN as in the demo: 1x28x28 -> 64-d embedding -> 10 scores."""
    rng = np.random.default_rng(0)
    weights = {
        "c1": rng.normal(size=(16, 1, 3, 3)) / 3,
        "c2": rng.normal(size=(32, 16, 3, 3)) / 12,
        "w1": rng.normal(size=(32 * 7 * 7, WIDTH)) / 40,
        "w2": rng.normal(size=(WIDTH, CLASSES)) / 8,
    }
    nodes = [
        helper.make_node("Conv", ["input", "c1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c", "c2"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("MaxPool", ["e"], ["f"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("MatMul", ["g", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "w2"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 28, 28])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = folder / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def main() -> None:
    """Run and write."""
    rng = np.random.default_rng(1)
    projection = rng.normal(size=(FEATURES // 2, WIDTH)).astype("<f4")
    spec = SketchSpec(
        embedding=EmbeddingSpec(dimension=WIDTH, features=FEATURES, sigma=1.0, seed=0, projection="0" * 64),
        classes=CLASSES,
        confidence_edges=[0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99],
    )
    assert spec.embedding is not None
    matrix = projection_matrix(spec.embedding, projection.tobytes())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        runtime = open_runtime("onnxruntime", network(Path(folder)))
        for batch in (1, 32):
            inputs = {"input": rng.normal(size=(batch, 1, 28, 28)).astype(np.float32)}
            outputs = runtime.infer(inputs)
            sketches = WindowSketches(spec, matrix)
            taken = interleave(
                {
                    "inference": lambda given=inputs: runtime.infer(given) and None,
                    "sketches": lambda s=sketches, o=outputs: s.update(0.001, o["scores"], o["embedding"]),
                },
                rounds=41,
                repeat=50,
            )
            window = WindowSketches(spec, matrix)
            for _ in range(600 // batch):
                fresh = runtime.infer({"input": rng.normal(size=(batch, 1, 28, 28)).astype(np.float32)})
                window.update(0.001, fresh["scores"], fresh["embedding"])
            size = sum(map(len, window.encode().values()))
            per_item = {name: 1e6 * value / batch for name, value in taken.items()}
            rows.append(
                [batch, per_item["inference"], per_item["sketches"], per_item["sketches"] / per_item["inference"], size]
            )
    write(
        "sketch",
        "The sketches of a window",
        "CPU of updating all sketches beside the inference that they describe (a small CNN, 1x28x28, fp32, one "
        "thread), and the bytes of a window's sketches after 600 items. Medians of 41 interleaved rounds.",
        ["batch", "inference, us an item", "sketches, us an item", "ratio", "sketches, bytes a window"],
        rows,
    )


if __name__ == "__main__":
    main()
