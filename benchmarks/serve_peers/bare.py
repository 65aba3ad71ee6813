"""A bare Starlette handler of binary tensors: what is left of a server when it checks, counts and reports nothing."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])


async def infer(request: Request) -> Response:
    """The image's bytes in, the scores' bytes out."""
    image = np.frombuffer(await request.body(), np.float32).reshape(1, 3, 96, 96)
    return Response(session.run(["scores"], {"image": image})[0].tobytes())


app = Starlette(routes=[Route("/infer", infer, methods=["POST"])])
