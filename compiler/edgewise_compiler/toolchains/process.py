"""One job in a toolchain's environment: a subprocess with JSON on its pipes.

The job is one line of JSON on stdin; stdout holds lines of JSON, ``{"progress": 0.4, "text": "..."}`` and last
``{"result": {...}}`` or ``{"error": {...}}``; stderr is the converter's own, and its last lines go into an error.

Rules that hold here:
- the process has a group of its own, which is killed whole when its time is up, when the caller is interrupted, and
  after the result; stdin stays open meanwhile, so that the process ends when we do;
- it runs isolated (``-I``): neither our environment's packages nor the working folder are on its path;
- it is given one thread and a bound on its memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from edgewise_compiler.errors import CompileError, Unsupported
from edgewise_compiler.toolchains import environment

Script = Literal["convert_litert", "convert_executorch"]
START = """
import runpy, sys, types
sys.modules["inside"] = types.ModuleType("inside")
sys.modules["inside"].__path__ = [sys.argv[1]]
runpy.run_module(sys.argv[2], run_name="__main__")
"""
"""Runs a module of ``inside/`` with nothing of ours on the path: it would hide packages of the same names."""
MEMORY = 16 << 30
"""Bytes of data that a job may hold."""
MAX_LINE = 1 << 20
MAX_TAIL = 4096
PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
"""Variables that a converter is given; none of them is a secret."""


class ToolchainFailed(CompileError):
    """A job that did not give a result. ``unsupported``: the nodes that the converter could not take, where it says so.

    Codes: ``unsupported`` (the model has operators that the converter cannot take), ``cannot-convert``,
    ``toolchain-timeout``, ``worker-died``.
    """

    code = "cannot-convert"

    def __init__(self, message: str, *, code: str | None = None, unsupported: list[Unsupported] | None = None) -> None:
        super().__init__(message, code=code)
        self.unsupported = unsupported or []


class _Error(msgspec.Struct):
    code: Literal["unsupported", "cannot-convert"]
    message: str
    unsupported: list[Unsupported] = []


class _Line(msgspec.Struct):
    """One line of stdout."""

    progress: float | None = None
    text: str = ""
    result: dict[str, Any] | None = None
    error: _Error | None = None


def run(
    name: str,
    script: Script,
    job: Mapping[str, Any],
    *,
    timeout: float,
    progress: Callable[[float, str], None],
    memory: int = MEMORY,
) -> dict[str, Any]:
    """Run a script of ``inside/`` with the Python of toolchain ``name``; its result.

    ``timeout``: seconds; ``memory``: bytes. Raises ToolchainError (not installed) and ToolchainFailed.
    """
    python = environment.require(name)
    command = [str(python), "-I", "-c", START, str(Path(__file__).parent / "inside"), f"inside.{script}"]
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(),
            start_new_session=True,
        )
        late = threading.Event()

        def too_late() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(timeout, too_late)
        timer.start()
        try:
            last = _talk(process, {**job, "memory": memory}, progress)
        finally:
            timer.cancel()
            _kill(process)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                _close(pipe)
        if last is None and late.is_set():
            raise ToolchainFailed(f"{script}: not done after {timeout:.0f} s", code="toolchain-timeout")
        if last is None:
            raise ToolchainFailed(f"{script}: {_ended(process.returncode)}{_tail(stderr)}", code="worker-died")
    if last.error is not None:
        raise ToolchainFailed(last.error.message, code=last.error.code, unsupported=last.error.unsupported)
    return last.result or {}


def _talk(
    process: subprocess.Popen[bytes], job: Mapping[str, Any], progress: Callable[[float, str], None]
) -> _Line | None:
    """Hand the job over and listen until the result or the error; None when neither came. Raises ToolchainFailed."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        process.stdin.flush()
    except BrokenPipeError:  # it ended without reading all of it: perhaps with an answer
        pass
    while text := process.stdout.readline(MAX_LINE):
        try:
            line = msgspec.json.decode(text, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ToolchainFailed(f"expected a line of JSON from the converter, got {text[:80]!r}") from error
        if line.result is not None or line.error is not None:
            return line
        if line.progress is not None:
            progress(line.progress, line.text)
    return None


def _environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # JAX is part of litert-torch: without this it looks for accelerators first.
    return {**passed, **threads, "JAX_PLATFORMS": "cpu", "TOKENIZERS_PARALLELISM": "false"}


def _kill(process: subprocess.Popen[bytes]) -> None:
    # The group outlives its leader while one of its processes lives.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _close(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except BrokenPipeError:  # what was not read of the job
        pass


def _ended(status: int) -> str:
    if status < 0:
        return f"the converter was ended by {signal.Signals(-status).name}"
    return f"the converter ended with status {status} and no result"


def _tail(stderr: IO[bytes]) -> str:
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - MAX_TAIL))
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines() if line.strip()]
    return ": " + " | ".join(lines[-3:]) if lines else ""
