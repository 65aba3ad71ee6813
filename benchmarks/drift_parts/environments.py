"""The peers' own environments: one of each ``NAME.txt`` here, under ``.data/bench/drift``, and scripts run in them.

Nothing of this project can be imported there, and every script runs on one thread.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from compile_tasks.data import BenchError

HERE = Path(__file__).parent
PLACE = HERE.parents[1] / ".data" / "bench" / "drift"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def python(name: str) -> Path:
    """Its interpreter, with what ``NAME.txt`` pins. Raises BenchError."""
    requirements = HERE / f"{name}.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    found, stamp = PLACE / name / "bin" / "python", PLACE / name / "requirements.sha256"
    if stamp.is_file() and stamp.read_text() == wanted:
        return found
    if not found.is_file():
        _call([sys.executable, "-m", "venv", str(PLACE / name)])
    _call([str(found), "-m", "pip", "install", "-q", "-r", str(requirements)])
    stamp.write_text(wanted)
    return found


def run(name: str, script: str, *arguments: str | Path) -> None:
    """Run a script of this folder there. Raises BenchError with its last line."""
    _call([str(python(name)), str(HERE / script), *map(str, arguments)])


def _call(command: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= dict.fromkeys(THREADS, "1") | {"NML_DISABLE_USAGE_LOGGING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BenchError((done.stderr.strip().splitlines() or ["no message"])[-1][:200])
