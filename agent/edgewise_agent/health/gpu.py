"""The GPU where there is one: NVIDIA's by its management library (the extra ``nvidia``), a Jetson's by sysfs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from edgewise_agent.health.system import number

log = logging.getLogger(__name__)

LOADS = ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load", "sys/devices/platform/*/*.gpu/load",
         "sys/devices/platform/*.ga10b/load", "sys/devices/platform/*/*.ga10b/load")  # fmt: skip
"""Where a Jetson says how busy its GPU is, in thousandths."""
DRIVER = "proc/driver/nvidia/version"


def jetson_load(root: Path) -> float | None:
    """0..1."""
    for pattern in LOADS:
        for path in root.glob(pattern):
            load = number(path)
            if load is not None and 0 <= load <= 1000:
                return load / 1000
    return None


class Nvidia:
    """The first GPU. The library is opened where there is its driver, and never again after it failed."""

    def __init__(self, root: Path) -> None:
        self._library: Any = None
        if not (root / DRIVER).exists():
            return
        try:
            import pynvml  # from the extra

            pynvml.nvmlInit()
            self._library, self._gpu = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
        except ImportError:
            log.info("an NVIDIA driver, but no nvidia-ml-py: install edgewise-agent[nvidia] to report the GPU")
        except Exception as error:  # NVMLError, whose class came with the import
            log.warning("the NVIDIA driver does not answer: %s", error)

    def read(self) -> dict[str, float]:
        """Gauges by name; empty where there is no such GPU."""
        nvml = self._library
        if nvml is None:
            return {}
        try:
            used = nvml.nvmlDeviceGetMemoryInfo(self._gpu).used
            busy = nvml.nvmlDeviceGetUtilizationRates(self._gpu).gpu / 100
            heat = nvml.nvmlDeviceGetTemperature(self._gpu, nvml.NVML_TEMPERATURE_GPU)
        except nvml.NVMLError as error:
            log.warning("the GPU is not reported any more: %s", error)
            self._library = None
            return {}
        return {"gpu": busy, "gpu_memory": float(used), "gpu_temperature": float(heat)}
