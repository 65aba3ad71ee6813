"""The other end of ``process``: read the job, say how far it is, answer once.

Rules that hold here:
- stdout belongs to the answers: whatever a converter prints goes to stderr;
- when stdin closes, whoever asked is gone, and the process ends at once;
- an error names what could not be converted wherever the converter says it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

Progress = Callable[[float, str], None]

MISSING = re.compile(r"\b(?:torch\.ops\.)?((?:aten|prims|torchvision|quantized_decomposed)(?:::|\.)\w+(?:\.\w+)?)")
"""Names of operators in the converters' messages."""


class Refused(Exception):
    """A model that cannot be taken. ``nodes``: each as {"node", "op", "why", "rewrite"}."""

    def __init__(self, message: str, nodes: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.nodes = nodes


def main(convert: Callable[[dict[str, Any], Progress], dict[str, Any]]) -> None:
    """Run one job. ``convert``: (job, progress) -> result."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    line = sys.stdin.buffer.readline()
    job: dict[str, Any] = json.loads(line)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    _bound(job.pop("memory"))

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        answer(result=convert(job, lambda fraction, text: answer(progress=fraction, text=text)))
    except Refused as refused:
        answer(error={"code": "unsupported", "message": str(refused), "unsupported": refused.nodes})
    except Exception as error:  # converters raise classes of all kinds; each becomes one line for the caller
        answer(error=_explained(error))
    # Without the interpreter's shutdown: native libraries crash in it.
    os._exit(0)


def _explained(error: Exception) -> dict[str, Any]:
    text = " ".join(str(error).split())
    message = f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__
    if isinstance(error, MemoryError):
        return {"code": "cannot-convert", "message": "the conversion needs more memory than it may use"}
    named = sorted({match.replace("::", ".") for match in MISSING.findall(text)})
    lacking = isinstance(error, NotImplementedError) or re.search(
        r"not (supported|found|implemented)|no lowering", text, re.I
    )
    if not named or not lacking:
        return {"code": "cannot-convert", "message": message}
    nodes = [{"node": "", "op": name, "why": "the converter has no form of it", "rewrite": None} for name in named]
    return {"code": "unsupported", "message": message, "unsupported": nodes}


def _bound(memory: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    bound = memory if most == resource.RLIM_INFINITY else min(memory, most)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (bound, most))
    except (OSError, ValueError):  # not every system bounds it
        pass


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
