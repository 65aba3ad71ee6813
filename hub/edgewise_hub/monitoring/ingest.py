"""Windows taken in: the stream ``inference`` (``streams`` has the rules that all share).

Rules that hold here:
- refused for good are also ``unknown-bundle``, ``wrong-spec`` and ``bad-sketch``;
- sketches are kept as they came: merging is for whoever reads (``monitoring.evidence``).
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy.orm import Session

from edgewise.errors import WireError
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.wire.windows import STREAM_WINDOWS, Window
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.specs import Specs
from edgewise_hub.monitoring.streams import Stream, Take
from edgewise_hub.monitoring.tables import WindowRow
from edgewise_hub.mqtt.inbox import Outcome
from edgewise_hub.registry.tables import Bundle

MAX_ITEMS = 10_000_000
"""Items that one number of a window may count: no device answers more in a span that is reported at once."""


def stream(hub: Hub) -> Stream[Window]:
    """Windows, as ``streams.make_handler`` takes them."""
    specs = Specs(hub)

    def begin(session: Session, _outcome: Outcome) -> Take[Window]:
        bundles: dict[str, Bundle | None] = {}

        def take(window: Window, device: Device) -> dict[str, Any]:
            if window.bundle not in bundles:
                bundles[window.bundle] = session.get(Bundle, (hub.tenant, window.bundle))
            check_bundle(window, device, bundles[window.bundle])
            check(window, specs.get(window.spec))
            return columns(window)

        return take

    return Stream(STREAM_WINDOWS, Window, WindowRow, begin)


def check_bundle(window: Window, device: Device, bundle: Bundle | None) -> None:
    """Is the window of a bundle made for its device? Raises WireError: ``unknown-bundle`` or ``wrong-spec``."""
    wanted = (window.model, window.version, device.profile)
    if bundle is None or (bundle.model, bundle.version, bundle.profile) != wanted:
        raise WireError(
            f"bundle {window.bundle[:12]}: not version {window.version} of {window.model} for {device.profile}",
            code="unknown-bundle",
        )
    if window.spec != bundle.spec:
        raise WireError(f"expected sketch spec {bundle.spec[:12]}, got {window.spec[:12]}", code="wrong-spec")


def check(window: Window, spec: SketchSpec) -> None:
    """Are the numbers of a window possible together? Raises SketchError, or WireError (code ``absurd``)."""
    counters = window.counters
    tried = counters.inferences + counters.errors + counters.nonfinite_outputs
    most = MAX_ITEMS * (window.last - window.first + 1)
    if tried + counters.refused + counters.nonfinite_inputs > most or counters.labelled > most:
        raise WireError(f"expected at most {most} items in a window, got more", code="absurd")
    if any(items > most for features in window.quality.values() for items in features.values()):
        raise WireError(f"expected at most {most} items of a feature in a window, got more", code="absurd")
    if counters.correct > counters.labelled:
        raise WireError(f"{counters.correct} correct of {counters.labelled} labelled", code="absurd")
    sketches = WindowSketches.decode(spec, window.sketches)
    seen = tried + counters.refused + counters.nonfinite_inputs
    counted = {"labels": counters.labelled, "features": seen, "categories": seen}
    for name, part in sketches.parts.items():
        allowed = counted.get(name, counters.inferences)
        if part.n > allowed + part.slack(len(part.values)):
            raise WireError(f"{name} sketch of {part.n} items, expected at most {allowed}", code="absurd")


def columns(window: Window) -> dict[str, Any]:
    """What ``WindowRow`` keeps of a window beside its numbers and times."""
    return {
        "model": window.model,
        "version": window.version,
        "bundle": window.bundle,
        "duty": window.duty,
        "spec": window.spec,
        "counters": msgspec.to_builtins(window.counters),
        "sketches": msgspec.msgpack.encode(window.sketches),
        "quality": window.quality,
    }
