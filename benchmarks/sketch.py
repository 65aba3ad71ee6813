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
from edgewise.sketch.spec import projection_matrix
from edgewise_agent.runtimes import open_runtime
from edgewise_compiler.sketches import confidence_edges, embedding_parts

CLASSES, WIDTH = 10, 64
SIZES = (600, 6000, 60_000)


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


def a_spec(rng: np.random.Generator, embeddings: np.ndarray) -> tuple[SketchSpec, np.ndarray]:
    """All sketches of a picture model, made by the compiler's own rules from ``embeddings`` [m, d]."""
    parts = embedding_parts(embeddings, 0)
    assert parts is not None
    edges = confidence_edges(rng.beta(5, 1, 1000), None)
    return SketchSpec(embedding=parts.spec, classes=CLASSES, confidence_edges=edges), projection_matrix(
        parts.spec, parts.projection
    )


def main() -> None:
    """Run and write."""
    rng = np.random.default_rng(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        runtime = open_runtime("onnxruntime", network(Path(folder)))

        def answer(n: int) -> dict[str, np.ndarray]:
            return runtime.infer({"input": rng.normal(size=(n, 1, 28, 28)).astype(np.float32)})

        spec, matrix = a_spec(rng, answer(4000)["embedding"])
        for batch in (1, 32):
            inputs = {"input": rng.normal(size=(batch, 1, 28, 28)).astype(np.float32)}
            outputs = runtime.infer(inputs)
            sketches = WindowSketches(spec, matrix)
            taken = interleave(
                {
                    "inference": lambda given=inputs: runtime.infer(given) and None,
                    "sketches": lambda s=sketches, o=outputs, b=batch: s.update(
                        [0.001] * b, o["scores"], o["embedding"]
                    ),
                },
                rounds=41,
                repeat=50,
            )
            sizes = []
            for n in SIZES:
                window = WindowSketches(spec, matrix)
                for _ in range(n // 200):
                    fresh = answer(200)
                    window.update(rng.lognormal(-6, 0.3, 200), fresh["scores"], fresh["embedding"])
                    assert window.labels is not None
                    right = fresh["scores"].argmax(axis=1)[:40]
                    wrong = np.where(rng.random(40) < 0.1, rng.integers(0, CLASSES, 40), right)
                    window.labels.update(wrong, right)
                sizes.append(sum(map(len, window.encode().values())))
            per_item = {name: 1e6 * value / batch for name, value in taken.items()}
            share = per_item["sketches"] / per_item["inference"]
            rows.append([batch, per_item["inference"], per_item["sketches"], share, *sizes])
    write(
        "sketch",
        "The sketches of a window",
        "CPU of updating all sketches (256 random Fourier features, 32 Voronoi cells and the distance of a 64-d "
        "embedding, classes, confidence, latency) beside the inference that they describe (a small CNN, 1x28x28, fp32, "
        "one thread): medians of 41 interleaved rounds. The agent adds up to 32 requests as one batch. Bytes of a "
        "window's sketches, with a fifth of the items labelled, a tenth of those wrong.",
        ["batch", "inference, us an item", "sketches, us an item", "ratio", *(f"bytes, {n:,} items" for n in SIZES)],
        rows,
    )


if __name__ == "__main__":
    main()
