"""A closed window as the message that the hub gets, once its spool gives it an identity.

It is placed in time by what the clock says now, less the seconds since its end (none, but for a window of labels that
came late) and its monotonic duration. A clock that was set in between does not move it. Where the clock does not know,
it is marked, and placed as it is sent (``times``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgewise.wire.codec import encode_msgpack
from edgewise.wire.experiment import Experiment
from edgewise.wire.health import Health
from edgewise.wire.spans import Span
from edgewise.wire.windows import Window
from edgewise_agent.clock import DRIFT, Reading
from edgewise_agent.health.meter import HealthClosed
from edgewise_agent.serving.channel import ExperimentClosed, WindowClosed
from edgewise_agent.windows.times import Mark, marked

Build = Callable[[int, int], bytes]
"""(epoch, sequence) -> the encoded message, for ``Spool.add``. Raises WireError over its bound."""


def message_of(
    device: str, closed: WindowClosed | ExperimentClosed | HealthClosed, now: Reading, at: Mark | None = None
) -> Build:
    """Of what closed just now. ``at``: the steady clock, by which it is placed later where the time is not known."""
    kind, content = _content(closed)
    ended_s = closed.ended_s if isinstance(closed, WindowClosed) else 0.0
    uncertainty = None if ended_s is None or now.uncertainty is None else now.uncertainty + DRIFT * ended_s
    mark: Mark | None = None
    if at is not None and now.uncertainty is None and ended_s is not None:
        mark = Mark(at.boot, at.steady - ended_s)

    def build(epoch: int, sequence: int) -> bytes:
        data = encode_msgpack(
            kind(
                device=device,
                epoch=epoch,
                first=sequence,
                last=sequence,
                start=now.at - (ended_s or 0.0) - closed.duration,
                duration=closed.duration,
                uncertainty=uncertainty,
                **content,
            )
        )
        return data if mark is None else marked(data, mark)

    return build


def _content(closed: WindowClosed | ExperimentClosed | HealthClosed) -> tuple[type[Span], dict[str, Any]]:
    match closed:
        case WindowClosed():
            return Window, {
                "model": closed.model,
                "version": closed.version,
                "bundle": closed.bundle,
                "duty": closed.duty,
                "spec": closed.spec,
                "counters": closed.counters,
                "sketches": closed.sketches,
                "quality": closed.quality,
            }
        case ExperimentClosed():
            return Experiment, {
                "model": closed.model,
                "experiment": closed.experiment,
                "kind": closed.kind,
                "versions": closed.versions,
                "sums": closed.sums,
            }
        case HealthClosed():
            return Health, {"gauges": closed.gauges, "totals": closed.totals}
