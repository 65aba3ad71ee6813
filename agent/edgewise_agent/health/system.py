"""Processor, memory, heat and network as Linux tells them, below ``root``. What is not there is None: no board has all.

The formats are those of proc(5) and of the kernel's documentation of thermal zones, hwmon and cooling devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_BOUND = 256 * 1024
_MIN_C, _MAX_C = -60.0, 200.0
"""A sensor that says something else is not connected."""
THROTTLED_BITS = 0b1110
"""Of the Raspberry Pi's ``get_throttled``: frequency capped, throttled, at the soft temperature limit, now."""


class Ticks(NamedTuple):
    """Of all processors since the start."""

    busy: int
    total: int


class Memory(NamedTuple):
    """Bytes."""

    used: int
    total: int


class Traffic(NamedTuple):
    """Bytes of all network interfaces but the loopback, since the start."""

    received: int
    sent: int


def text(path: Path) -> str | None:
    """A file's text without the white space around it; None where it cannot be read (a sensor may refuse)."""
    try:
        with path.open("rb") as file:
            return file.read(_BOUND).decode("utf-8", "replace").strip()
    except OSError:
        return None


def whole(written: str | None, base: int = 10) -> int | None:
    """An integer of 64 bits; None for anything else."""
    try:
        found = int((written or "")[:32], base)
    except ValueError:
        return None
    return found if -(2**63) <= found < 2**64 else None


def number(path: Path) -> int | None:
    """The integer that a file holds."""
    return whole(text(path))


def ticks(root: Path) -> Ticks | None:
    """``/proc/stat``: idle and waiting for input are not busy."""
    line = (text(root / "proc/stat") or "").partition("\n")[0].split()
    fields = [found for field in line[1:9] if (found := whole(field)) is not None]  # guests' time is in user's already
    if len(fields) < 5 or line[0] != "cpu":
        return None
    return Ticks(sum(fields) - fields[3] - fields[4], sum(fields))


def memory(root: Path) -> Memory | None:
    """``/proc/meminfo``: what is not available to programs is in use."""
    fields: dict[str, int] = {}
    for line in (text(root / "proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        amount = whole(value.partition(" kB")[0])
        if amount is not None:
            fields[name] = amount * 1024
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    return None if total is None or available is None else Memory(max(0, total - available), total)


def temperature(root: Path) -> float | None:
    """The hottest thermal zone; where there is none, the hottest hwmon sensor. Degrees Celsius."""
    for pattern in ("sys/class/thermal/thermal_zone*/temp", "sys/class/hwmon/hwmon*/temp*_input"):
        found = [value / 1000 for path in root.glob(pattern) if (value := number(path)) is not None]
        real = [value for value in found if _MIN_C < value < _MAX_C]
        if real:
            return max(real)
    return None


def throttled(root: Path) -> bool | None:
    """Does it slow itself down now? A Raspberry Pi has its firmware say so, others a device that cools a processor."""
    firmware = text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if firmware is not None:
        bits = whole(firmware, 16)
        return None if bits is None else bool(bits & THROTTLED_BITS)
    states = [
        state
        for device in root.glob("sys/class/thermal/cooling_device*")
        if _limits_a_processor(text(device / "type") or "") and (state := number(device / "cur_state")) is not None
    ]
    return any(state > 0 for state in states) if states else None


def throttle_events(root: Path) -> int | None:
    """How often x86 processors throttled since the start."""
    found = [
        count
        for path in root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
        if (count := number(path)) is not None
    ]
    return sum(found) if found else None


def traffic(root: Path) -> Traffic | None:
    """``/proc/net/dev``."""
    interfaces = list(_interfaces(text(root / "proc/net/dev") or ""))
    if not interfaces:
        return None
    return Traffic(sum(found.received for found in interfaces), sum(found.sent for found in interfaces))


def _interfaces(table: str) -> Iterator[Traffic]:
    for line in table.splitlines():
        name, colon, rest = line.partition(":")
        fields = [whole(field) for field in rest.split()]
        if colon and name.strip() != "lo" and len(fields) >= 9 and fields[0] is not None and fields[8] is not None:
            yield Traffic(fields[0], fields[8])


def _limits_a_processor(kind: str) -> bool:
    return kind == "Processor" or "cpu" in kind.lower()
