"""Submit a compilation: what is asked for is checked before there is a job."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from edgewise.errors import EdgewiseError
from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.tables import Job
from edgewise_hub.registry.tables import Version


class JobError(EdgewiseError):
    """A job that cannot be: ``unknown-profile``, ``no-version`` (there is none, or none to compile)."""

    code = "bad-job"


@dataclass(frozen=True)
class Wishes:
    """What a compilation is asked for besides. ``budget``: the fields of ``edgewise_compiler.budget.Budget``, which
    the worker checks; None: nothing can be missed. ``training``: None where the budget decides."""

    budget: dict[str, float] | None = None
    training: bool | None = None
    allow_over_budget: bool = False


def compilation(
    session: Session, hub: Hub, model: str, version: int, profiles: list[str], now: float, wishes: Wishes = Wishes()
) -> Job:
    """A job that compiles one version for ``profiles``, each once. Raises JobError."""
    check_profiles(hub, profiles)
    found = session.get(Version, (hub.tenant, model, version))
    if found is None:
        raise JobError(f"{model} version {version}: there is none; register it first", code="no-version")
    if found.source["kind"] == "agent":
        raise JobError(f"{model} is the agent itself: it needs no compiling; roll it out", code="no-version")
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
