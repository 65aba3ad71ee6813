"""What the device reports of itself: ``Reported`` from what is there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from edgewise.wire.control import Consent, Desired, Failure, Reported, ReportedModel
from edgewise_agent.facts import Fact
from edgewise_agent.identity import Identity
from edgewise_agent.reconcile import Bundles
from edgewise_agent.store.installs import Duties

FAILURE_BYTES = 40 * 1024
"""Of a message of 64 KB, what all failures together may take; ``progress`` told each in full."""
_ONE_FAILURE = 600


def build(
    *,
    identity: Identity,
    agent: str,
    desired: Desired | None,
    generation: int,
    duties: Duties,
    whole: Collection[str],
    running: Bundles,
    rejected: Failure | None,
    consent: Mapping[str, Consent],
    facts: Mapping[str, Fact],
    at: float = 0.0,
) -> Reported:
    """``whole``: bundles in the store; ``running``: model -> bundle that takes traffic. Installed, running and
    confirmed are told apart; during a trial, confirmed is the bundle to go back to."""
    models: dict[str, ReportedModel] = {}
    wishes = desired.models if desired is not None else {}
    for model in sorted({*duties.models, *duties.failures, *wishes}):
        duty = duties.models.get(model)
        last = None if duty is None else duty.active if duty.confirmed else duty.previous
        known = {wish.bundle for wish in wishes[model].duties.values()} if model in wishes else set()
        if duty is not None:
            known |= {duty.active.bundle} | ({duty.previous.bundle} if duty.previous else set())
        models[model] = ReportedModel(
            installed=sorted(known & set(whole)),
            running=running.get(model),
            confirmed=last.bundle if last is not None else None,
            failed=_shortened(
                duties.failures.get(model, []), FAILURE_BYTES // max(1, len(wishes), len(duties.failures))
            ),
        )
    return Reported(
        device=identity.device,
        profile=identity.profile,
        agent=agent,
        generation=generation,
        models=models,
        rejected=rejected,
        consent=dict(consent),
        facts=dict(facts),
        at=at,
    )


def _shortened(failures: list[Failure], budget: int) -> list[Failure]:
    """The newest failures that fit, with short reasons; the newest of all keeps some of its log when there is room."""
    kept = failures[-max(1, budget // _ONE_FAILURE) :]
    short = [msgspec.structs.replace(f, reason=f.reason[:200], log_tail="") for f in kept]
    if kept and budget >= (len(kept) + 2) * _ONE_FAILURE:
        short[-1] = msgspec.structs.replace(short[-1], log_tail=kept[-1].log_tail[-500:])
    return short
