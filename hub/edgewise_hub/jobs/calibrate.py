"""The job ``calibrate``: how far drift alarms of a model's version can be trusted, bundle by bundle.

Payload: {"model", "version", "per_day"}. Result: {"model", "version", "at", "bundles": {digest: {"profile", ...}}}: of
each bundle a ``monitoring.calibration.Calibration``; one whose reference cannot be used has an "error" instead.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from edgewise.errors import EdgewiseError
from edgewise.sketch import SketchSpec
from edgewise.wire.codec import decode_json
from edgewise_hub.jobs.work import Work
from edgewise_hub.monitoring import reference as references
from edgewise_hub.monitoring.calibration import calibrate
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.registry.tables import Bundle


def run(work: Work) -> None:
    """Calibrate every bundle of the version. Raises EdgewiseError (code ``no-bundle``), LeaseLost."""
    hub, payload = work.hub, work.payload
    with hub.database.read() as session:
        chosen = select(Bundle).where(
            Bundle.tenant_id == hub.tenant, Bundle.model == payload["model"], Bundle.version == payload["version"]
        )
        bundles = list(session.scalars(chosen.order_by(Bundle.profile)))
    if not bundles:
        raise EdgewiseError(
            f"{payload['model']} version {payload['version']}: no bundle; compile it first", code="no-bundle"
        )
    found: dict[str, dict[str, Any]] = {}
    for number, bundle in enumerate(bundles):
        part = work.part(number / len(bundles), (number + 1) / len(bundles))
        found[bundle.digest] = {"profile": bundle.profile}
        try:
            spec = decode_json(hub.blobs.read(bundle.spec), SketchSpec)
            reference = references.load(hub.blobs.path(bundle.reference), spec)
        except EdgewiseError as error:
            found[bundle.digest] |= {"error": str(error)}
            continue
        seed = int(bundle.digest[:8], 16)
        report = calibrate(reference, Policy(), payload["per_day"], seed=seed, progress=part)
        found[bundle.digest] |= asdict(report)
    with work.saving() as session:
        result = {"model": payload["model"], "version": payload["version"], "at": time.time(), "bundles": found}
        work.finish(session, result)
