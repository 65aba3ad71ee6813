"""What the device measures of itself."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

from edgewise_agent import __version__

Fact = str | int | float | bool


def rss() -> int:
    """Resident memory of this process in bytes (its peak where the system does not say the present)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def device_facts() -> dict[str, Fact]:
    """What does not change while the agent runs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return {
        "agent": __version__,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 1,
        "memory_mb": memory,
    }
