"""A closed window as the message that the hub gets, once its spool gives it an identity."""

from __future__ import annotations

from collections.abc import Callable

from edgewise.wire.codec import encode_msgpack
from edgewise.wire.experiment import Experiment
from edgewise.wire.windows import Window
from edgewise_agent.serving.channel import ExperimentClosed, WindowClosed


def window_message(device: str, closed: WindowClosed) -> Callable[[int, int], bytes]:
    """(epoch, sequence) -> the encoded ``Window``, for ``Spool.add``. The call raises WireError over the bound."""

    def build(epoch: int, sequence: int) -> bytes:
        return encode_msgpack(
            Window(
                device=device,
                epoch=epoch,
                first=sequence,
                last=sequence,
                start=closed.start,
                duration=closed.duration,
                model=closed.model,
                version=closed.version,
                bundle=closed.bundle,
                duty=closed.duty,
                spec=closed.spec,
                counters=closed.counters,
                sketches=closed.sketches,
                quality=closed.quality,
            )
        )

    return build


def experiment_message(device: str, closed: ExperimentClosed) -> Callable[[int, int], bytes]:
    """(epoch, sequence) -> the encoded ``Experiment``, for ``Spool.add``. The call raises WireError over the bound."""

    def build(epoch: int, sequence: int) -> bytes:
        return encode_msgpack(
            Experiment(
                device=device,
                epoch=epoch,
                first=sequence,
                last=sequence,
                start=closed.start,
                duration=closed.duration,
                model=closed.model,
                experiment=closed.experiment,
                kind=closed.kind,
                versions=closed.versions,
                sums=closed.sums,
            )
        )

    return build
