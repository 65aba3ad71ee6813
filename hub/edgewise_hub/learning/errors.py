"""What learning refuses, and why."""

from __future__ import annotations

from edgewise.errors import EdgewiseError


class LearningError(EdgewiseError):
    """A training run, sample request or trigger that cannot be.

    Codes: ``no-parent``, ``no-recipe``, ``no-samples``, ``bad-options``, ``bad-samples``, ``bad-recipe``,
    ``sample-request-open``.
    """

    code = "learning"
