"""Where the toolchains' environments are, whether they are whole, and how they are made.

Rules that hold here:
- an environment is whole only when the digest of its lock is stamped in it, and the stamp is written last: one whose
  installation was cut off, or whose lock has changed since, is none;
- PyTorch is installed exactly and first, so that a looser wish of another package cannot pull another build;
- the rest is installed from the lock alone (``--no-deps``): nothing is resolved.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from edgewise_compiler.errors import CompileError

NAMES = ("executorch", "litert")
FOLDER = "EDGEWISE_TOOLCHAINS"
"""Environment variable: the folder of the toolchains."""
STAMP = "edgewise-lock"
PACKAGE_DEADLINE_S = 3600.0


class ToolchainError(CompileError):
    """Codes: ``toolchain-missing`` (not installed, with the command that does it), ``toolchain-install``."""

    code = "toolchain-missing"


def folder() -> Path:
    """Where toolchains are installed: ``EDGEWISE_TOOLCHAINS``, else ``edgewise/toolchains`` in the XDG data folder."""
    if given := os.environ.get(FOLDER):
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "edgewise" / "toolchains"


def find(name: str) -> Path | None:
    """The Python of an installed toolchain; None when it is not installed, not whole, or of another lock."""
    home = folder() / _known(name)
    try:
        whole = (home / STAMP).read_text() == digest(name)
    except OSError:
        return None
    return _python(home) if whole else None


def require(name: str) -> Path:
    """``find``, or ToolchainError with the hint."""
    if python := find(name):
        return python
    raise ToolchainError(hint(name))


def hint(name: str) -> str:
    """One line: what is missing and the command that installs it."""
    return f"the {_known(name)} toolchain is not installed: python -m edgewise_compiler.toolchains install {name}"


def lock(name: str) -> str:
    """The lock's text: one ``package==version`` a line, and comments."""
    return files("edgewise_compiler.toolchains").joinpath("locks", f"{_known(name)}.txt").read_text()


def digest(name: str) -> str:
    """What is stamped in a whole environment: sha256 of the lock and the version of Python, hex. Part of cache keys."""
    python = f"python {sys.version_info[0]}.{sys.version_info[1]}\n"
    return hashlib.sha256((python + lock(name)).encode()).hexdigest()


def install(name: str, progress: Callable[[float, str], None]) -> Path:
    """Make the toolchain's environment, unless it is whole, and return its Python. One at a time on a machine.

    ``progress``: (fraction, text). Raises ToolchainError (code ``toolchain-install``) with pip's last lines.
    """
    home = folder() / _known(name)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with _alone(home.with_suffix(".lock")):
            if python := find(name):
                return python
            if home.exists():
                shutil.rmtree(home)
            _build(name, home, progress)
    except OSError as error:
        raise ToolchainError(f"cannot install {name} in {home.parent}: {error}", code="toolchain-install") from error
    return _python(home)


def _build(name: str, home: Path, progress: Callable[[float, str], None]) -> None:
    torch = next(line for line in lock(name).splitlines() if line.startswith("torch=="))
    progress(0.0, f"{name}: make the environment")
    _run([sys.executable, "-m", "venv", str(home)])
    locked = home / "lock.txt"
    locked.write_text(lock(name))
    pip = [str(_python(home)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    progress(0.05, f"{name}: install {torch}")
    _run([*pip, "--constraint", str(locked), torch])
    progress(0.5, f"{name}: install the converter")
    _run([*pip, "--no-deps", "--requirement", str(locked)])
    (home / STAMP).write_text(digest(name))
    progress(1.0, f"{name}: installed")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PACKAGE_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(
            f"not done after {error.timeout:.0f} s: {command[-1]}", code="toolchain-install"
        ) from error
    if done.returncode:
        tail = " | ".join([line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-3:])
        raise ToolchainError(f"cannot install {command[-1]}: {tail}", code="toolchain-install")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _python(home: Path) -> Path:
    return home / "bin" / "python"


def _known(name: str) -> str:
    if name not in NAMES:
        raise ToolchainError(f"toolchain {name!r}: expected one of {', '.join(NAMES)}", code="toolchain-unknown")
    return name
