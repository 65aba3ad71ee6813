"""A model of this device's agent inside a Python application: the same bundle and the same checks, without HTTP.

    from edgewise_agent import LocalModel

    model = LocalModel("/var/lib/edgewise", "digits")
    scores = model.infer({"image": image})["scores"]

Rules that hold here:
- it reads the agent's data folder and writes nothing there; the agent may run meanwhile, or not;
- it serves the version that was active when it was opened; ``refresh`` opens the one that is active now;
- what it saw is a window as any other (quality counts, sketches), which ``report`` is given: the spool has one writer,
  the agent, and does not take windows of other processes yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire.quality import Quality
from edgewise_agent.runtimes import Arrays
from edgewise_agent.serving.channel import WindowClosed
from edgewise_agent.serving.inference import Busy, Request, ServedModel
from edgewise_agent.serving.model import open_model
from edgewise_agent.store.disk import read
from edgewise_agent.store.installs import Duties
from edgewise_agent.windows.collector import Collector

WINDOW_S = 300.0
MAX_DUTIES = 4 * 1024 * 1024


class NotInstalled(EdgewiseError):
    """The agent has no such model."""

    code = "not-installed"


class LocalModel:
    """One installed model. ``infer`` may be called from several threads."""

    def __init__(
        self,
        data: str | Path,
        name: str,
        *,
        policy: Quality | None = None,
        window_s: float = WINDOW_S,
        report: Callable[[WindowClosed], None] | None = None,
    ) -> None:
        """``data``: the agent's data folder. ``report``: given each window that is over, by ``infer`` or ``close``.

        Raises NotInstalled, and ModelFailure for a bundle that cannot be served.
        """
        self._data, self._name = Path(data), name
        self._policy, self._window_s, self._report = policy, window_s, report
        self._served = self._open(self._active())

    @property
    def version(self) -> int:
        """Of the model that answers."""
        return self._served.model.manifest.version

    def infer(self, inputs: Arrays, *, id: str | None = None) -> Arrays:
        """Every output by name, the embedding too. ``inputs`` by name, with the batch first, of the manifest's dtypes.

        Raises InputRefused for what does not fit, InferenceFailed where the model fails; both are counted.
        """
        served = self._served
        outputs = served.answer(Request(id or os.urandom(16).hex(), inputs)).outputs
        if self._report is not None:
            self._poll(served)
        return outputs

    def label(self, id: str, label: int) -> bool:
        """What the answer ``id`` should have been, as a class. False for an id that is not among the last ones."""
        return self._served.label(id, label, lambda sample: None) != "unknown"

    def refresh(self) -> bool:
        """Take the version that the agent has active now; was it another? What runs meanwhile ends on the old one."""
        active = self._active()
        if active == self._served.model.bundle:
            return False
        before, self._served = self._served, self._open(active)
        self._poll(before, last=True)
        return True

    def close(self) -> None:
        """Report the last window."""
        self._poll(self._served, last=True)

    def _active(self) -> str:
        """The digest of the active bundle."""
        path = self._data / "duties.json"
        data = read(path, MAX_DUTIES)
        try:
            active = {} if data is None else msgspec.json.decode(data, type=Duties).active()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotInstalled(f"{path}: expected the agent's duties: {error}") from error
        if self._name not in active:
            raise NotInstalled(f"{self._data}: no model {self._name!r} is installed; there is {sorted(active)}")
        return active[self._name]

    @property
    def _blobs(self) -> Path:
        return self._data / "blobs" / "sha256"

    def _open(self, bundle: str) -> ServedModel:
        model = open_model(bundle, self._blobs)
        collector = Collector(
            model=model.manifest.model,
            version=model.manifest.version,
            bundle=model.bundle,
            spec=model.spec,
            spec_digest=model.spec_digest,
            projection=model.projection,
            window_s=self._window_s,
            now=time.monotonic(),
            clock=time.time(),
        )
        return ServedModel(model, collector, Busy(), sampling=False, policy=self._policy)

    def _poll(self, served: ServedModel, *, last: bool = False) -> None:
        now, clock = time.monotonic(), time.time()
        window = served.collector.poll(now, clock, last=last)
        if self._report is None or (window is None and not last):
            return
        for one in (window, *served.feedback.poll(None, now, clock, self._window_s, last=True)):
            if isinstance(one, WindowClosed):
                self._report(one)
