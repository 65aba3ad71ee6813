"""How much a model's answers may move by rounding alone: its **tremor**.

A quantized model computes on grids, and two runtimes that round otherwise where a value lies between two steps give
other answers, neither of them wrong. How far such differences grow on their way through a model is measured, not
guessed: every scale and float constant of the quantized arithmetic is moved by up to half a step of 8 bits, at random,
and the answers are compared. A pass that promises the same answers is held to its tolerance or, where that is more, to
``MARGIN`` times the tremor of the model that it took.

Float models have no tremor to speak of: they are held to the tolerance alone.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

TRIALS = 3
HALF_STEP = 0.5 / 255
MARGIN = 2.0
LARGEST = float(np.finfo(np.float32).max)
ARITHMETIC = {"QuantizeLinear", "DequantizeLinear", "Mul", "Add", "Gemm", "MatMul", "Conv", "MatMulNBits"}
"""Operators whose float constants are moved; those of others may be sizes or bounds."""


def nudged(model: onnx.ModelProto, trial: int) -> onnx.ModelProto | None:
    """The same graph with its float constants moved, each by its own draw; None where it has none. Seeded."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    read = {name for node in made.graph.node if node.op_type in ARITHMETIC for name in node.input}
    random = np.random.default_rng(trial)
    moved = False
    for tensor in made.graph.initializer:
        if tensor.name not in read or tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        by = 1 + random.uniform(-HALF_STEP, HALF_STEP, values.shape)
        inside = np.clip(values * by, -LARGEST, LARGEST)
        tensor.CopyFrom(numpy_helper.from_array(inside.astype(np.float32), tensor.name))
        moved = True
    return made if moved else None
