"""What the compiler refuses, and why."""

from __future__ import annotations

from edgewise.errors import EdgewiseError


class CompileError(EdgewiseError):
    """A model, recipe or data set that cannot be compiled: says what was expected, what came and what to do.

    Codes: ``bad-source`` (a file that is missing or not what it should be), ``bad-recipe``, ``bad-data``,
    ``cannot-plan``, ``cannot-export``, ``parity`` (the exported model answers otherwise), ``cannot-quantize``,
    ``cannot-load`` (the runtime refuses the model), ``not-finite``.
    """

    code = "compile-failed"


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error of somebody else's as one short line: its first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
