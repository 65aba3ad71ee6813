"""Windows of experiments taken in: the stream ``experiment`` (``monitoring.streams`` has the rules that all share).

Rules that hold here:
- refused for good are also ``unknown-experiment`` (none of this hub's, or the sender takes no part in it) and
  ``other-versions``;
- nothing is judged here: ``controller.tick`` counts what is kept.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy.orm import Session

from edgewise.errors import WireError
from edgewise.sketch import LatencySketch
from edgewise.wire.experiment import CALIBRATION_BINS, CLASSES, DISTANCE_BINS, STREAM_EXPERIMENT, Arm, Sums
from edgewise.wire.experiment import Experiment as Report
from edgewise_hub.experiments.plan import Plan
from edgewise_hub.experiments.tables import Experiment, ExperimentDevice, ExperimentWindow
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.ingest import MAX_ITEMS
from edgewise_hub.monitoring.streams import Stream, Take
from edgewise_hub.mqtt.inbox import Outcome


def stream(hub: Hub) -> Stream[Report]:
    """Windows of experiments, as ``streams.make_handler`` takes them."""

    def begin(session: Session, _outcome: Outcome) -> Take[Report]:
        experiments: dict[str, Experiment | None] = {}

        def take(report: Report, device: Device) -> dict[str, Any]:
            if report.experiment not in experiments:
                experiments[report.experiment] = session.get(Experiment, (hub.tenant, report.experiment))
            experiment = experiments[report.experiment]
            part = session.get(ExperimentDevice, (hub.tenant, report.experiment, device.id))
            if experiment is None or part is None or (report.model, report.kind) != (experiment.model, experiment.kind):
                raise WireError(
                    f"experiment {report.experiment}: {device.id} takes no part in a {report.kind} of {report.model}",
                    code="unknown-experiment",
                )
            check_versions(report, experiment)
            check(report.sums, report.last - report.first + 1)
            return {
                "experiment_id": report.experiment,
                "sums": msgspec.msgpack.encode(report.sums),
                "counted": False,
            }

        return take

    return Stream(STREAM_EXPERIMENT, Report, ExperimentWindow, begin)


def check_versions(report: Report, experiment: Experiment) -> None:
    """Are they those that are compared? Raises WireError (``other-versions``)."""
    role = Plan.from_json(experiment.plan).role
    wanted = {"active": experiment.control}
    if role is not None and experiment.candidate is not None:
        wanted[role] = experiment.candidate
    if report.versions != wanted:
        raise WireError(f"expected versions {wanted}, got {report.versions}", code="other-versions")


def check(sums: Sums, windows: int) -> None:
    """Are the numbers of ``windows`` windows possible together? Raises WireError (``absurd``)."""
    most = MAX_ITEMS * windows
    for role, arm in sums.arms.items():
        _check_arm(role, arm, most)
    compared, escalated = sums.compared, sums.escalated
    _must(compared.agreed <= compared.compared <= most, "more agreed than compared")
    _must(all(bin < DISTANCE_BINS for bin in compared.distance), "a distance beyond the last bin")
    _must(max(compared.dropped, sums.ties, *(sum(b.values()) for b in (compared.distance,))) <= most, "too many items")
    _must(escalated.changed <= escalated.answered <= escalated.asked <= most, "more answered than asked")


def _check_arm(role: str, arm: Arm, most: int) -> None:
    _must(arm.errors <= arm.requests <= most, f"{role}: more errors than requests, or too many")
    _must(arm.correct <= arm.labelled <= most, f"{role}: more correct than labelled, or too many")
    _must(max(arm.clicks, arm.wins) <= most, f"{role}: too many clicks")
    for bins, size, total in (
        (arm.latency, LatencySketch.BINS, arm.requests),
        (arm.confusion, CLASSES * CLASSES, arm.labelled),
        (arm.confident, CALIBRATION_BINS, arm.labelled),
        (arm.right, CALIBRATION_BINS, arm.correct),
    ):
        _must(all(bin < size for bin in bins) and sum(bins.values()) <= total, f"{role}: a histogram of other items")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WireError(otherwise, code="absurd")
