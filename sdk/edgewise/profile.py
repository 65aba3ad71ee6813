"""A device profile: a kind of device, one TOML file. Errors name the file, the key and what was expected.

docs/device-profiles.md explains every field. Profiles come from the package, from the folders in ``EDGEWISE_PROFILES``
and from ``--profiles``; a later folder wins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgewise.errors import ProfileError
from edgewise.wire.codec import Name, Text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).parent / "device_profiles"
MAX_FILE = 64 * 1024

Dtype = Literal["fp32", "fp16", "bf16", "int8", "int4"]
"""A number format. ``int4`` is weights of 4 bits, unpacked as they are used; the others hold for weights and
activations."""

Scheme = Literal["u8s8", "s8s8"]
"""int8 schemes: activations by weights, u = unsigned, s = signed."""

Megabytes = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
"""Of 2**20 bytes."""


class Quantization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How int8 is computed there. ``schemes`` in order of preference: the compiler keeps the one that measures faster,
    else the first; none where ``dtypes`` has no int8. ``per_channel``: may each output channel of a weight have a scale
    of its own?
    """

    schemes: Annotated[list[Scheme], msgspec.Meta(max_length=8)] = msgspec.field(
        default_factory=lambda: ["u8s8", "s8s8"]
    )
    per_channel: bool = True


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the device is made of, as its vendor says: what is not published is left out. ``memory_mb`` and
    ``storage_mb``: what a device of this kind has at least.
    """

    soc: Text | None = None
    cpu: Text | None = None
    cores: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    memory_mb: Megabytes | None = None
    storage_mb: Megabytes | None = None
    accelerator: Text | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What models may use on the device: ``threads`` and ``memory_mb`` one model, ``storage_mb`` all installs together.
    What one bundle may take is a budget of a compilation.
    """

    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    memory_mb: Megabytes | None = None
    storage_mb: Megabytes | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of device.

    ``architecture``: what ``platform.machine()`` says there; docs/device-profiles.md has the words for where there is
    no Python. ``runtimes``: those that run there, the preferred first; a name that the compiler has no target for is
    the compiler's to refuse. ``dtypes``: what the hardware computes well.

    Raises ValueError, naming the key, where two fields contradict each other.
    """

    schema: Literal[1]
    name: Name
    title: Text
    architecture: Name
    runtimes: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=16)]
    dtypes: Annotated[list[Dtype], msgspec.Meta(min_length=1, max_length=16)] = msgspec.field(
        default_factory=lambda: ["fp32", "int8"]
    )
    hardware: Hardware = Hardware()
    quantization: Quantization = Quantization()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(problem)


def _problems(profile: Profile) -> Iterator[str]:
    """Where fields contradict each other, in sentences."""
    schemes = profile.quantization.schemes
    lists: dict[str, Sequence[str]] = {
        "runtimes": profile.runtimes,
        "dtypes": profile.dtypes,
        "quantization.schemes": schemes,
    }
    for key, names in lists.items():
        for name in names:
            if names.count(name) > 1:
                yield f"{key}: expected each once, got {name!r} {names.count(name)} times"
    if "int8" in profile.dtypes and not schemes:
        yield "quantization.schemes: expected at least one, since dtypes has int8, got none"
    if "int8" not in profile.dtypes and schemes:
        yield f"quantization.schemes: expected [], since dtypes has no int8, got {', '.join(schemes)}"
    limits, hardware = profile.limits, profile.hardware
    for key, limit, there_is in (
        ("threads", limits.threads, hardware.cores),
        ("memory_mb", limits.memory_mb, hardware.memory_mb),
        ("storage_mb", limits.storage_mb, hardware.storage_mb),
    ):
        if limit is not None and there_is is not None and limit > there_is:
            yield f"limits.{key}: expected at most the {there_is} of the hardware, got {limit}"


def load(path: Path) -> Profile:
    """Load one profile. Raises ProfileError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise ProfileError(f"{path}: at most {MAX_FILE} bytes, got {len(data)}")
    try:
        profile = msgspec.convert(tomllib.loads(data.decode()), Profile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ProfileError(f"{path}: {error}") from error
    if profile.name != path.stem:
        raise ProfileError(f"{path}: name: expected {path.stem!r}, as the file is called, got {profile.name!r}")
    return profile


def load_all(folders: Iterable[Path] = ()) -> dict[str, Profile]:
    """All profiles by name: built-in, then ``EDGEWISE_PROFILES``, then ``folders``. Raises ProfileError."""
    extra = [Path(part) for part in os.environ.get("EDGEWISE_PROFILES", "").split(os.pathsep) if part]
    profiles: dict[str, Profile] = {}
    for folder in [BUILT_IN, *extra, *folders]:
        if not folder.is_dir():
            raise ProfileError(f"{folder}: expected a folder of device profiles, got none")
        for path in sorted(folder.glob("*.toml")):
            profile = load(path)
            profiles[profile.name] = profile
    return profiles


def find(name: str, folders: Iterable[Path] = ()) -> Profile:
    """One profile by name. Raises ProfileError that lists what there is."""
    profiles = load_all(folders)
    if name not in profiles:
        raise ProfileError(
            f"unknown device profile {name!r}: expected one of {', '.join(sorted(profiles))}; "
            "add a folder with --profiles or EDGEWISE_PROFILES"
        )
    return profiles[name]
