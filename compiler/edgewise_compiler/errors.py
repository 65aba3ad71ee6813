"""What the compiler refuses, and why."""

from __future__ import annotations

import msgspec

from edgewise.errors import EdgewiseError


class Unsupported(msgspec.Struct, frozen=True, kw_only=True):
    """One node that cannot be taken: which, why, and what to write instead, where something would help."""

    node: str
    op: str
    why: str
    rewrite: str | None = None

    def __str__(self) -> str:
        return f"{self.op} {self.node!r}: {self.why}" + (f"; {self.rewrite}" if self.rewrite else "")


class CompileError(EdgewiseError):
    """A model, recipe or data set that cannot be compiled: says what was expected, what came and what to do.

    Codes: ``bad-source`` (a file that is missing or not what it should be), ``bad-recipe``, ``bad-data``,
    ``cannot-plan``, ``cannot-export``, ``parity`` (the exported model answers otherwise), ``cannot-quantize``,
    ``cannot-load`` (the runtime refuses the model), ``not-finite``, ``refused``, ``unsupported``, ``missing-extra``,
    ``broke-its-word`` (a pass gave what it must not), ``bad-metric``, ``bad-budget``, ``no-room`` (no disk),
    ``worker-died``.
    """

    code = "compile-failed"


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error of somebody else's as one short line: its first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
