"""Results of parts, kept as they are done: a run that was ended goes on where it was, and one whose code has changed
does not take what older code found."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".data" / "bench" / "drift"


def digest(*paths: Path) -> str:
    """Of these files and all Python files below these folders, by their places and contents."""
    found = hashlib.sha256()
    for path in sorted(_files(paths)):
        found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        yield from path.rglob("*.py") if path.is_dir() else [path]


def part(name: str, of: str, make: Callable[[], Any]) -> Any:
    """A part's result. ``of``: the digest of the code that makes it."""
    path = PLACE / "parts" / of / f"{name.replace(' ', '_')}.json"
    if not path.is_file():
        start = time.perf_counter()
        found = make()
        took = time.perf_counter() - start
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"s": took, "found": found}))
        print(f"{name}: {took:.0f} s", file=sys.stderr, flush=True)
    return json.loads(path.read_text())["found"]
