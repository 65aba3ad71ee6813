"""Structured logs: one JSON object a line on stderr.

A message that repeats is written a few times a minute, then counted, and so is one template that floods.
Secrets are never logged: they are in no message's arguments, and the serve child knows none.
"""

from __future__ import annotations

import json
import logging
import sys

REPEATS = 5
FLOOD = 200
PERIOD_S = 60.0
MAX_SEEN = 2000


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """time (Unix s), level, logger, message, and a traceback when there is one."""
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:4000],
        }
        suppressed = getattr(record, "suppressed", 0)
        if suppressed:
            line["suppressed"] = suppressed
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)[-4000:]
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


def set_up(level: int = logging.INFO) -> None:
    """Log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level, handlers=[handler])
