"""Submit a compilation: what is asked for is checked before there is a job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from edgewise.errors import EdgewiseError
from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.tables import Job
from edgewise_hub.registry.tables import Version


class JobError(EdgewiseError):
    """A job that cannot be: ``unknown-profile``, ``no-version`` (there is none, or none to compile), ``cannot-plan``
    (a version as its own student)."""

    code = "bad-job"


@dataclass(frozen=True)
class Wishes:
    """What a compilation is asked for besides; the worker checks it. ``budget``: the fields of
    ``edgewise_compiler.budget.Budget``; None: nothing can be missed. ``training``: None where the budget decides.
    ``techniques``: the fields of ``edgewise_compiler.techniques.Techniques``, its ``student`` a version:
    {"model", "version"}."""

    budget: dict[str, float] | None = None
    training: bool | None = None
    allow_over_budget: bool = False
    techniques: dict[str, Any] = field(default_factory=dict)


def compilation(
    session: Session, hub: Hub, model: str, version: int, profiles: list[str], now: float, wishes: Wishes = Wishes()
) -> Job:
    """A job that compiles one version for ``profiles``, each once. Raises JobError."""
    check_profiles(hub, profiles)
    _check_version(session, hub, model, version)
    if (student := wishes.techniques.get("student")) is not None:
        _check_version(session, hub, student["model"], student["version"])
        if (student["model"], student["version"]) == (model, version):
            raise JobError(
                f"student: expected a smaller model, got {model} version {version} itself", code="cannot-plan"
            )
    payload = {"model": model, "version": version, "profiles": list(dict.fromkeys(profiles)), **asdict(wishes)}
    return executor.enqueue(session, hub, "compile", payload, now)


def check_profiles(hub: Hub, names: list[str]) -> None:
    """Raises JobError (code ``unknown-profile``) when this hub does not know one of the device profiles."""
    unknown = [name for name in names if name not in hub.profiles]
    if unknown:
        raise JobError(
            f"unknown device profile {unknown[0]!r}: expected one of {', '.join(sorted(hub.profiles))}",
            code="unknown-profile",
        )


def _check_version(session: Session, hub: Hub, model: str, version: int) -> None:
    found = session.get(Version, (hub.tenant, model, version))
    if found is None:
        raise JobError(f"{model} version {version}: there is none; register it first", code="no-version")
    if found.source["kind"] == "agent":
        raise JobError(f"{model} is the agent itself: it needs no compiling; roll it out", code="no-version")
