"""One agent a data folder: a lock that goes with its process, however that ends."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from edgewise.errors import EdgewiseError

PATIENCE_S = 2.0
"""A command that only asks whether the folder is in use holds the lock for a moment."""


def lock(data: Path, patience_s: float = PATIENCE_S) -> IO[bytes]:
    """Take the folder. Raises EdgewiseError when another agent has it, or there is no such folder."""
    deadline = time.monotonic() + patience_s
    try:
        file = (data / "lock").open("wb")
    except OSError as error:
        raise EdgewiseError(f"{data}: {error.strerror}; give --data a folder that can be written") from error
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if time.monotonic() >= deadline:
                file.close()
                raise EdgewiseError(f"{data}: another edgewise-agent uses this folder") from error
        time.sleep(0.05)


def locked(data: Path) -> bool:
    """Does an agent use this folder now?"""
    try:
        lock(data, 0.0).close()
    except EdgewiseError:
        return True
    return False
