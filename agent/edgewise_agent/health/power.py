"""What the board says of its power, below ``root``: RAPL counters, INA sensors, or nothing.

RAPL (Intel, AMD) counts microjoules for each package, and wraps. INA2xx and INA3221 (Jetson and many carrier boards)
are hwmon sensors of watts, or of volts and amperes: of several rails the one that feeds the board is taken, where it is
named, else their sum.
"""

from __future__ import annotations

from pathlib import Path

from edgewise_agent.health.system import number, text

INA = ("ina209", "ina219", "ina220", "ina226", "ina230", "ina231", "ina233", "ina238", "ina2xx", "ina3221")
TOTAL_RAILS = ("VDD_IN", "VIN_SYS_5V0", "POM_5V_IN", "VIN", "TOTAL")
"""Labels of the rail that everything else hangs on."""


def rapl(root: Path) -> dict[str, tuple[int, int]]:
    """Package -> (microjoules, where that wraps). Empty where there is none, or only root may read it."""
    found = {}
    for package in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
        energy, wraps = number(package / "energy_uj"), number(package / "max_energy_range_uj")
        if package.name.count(":") == 1 and energy is not None and wraps:
            found[package.name] = (energy, wraps)
    return found


def between(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> int | None:
    """Microjoules between two readings of ``rapl``; None where no package is in both."""
    spent = [
        (energy - before[package][0]) % wraps
        for package, (energy, wraps) in after.items()
        if package in before and 0 <= energy <= wraps and 0 <= before[package][0] <= wraps
    ]
    return sum(spent) if spent else None


def watts(root: Path) -> float | None:
    """What the board draws now, by its INA sensors."""
    rails: dict[str, float] = {}
    for sensor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if (text(sensor / "name") or "") not in INA:
            continue
        for channel in range(1, 5):
            drawn = _channel(sensor, channel)
            if drawn is not None:
                label = text(sensor / f"in{channel}_label") or text(sensor / f"power{channel}_label") or ""
                rails[label.upper() or f"{sensor.name}/{channel}"] = drawn
    for label in TOTAL_RAILS:
        if label in rails:
            return rails[label]
    return sum(rails.values()) if rails else None


def _channel(sensor: Path, channel: int) -> float | None:
    """Watts: ``power*_input`` is in microwatts, ``in*_input`` in millivolts, ``curr*_input`` in milliamperes."""
    power = number(sensor / f"power{channel}_input")
    if power is not None:
        return power / 1e6
    bus = number(sensor / f"in{channel}_input")
    current = number(sensor / f"curr{channel}_input")
    return None if bus is None or current is None else bus * current / 1e6
