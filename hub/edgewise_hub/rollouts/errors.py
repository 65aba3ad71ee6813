"""Errors of rollouts."""

from __future__ import annotations

from edgewise.errors import EdgewiseError


class RolloutError(EdgewiseError):
    """A rollout that cannot be made or changed: ``bad-plan``, ``unknown-version``, ``unknown-group``, ``no-devices``,
    ``not-compiled``, ``below-floor``, ``already-assigned``, ``rollout-running``, ``experiment-running``,
    ``rollout-over``."""

    code = "bad-rollout"
