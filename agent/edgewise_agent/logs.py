"""Structured logs: one JSON object a line, on stderr and in a bounded ring on the device's disk.

Rules that hold here:
- a message that repeats is written a few times a minute, then counted, and so is one template that floods;
- the device's secrets, and what follows words like ``token=``, are taken out of every line, whoever wrote it;
- the ring is at most RING_FILES files of RING_BYTES; it is no promise (not synced), and a full disk costs lines, never
  the agent.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

REPEATS = 5
FLOOD = 200
PERIOD_S = 60.0
MAX_SEEN = 2000
RING = Path("logs") / "agent.jsonl"
RING_FILES = 4
RING_BYTES = 256 * 1024
_NAMED = re.compile(
    r"""(?i)(\w*(?:token|password|secret|authorization|api_?key)["']?\s*[:=]\s*["']?)"""
    r"""((?:bearer\s+|basic\s+)?[^\s"',;&]+)"""
)
_IN_URL = re.compile(r"(://)[^/\s:@\"]+:[^/\s@\"]+@")


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """Without the secrets, without what is named like one, without passwords in URLs."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = _NAMED.sub(r"\1***", text)
    return _IN_URL.sub(r"\1***@", text)


class JsonLines(logging.Formatter):
    """One JSON object a line, without secrets."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """time (Unix s), level, logger, message, and a traceback when there is one."""
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()[:4000], self._secrets),
        }
        suppressed = getattr(record, "suppressed", 0)
        if suppressed:
            line["suppressed"] = suppressed
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info)[-4000:], self._secrets)
        return json.dumps(line, ensure_ascii=False)


class RateLimit(logging.Filter):
    """In PERIOD_S at most REPEATS times one message and FLOOD lines of one template; the next says how many were left
    out."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Shall it be written?"""
        if len(self._seen) > MAX_SEEN:
            self._seen.clear()
        message = self._count(record, ("message", record.getMessage()), REPEATS)
        return self._count(record, ("template", str(record.msg)), FLOOD) and message

    def _count(self, record: logging.LogRecord, key: tuple[str, str], most: int) -> bool:
        since, count = self._seen.get(key, (record.created, 0))
        if record.created - since >= PERIOD_S:
            record.suppressed = getattr(record, "suppressed", 0) + max(0, count - most)
            since, count = record.created, 0
        self._seen[key] = (since, count + 1)
        return count < most


class Ring(RotatingFileHandler):
    """The newest lines, in few small files that only the agent's user reads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(path, maxBytes=RING_BYTES, backupCount=RING_FILES - 1, encoding="utf-8", delay=True)

    def _open(self) -> TextIO:  # type: ignore[override]
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(descriptor, "a", encoding="utf-8")  # noqa: PTH123

    def handleError(self, record: logging.LogRecord) -> None:
        """A disk that takes no more lines: stderr has them."""


def set_up(data: Path | None = None, level: int = logging.INFO, secrets: Sequence[str] = ()) -> None:
    """Log to stderr, and to the ring in the data folder."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if data is not None:
        try:
            handlers.append(Ring(data / RING))
        except OSError as error:
            print(f"edgewise-agent: no log on disk: {error}", file=sys.stderr)
    limit = RateLimit()
    for handler in handlers:
        handler.setFormatter(JsonLines(secrets))
        handler.addFilter(_Once(limit))
    logging.basicConfig(level=level, handlers=handlers, force=True)


class _Once(logging.Filter):
    """One rate limit for several handlers: a line is judged once."""

    def __init__(self, limit: RateLimit) -> None:
        super().__init__()
        self._limit = limit

    def filter(self, record: logging.LogRecord) -> bool:
        judged: bool | None = getattr(record, "judged", None)
        if judged is None:
            judged = record.judged = self._limit.filter(record)
        return judged


def read_ring(data: Path) -> list[dict[str, Any]]:
    """All lines of the ring, oldest first; a line that a power cut tore is left out."""
    lines: list[dict[str, Any]] = []
    for number in reversed(range(RING_FILES)):
        path = data / (f"{RING}.{number}" if number else RING)
        try:
            content = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for text in content.splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                lines.append(line)
    return lines
