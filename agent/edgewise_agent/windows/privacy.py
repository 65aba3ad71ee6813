"""What the owner's differential privacy has cost: noise is the serve child's, the ledger the supervisor's.

Rules that hold here:
- privacy is the owner's word alone (``EDGEWISE_AGENT_PRIVACY_EPSILON`` and its siblings); nobody else can turn it off;
- what a window cost is on disk before the window is spooled: a power cut may waste some budget, never forget it;
- windows compose: rho adds up by model, and epsilon is that of all windows so far (``edgewise.privacy``);
- over the owner's limit a window holds counters and latencies alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.privacy import epsilon_of, rho_of
from edgewise.wire.codec import Count, Name
from edgewise_agent.facts import Fact
from edgewise_agent.serving.channel import WindowClosed
from edgewise_agent.serving.options import Privacy
from edgewise_agent.store.disk import Disk, read

FILE = "privacy.json"
_BOUND = 1024 * 1024
OPEN = ("latency",)
"""Sketches that say nothing of inputs and answers, and never have noise."""


class LedgerDamaged(EdgewiseError):
    """What was spent cannot be read, and so nothing more may be."""

    code = "privacy-damaged"


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Of one model: ``rho`` of zero-concentrated differential privacy over so many ``windows``; ``withheld``: windows
    without sketches, since the limit was reached."""

    rho: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    windows: Count = 0
    withheld: Count = 0


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """As on disk. ``delta``, ``limit``: the owner's, when it was last written."""

    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-6
    limit: float | None = None
    models: dict[Name, Spent] = {}

    def epsilon(self, model: str) -> float:
        """What a model's windows have cost together, at ``delta``."""
        return epsilon_of(self.models[model].rho, self.delta) if model in self.models else 0.0

    def report(self) -> dict[str, dict[str, float | None]]:
        """By model, for ``status``."""
        return {
            model: {
                "epsilon": round(self.epsilon(model), 4),
                "delta": self.delta,
                "limit": self.limit,
                "windows": spent.windows,
                "withheld": spent.withheld,
            }
            for model, spent in self.models.items()
        }


def load(data: Path) -> Ledger:
    """The ledger of a data folder; an empty one where nothing was spent. Raises LedgerDamaged."""
    content = read(data / FILE, _BOUND)
    try:
        return Ledger() if content is None else msgspec.json.decode(content, type=Ledger)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerDamaged(
            f"{data / FILE}: {error}; nobody knows what was spent: move it away to begin anew"
        ) from error


class Keeper:
    """The supervisor's ledger."""

    def __init__(self, disk: Disk, data: Path, privacy: Privacy) -> None:
        """Raises LedgerDamaged where there is privacy to keep."""
        self._disk, self._data, self._privacy = disk, data, privacy
        self.ledger = load(data) if privacy.on else Ledger()

    def passed(self, window: WindowClosed) -> WindowClosed:
        """The window as it may leave, once its cost is written. Raises DiskError."""
        privacy = self._privacy
        if not privacy.on or not window.rho:
            return window
        spent = self.ledger.models.get(window.model, Spent())
        allowed = privacy.limit is None or spent.rho + window.rho <= rho_of(privacy.limit, privacy.delta) * (1 + 1e-9)
        now = (
            msgspec.structs.replace(spent, rho=spent.rho + window.rho, windows=spent.windows + 1)
            if allowed
            else msgspec.structs.replace(spent, withheld=spent.withheld + 1)
        )
        self.ledger = Ledger(delta=privacy.delta, limit=privacy.limit, models={**self.ledger.models, window.model: now})
        self._disk.replace(self._data / FILE, msgspec.json.encode(self.ledger))
        if allowed:
            return window
        kept = {name: data for name, data in window.sketches.items() if name in OPEN}
        return msgspec.structs.replace(window, sketches=kept)

    def facts(self) -> dict[str, Fact]:
        """For ``reported``: of the model that has spent most. None without privacy."""
        if not self._privacy.on:
            return {}
        models = self.ledger.models
        return {
            "privacy_epsilon": round(max(map(self.ledger.epsilon, models), default=0.0), 4),
            "privacy_delta": self._privacy.delta,
            "privacy_withheld": sum(spent.withheld for spent in models.values()),
        }
