"""What is computed, in which order: pure. Shared steps come once, whatever the number of profiles.

Each step names what it needs and what it gives. A request that cannot work is refused here, before anything is
computed. Things are named by plain words: ``source``, ``fp32``, ``prepared``, ``ranges``, ``u8s8``, ``answers:u8s8``,
``latency:PROFILE``, ``bundle:PROFILE``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from edgewise.profile import Profile
from edgewise_compiler.errors import CompileError

Kind = Literal["export", "prepare", "calibrate", "quantize", "answer", "measure", "bundle"]

FP32 = "fp32"


@dataclass(frozen=True)
class Step:
    """``target``: the scheme that is quantized or answered with, or the profile that is measured or bundled for."""

    kind: Kind
    target: str
    needs: tuple[str, ...]
    gives: str

    @property
    def title(self) -> str:
        """In words, for progress."""
        return f"{self.kind} {self.target}".strip()


def plan(profiles: Sequence[Profile], *, runtimes: Collection[str], machine: str) -> list[Step]:
    """The steps for these profiles. ``runtimes``: those that there are; ``machine``: this one's architecture.

    A profile is measured only where its architecture is this machine's.
    Raises CompileError (code ``cannot-plan``).
    """
    _refuse(profiles, runtimes)
    schemes = list(dict.fromkeys(scheme for profile in profiles for scheme in profile.quantization.schemes))
    steps = [
        Step("export", "", ("source",), FP32),
        Step("answer", FP32, (FP32, "source"), f"answers:{FP32}"),
        Step("prepare", "", (FP32,), "prepared"),
        Step("calibrate", "", ("prepared", "source"), "ranges"),
    ]
    for scheme in schemes:
        steps.append(Step("quantize", scheme, ("prepared", "ranges"), scheme))
        steps.append(Step("answer", scheme, (scheme, "source"), f"answers:{scheme}"))
    for profile in profiles:
        candidates = (FP32, *profile.quantization.schemes)
        answers = tuple(f"answers:{candidate}" for candidate in candidates)
        measured: tuple[str, ...] = ()
        if profile.architecture == machine:
            measured = (f"latency:{profile.name}",)
            steps.append(Step("measure", profile.name, candidates, measured[0]))
        steps.append(Step("bundle", profile.name, (*candidates, *answers, *measured), f"bundle:{profile.name}"))
    check(steps)
    return steps


def check(steps: Sequence[Step], given: Collection[str] = ("source",)) -> None:
    """Every step has what it needs when its turn comes. Raises CompileError (code ``cannot-plan``)."""
    have = set(given)
    for step in steps:
        missing = [name for name in step.needs if name not in have]
        if missing:
            raise CompileError(
                f"plan: step {step.title!r} needs {', '.join(missing)}, which no step before it gives",
                code="cannot-plan",
            )
        have.add(step.gives)


def _refuse(profiles: Sequence[Profile], runtimes: Collection[str]) -> None:
    if not profiles:
        raise CompileError("expected at least one device profile, got none", code="cannot-plan")
    names = [profile.name for profile in profiles]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CompileError(f"expected each device profile once, got {', '.join(twice)} twice", code="cannot-plan")
    for profile in profiles:
        if profile.runtime not in runtimes:
            raise CompileError(
                f"device profile {profile.name!r}: runtime: expected one of {', '.join(sorted(runtimes))}, "
                f"got {profile.runtime!r}",
                code="cannot-plan",
            )
        if not profile.quantization.schemes:
            raise CompileError(
                f"device profile {profile.name!r}: quantization.schemes: expected at least one, got none",
                code="cannot-plan",
            )
