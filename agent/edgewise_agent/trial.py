"""The trial of a new install: how long, what ends it, and when the device goes back. Pure.

Rules that hold here:
- a trial ends well when one serve child has served the install for ``trial_s`` seconds without a break;
- it ends badly at the second crash (a dead or a silent serve child), or when the install was started three times and
  never confirmed: then something took the supervisor or the board down with it;
- a confirmed install is restarted for ever, ever more slowly.
"""

from __future__ import annotations

from typing import Literal

MAX_CRASHES = 2
MAX_STARTS = 3
STEADY_S = 60.0
"""A serve child that served for so long has forgotten its predecessors' crashes."""
MIN_LIFE_S = 5.0
"""A serve child that grows too large is not replaced before."""
HANG_S = 10.0
"""Without a heartbeat for so long, a serve child counts as dead."""
_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 60.0

Verdict = Literal["wait", "confirm", "go-back"]


def judge(*, crashes: int, starts: int, alive: bool, served_s: float | None, trial_s: float) -> Verdict:
    """``served_s``: seconds since the serve child began to serve this install, None when it does not yet."""
    if crashes >= MAX_CRASHES or (not alive and starts >= MAX_STARTS):
        return "go-back"
    return "confirm" if served_s is not None and served_s >= trial_s else "wait"


def backoff(crashes: int) -> float:
    """Seconds to wait before the restart after so many crashes in a row."""
    return float(min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** max(0, min(crashes, 16) - 1)))
