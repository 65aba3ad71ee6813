"""The channel between supervisor and serve child: a socket pair with length-prefixed MessagePack.

Both ends are of one build, so there is no schema version; a frame over its bound closes the channel. The serve child
exits when the channel closes: no serve child outlives its supervisor.
"""

from __future__ import annotations

import socket
import threading
from typing import TypeVar

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire.control import Role
from edgewise.wire.experiment import Policy, Sums
from edgewise.wire.quality import Quality
from edgewise.wire.windows import Counters, Problem, Sample
from edgewise_agent.serving.options import Options

MAX_FRAME = 1024 * 1024


class ChannelError(EdgewiseError):
    """The other side sent what it never should."""

    code = "channel-failed"


class ServeModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model to serve. ``sampling``: keep inputs until their label comes? ``others``: role -> bundle that runs
    beside the active one, to which ``policy`` gives requests."""

    model: str
    bundle: str
    window_s: float
    sampling: bool = False
    policy: Policy | None = None
    others: dict[Role, str] = {}
    quality: Quality = Quality()


class Load(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Supervisor -> child, first: load these and run their smoke inference. ``blobs``: the blob folder; ``answers``:
    the folder in which answers are remembered (None: in memory); ``device``: our name, for draws by it; ``threads``: of
    one model at most."""

    blobs: str
    answers: str | None = None
    threads: int | None = None
    device: str = ""
    models: list[ServeModel]
    options: Options = Options()


class Serve(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Supervisor -> child: begin to accept."""


class Configure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Supervisor -> child: how long windows are, and whether to keep inputs for samples."""

    models: list[ServeModel]


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Supervisor -> child: accept no more, answer what is in flight, give the last windows, exit."""


ToChild = Load | Serve | Configure | Drain


class LoadFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Child -> supervisor: one install cannot be served; the others still can."""

    model: str
    bundle: str
    code: str
    reason: str
    role: Role = "active"


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Child -> supervisor: all that could be loaded is loaded and smoke-tested. ``runtimes``: names and versions;
    ``rss``: bytes."""

    runtimes: list[str]
    rss: int = 0


class Listening(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Child -> supervisor: it accepts requests."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Child -> supervisor, each second while no inference hangs. ``rss``: bytes."""

    rss: int


class WindowClosed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Child -> supervisor: a window's content; the supervisor gives it its identity. ``rho``: what its noise cost;
    ``ended_s``: seconds since its end, by a clock that nobody sets; None: not known. ``busy_s``: seconds of all its
    answered requests together."""

    model: str
    version: int
    bundle: str
    duty: Role = "active"
    spec: str
    start: float
    duration: float
    counters: Counters
    sketches: dict[str, bytes]
    ended_s: float | None = 0.0
    busy_s: float = 0.0
    rho: float = 0.0
    quality: dict[Problem, dict[str, int]] = {}


class ExperimentClosed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Child -> supervisor: one window of an experiment; the supervisor gives it its identity."""

    model: str
    experiment: str
    kind: str
    versions: dict[str, int]
    start: float
    duration: float
    sums: Sums


class SampleTaken(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Child -> supervisor: an input whose label came. Whether it may leave is the supervisor's word."""

    model: str
    version: int
    bundle: str
    dtype: str
    shape: list[int]
    sample: Sample


FromChild = LoadFailed | Ready | Listening | Heartbeat | WindowClosed | ExperimentClosed | SampleTaken

T = TypeVar("T")


class Channel:
    """One end. ``send`` may be called from several threads, ``receive`` from one."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._sending = threading.Lock()

    def send(self, message: ToChild | FromChild) -> bool:
        """Send; False when the other side is gone. Blocks while the other side's buffer is full."""
        data = msgspec.msgpack.encode(message)
        try:
            with self._sending:
                self._end.sendall(len(data).to_bytes(4, "big") + data)
        except OSError:
            return False
        return True

    def receive(self, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
        """The next message; None when the other side is gone. Raises ChannelError."""
        head = self._exactly(4)
        if head is None:
            return None
        size = int.from_bytes(head, "big")
        if size > MAX_FRAME:
            raise ChannelError(f"channel: at most {MAX_FRAME} bytes, got {size}")
        data = self._exactly(size)
        if data is None:
            return None
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ChannelError(f"channel: {error}") from error

    def close(self) -> None:
        """Close this end; a thread that waits in ``receive`` on either side gets None."""
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side closed first
        self._end.close()

    def _exactly(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self._end.recv(size - len(parts))
            except OSError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)
