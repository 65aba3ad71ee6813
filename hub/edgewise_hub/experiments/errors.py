"""Errors of experiments."""

from __future__ import annotations

from edgewise.errors import EdgewiseError


class ExperimentError(EdgewiseError):
    """An experiment that cannot be made or changed: ``bad-plan``, ``unknown-version``, ``no-devices``,
    ``not-compiled``, ``below-floor``, ``rollout-running``, ``experiment-running``, ``experiment-over``,
    ``not-proved``."""

    code = "bad-experiment"
