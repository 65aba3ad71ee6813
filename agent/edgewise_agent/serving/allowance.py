"""What serving may take of the device: threads and memory, by its owner, else by its profile. Pure but for the look-up.

A serve child that grows past its memory is replaced by a second one that takes over first; one that grows faster than
that is ended, as one that hangs is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edgewise import profile
from edgewise.errors import ProfileError
from edgewise_agent.serving.options import Options

log = logging.getLogger(__name__)

CHILD_MB = 96
"""Of a serve child beside its models: Python, NumPy, a runtime."""
GROWN = 1.25
"""A child that is so many times the least that it was with its models loaded has grown; one that was large from the
start would be no smaller anew."""
TOO_MUCH = 1.5
"""So many times its memory, and it is ended."""


@dataclass(frozen=True)
class Allowance:
    """``threads``: of one model at most; ``memory_mb``: of a serve child whatever it serves, ``model_mb``: of each of
    its models. None: no limit."""

    threads: int | None = None
    memory_mb: int | None = None
    model_mb: int | None = None

    def bytes(self, models: int) -> int | None:
        """Of a child with so many models (installs)."""
        if self.memory_mb is not None:
            return self.memory_mb * 2**20
        return None if self.model_mb is None else (CHILD_MB + self.model_mb * models) * 2**20


def allowance(name: str, options: Options) -> Allowance:
    """By the owner's options and the limits of the device profile ``name``; one that is not known here has none."""
    try:
        limits = profile.find(name).limits
    except ProfileError as error:
        log.info("no limits of a device profile: %s", error)
        return Allowance(options.threads, options.memory_mb)
    return Allowance(options.threads or limits.threads, options.memory_mb, limits.memory_mb)


def has_grown(rss: int, least: int, allowed: int | None) -> bool:
    """Has a child whose RSS was ``least`` at the least grown past what it is allowed? Bytes."""
    return allowed is not None and rss > allowed and rss > GROWN * least


def is_too_much(rss: int, least: int, allowed: int | None) -> bool:
    """So far that it cannot wait for a successor?"""
    return allowed is not None and has_grown(rss, least, int(TOO_MUCH * allowed))
