"""A device profile: a kind of device, one TOML file. Errors name the file, the key and what was expected.

Profiles come from the package, from the folder in ``EDGEWISE_PROFILES`` and from ``--profiles``; a later folder wins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgewise.errors import ProfileError
from edgewise.wire.codec import Name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).parent / "device_profiles"
MAX_FILE = 64 * 1024

Scheme = Literal["u8s8", "s8s8"]
"""int8 schemes: activations by weights, u = unsigned, s = signed."""


class Quantization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``schemes`` in order of preference: the compiler keeps the one that measures faster, else the first."""

    schemes: Annotated[list[Scheme], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["u8s8", "s8s8"]
    )


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model may use on the device."""

    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    memory_mb: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of device. ``architecture`` is what ``platform.machine()`` says there."""

    schema: Literal[1]
    name: Name
    title: str
    architecture: str
    runtime: Name
    quantization: Quantization = Quantization()
    limits: Limits = Limits()


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
