"""What is typed, parsed: pure. Each raises ``typer.BadParameter``, which is wrong usage (exit code 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import typer

from edgewise.errors import EdgewiseError
from edgewise.resources import Budget, Stage, Techniques
from edgewise.wire.quality import Rule

MAX_CONFIG = 1024 * 1024
_MODEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?::v?([0-9]{1,15}))?")
_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def model_version(text: str) -> tuple[str, int | None]:
    """``digits:3`` -> ("digits", 3); ``digits`` -> ("digits", None)."""
    match = _MODEL.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"expected MODEL or MODEL:VERSION such as digits:3, got {text!r}")
    return match[1], int(match[2]) if match[2] else None


def exact_version(text: str) -> tuple[str, int]:
    """As ``model_version``, and the version must be there."""
    name, version = model_version(text)
    if version is None:
        raise typer.BadParameter(f"expected MODEL:VERSION such as {name}:3, got {text!r}")
    return name, version


def techniques(named: Mapping[str, object]) -> Techniques:
    """Those of the command line for the hub, where the student is a version."""
    fields = dict(named)
    if (student := fields.get("student")) is not None:
        model, version = exact_version(str(student))
        fields["student"] = {"model": model, "version": version}
    try:
        return msgspec.convert(fields, Techniques)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error


def stage(text: str) -> Stage:
    """``3`` or ``25%``."""
    try:
        return Stage.parse(text)
    except EdgewiseError as error:
        raise typer.BadParameter(str(error)) from error


def budget(text: str) -> Budget:
    """``latency=0.5x,size=200KB,drop=0.005``."""
    try:
        return Budget.parse(text)
    except EdgewiseError as error:
        raise typer.BadParameter(str(error)) from error


def limit(text: str) -> float | None:
    """A number, or ``off`` for None: the gate is left out."""
    if text == "off":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(f"expected a number from 0 up, or off, got {text!r}")
    return value


def rule(text: str) -> Rule | None:
    """``count``, ``flag`` or ``refuse``; ``default`` for None."""
    if text == "default":
        return None
    if text not in get_args(Rule):
        raise typer.BadParameter(f"expected {', '.join(get_args(Rule))} or default, got {text!r}")
    return cast(Rule, text)


def seconds(text: str) -> float:
    """``90``, ``90s``, ``5min``, ``2h``, ``1d`` in seconds."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([a-z]*)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise typer.BadParameter(f"expected a time such as 90, 90s, 5min, 2h or 1d, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def config(assignments: Sequence[str], file: Path | None = None) -> dict[str, Any]:
    """A recipe's configuration: a JSON file's object, then ``KEY=VALUE`` over it; VALUE is JSON, else text."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_CONFIG + 1)
            if len(data) > MAX_CONFIG:
                raise typer.BadParameter(f"{file}: at most {MAX_CONFIG} bytes")
            values = msgspec.json.decode(data, type=dict[str, Any])
        except OSError as error:
            raise typer.BadParameter(f"{file}: cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{file}: expected a JSON object: {error}") from error
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"expected KEY=VALUE, got {assignment!r}")
        try:
            values[key] = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            values[key] = text
    return values
