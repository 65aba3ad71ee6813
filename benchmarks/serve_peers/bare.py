"""A bare Starlette handler of binary tensors: what is left of a server when it checks, counts and reports nothing."""

import numpy as np
from session import INPUTS, OUTPUT, open_session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

session = open_session()


async def infer(request: Request) -> Response:
    """The inputs' bytes in, one after another; the output's bytes out."""
    body, at, inputs = await request.body(), 0, {}
    for name, dtype, shape in INPUTS:
        count = int(np.prod(shape))
        inputs[name] = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    return Response(session.run([OUTPUT], inputs)[0].tobytes())


app = Starlette(routes=[Route("/infer", infer, methods=["POST"])])
