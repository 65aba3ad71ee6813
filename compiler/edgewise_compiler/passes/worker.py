"""One run of a pass from a folder: in this process, or in one of its own.

A folder holds everything that the run needs: ``job.json``, the inputs, the data. So a run that failed can be run again,
by hand: ``python -m edgewise_compiler.passes.worker FOLDER``. In a process of its own a pass tells its progress on
standard output, a JSON line each, and its end in ``done.json``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError, Unsupported
from edgewise_compiler.passes import Refusal, Work, find

JOB, DONE, OUT = "job.json", "done.json", "out"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """``inputs`` and ``data``: file names in the folder. ``environment``: what it ran with, for who repeats it."""

    pass_name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    data: str | None
    seed: int
    scores: str | None
    embedding: str | None
    environment: dict[str, str] = {}


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended: well (``error`` is None), refused, or with an error of the compiler's own."""

    notes: list[str] = []
    error: str | None = None
    code: str | None = None
    refused: bool = False
    unsupported: list[Unsupported] = []


def run_job(folder: Path, progress: Callable[[float, str], None], data: Data | None = None) -> Done:
    """Run the job of a folder; the pass writes ``out`` there. ``data``: what the folder's file holds, already read.

    Whatever the pass raises on purpose is in the answer; other errors are raised.
    """
    job = msgspec.json.decode((folder / JOB).read_bytes(), type=Job)
    does = find(job.pass_name)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    if data is None and job.data is not None:
        data = Data.load(folder / job.data)
    work = Work(
        inputs={role: folder / name for role, name in job.inputs.items()},
        out=folder / OUT,
        folder=scratch,
        config=msgspec.convert(job.config, does.Config),
        data=data,
        seed=job.seed,
        scores=job.scores,
        embedding=job.embedding,
        progress=progress,
    )
    try:
        does.run(work)
    except Refusal as error:
        return Done(error=str(error), code=error.code, refused=True, unsupported=error.unsupported, notes=work.notes)
    except CompileError as error:
        return Done(error=str(error), code=error.code, notes=work.notes)
    return Done(notes=work.notes)


def main(folder: Path) -> None:
    """In a process of its own."""
    # What the pass and its libraries print is for people: standard output is the parent's.
    told = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def progress(fraction: float, text: str) -> None:
        told.write(msgspec.json.encode([fraction, text]) + b"\n")

    done = run_job(folder, progress)
    (folder / DONE).write_bytes(msgspec.json.encode(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
