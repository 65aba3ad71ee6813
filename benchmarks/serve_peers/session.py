"""What every peer runs: one session on one thread, and what it is asked. Imports nothing of this project."""

import json
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort

INPUTS = [(name, np.dtype(kind), shape) for name, kind, shape in json.loads(os.environ["BENCH_INPUTS"])]
OUTPUT = os.environ["BENCH_OUTPUT"]


def open_session() -> ort.InferenceSession:
    """The model."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
