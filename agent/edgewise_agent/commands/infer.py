"""``edgewise-agent infer FILE``: one inference by the agent that runs here, from a file.

``.npz`` holds an array an input, by name; ``.npy`` the only input; ``.json`` is an Open Inference Protocol request.
"""

from __future__ import annotations

import argparse
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgewise.errors import EdgewiseError
from edgewise_agent.commands.parts import Command, UsageError, installs, running, with_json
from edgewise_agent.store.disk import read

MAX_FILE = 64 * 1024 * 1024
TIMEOUT_S = 60.0


class InferFailed(EdgewiseError):
    """The agent did not answer with an inference."""

    code = "infer-failed"


def add(command: Command) -> None:
    """Its arguments."""
    sub = command("infer", run, "One inference from a file: .npz, .npy, or .json (an Open Inference Protocol request).")
    sub.add_argument("file", type=Path)
    sub.add_argument("--model", help="where more than one is installed")
    with_json(sub)


def run(arguments: argparse.Namespace) -> None:
    """Print the answer."""
    agent = running(arguments.data)
    if agent is None:
        raise InferFailed(f"{arguments.data}: no agent runs here; start it with edgewise-agent run")
    models = installs(arguments.data).duties.models
    model = arguments.model or (next(iter(models)) if len(models) == 1 else None)
    if model is None:
        raise UsageError(f"expected --model, one of: {', '.join(sorted(models)) or 'none is installed'}")
    answer = _post(agent["url"], model, json.dumps(request_of(arguments.file)).encode())
    if arguments.json:
        print(json.dumps(answer, indent=2))
        return
    print(f"{answer['model_name']} version {answer['model_version']}, request {answer['id']}")
    for output in answer["outputs"]:
        values = ", ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in output["data"][:12])
        more = ", ..." if len(output["data"]) > 12 else ""
        print(f"  {output['name']} {output['datatype']} {output['shape']}: {values}{more}")
    for name, value in (answer.get("parameters") or {}).items():
        print(f"  {name}: {value}")


def request_of(path: Path) -> dict[str, Any]:
    """The request in a file. Raises UsageError."""
    content = read(path, MAX_FILE)
    if content is None:
        raise UsageError(f"{path}: expected a file, got none")
    try:
        if path.suffix == ".json":
            request: dict[str, Any] = json.loads(content)
            return request
        return {"inputs": _arrays(path)}
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(f"{path}: expected .npz, .npy or .json of plain numbers: {error}") from error


def _arrays(path: Path) -> list[dict[str, Any]]:
    import numpy as np  # not for the other commands

    from edgewise_agent.serving.oip.tensors import datatype_of

    loaded = np.load(path, allow_pickle=False)
    arrays = {name: loaded[name] for name in loaded.files} if path.suffix == ".npz" else {"": loaded}
    return [
        {"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in arrays.items()
    ]


def _post(url: str, model: str, body: bytes) -> dict[str, Any]:
    """One request to the agent on this machine; ``""`` as the name of an only input is looked up first."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
    try:
        if b'"name": ""' in body[:64]:
            connection.request("GET", f"/v2/models/{model}")
            inputs = json.loads(connection.getresponse().read()).get("inputs") or [{"name": "input"}]
            body = body.replace(b'"name": ""', b'"name": ' + json.dumps(inputs[0]["name"]).encode(), 1)
        connection.request("POST", f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InferFailed(f"{url}: {error}; see edgewise-agent logs") from error
    finally:
        connection.close()
    if response.status != 200:
        raise InferFailed(f"{model}: {response.status}: {answer.get('error', answer)}")
    return answer
