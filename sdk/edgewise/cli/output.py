"""How the command speaks: tables and JSON on stdout, progress and errors on stderr, figures in words.

Text that comes from the hub or a device is cleaned of control characters before a terminal sees it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, newest first.")]

STYLES = {
    "online": "green", "confirmed": "green", "completed": "green", "passed": "green", "pass": "green",
    "quiet": "green", "done": "green", "accepted": "green", "running": "cyan", "trial": "cyan", "downloading": "cyan",
    "open": "yellow", "paused": "yellow", "wait": "yellow", "label-shift": "yellow", "drift": "yellow",
    "failed": "bold red", "fail": "bold red", "rolled-back": "bold red", "aborted": "bold red",
    "candidate-wins": "green", "no-difference": "green", "taking-part": "green", "continue": "cyan",
    "control-wins": "yellow", "guardrail": "bold red", "broken": "bold red",
    "harmful": "bold red", "rejected": "bold red", "revoked": "bold red", "offline": "red",
}  # fmt: skip
"""A word's colour; the word itself always stands there."""


def stdout() -> Console:
    """A console on stdout; made when needed, so that a test or a pipe that replaced it is heeded."""
    return Console(markup=False, highlight=False, emoji=False)


def stderr() -> Console:
    """As ``stdout``."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def clean(value: object) -> str:
    """Text without what could command a terminal; None is a dash."""
    if value is None:
        return "-"
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def word(value: object) -> Text:
    """One cell; a word of STYLES in its colour."""
    text = clean(value)
    return Text(text, style=STYLES.get(text, ""))


def show_json(value: object) -> None:
    """One document, one line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, title: str = "") -> None:
    """A table that folds what is too wide; ``empty`` is the sentence where there is no row. A column whose name ends
    in ``#`` holds numbers."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.rstrip("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(word(cell) for cell in row))
    if table.row_count:
        stdout().print(table)
    elif empty:
        say(empty)


def show_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Names and values, one a line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, word(value))
    stdout().print(table)


def say(text: str) -> None:
    """A sentence on stdout: one line, unless a terminal is too narrow for it."""
    console = stdout()
    console.print(Text(clean(text)), soft_wrap=not console.is_terminal)


def fail(message: str) -> int:
    """An error, one line on stderr; returns the exit code, 1."""
    sys.stderr.write(f"edgewise: {' '.join(clean(message).split())}\n")
    return 1


class Progressing(Protocol):
    """What ``progress`` gives: tell it the share done (0..1) and what is being done."""

    def __call__(self, share: float, text: str) -> None: ...


@contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Progressing]:
    """A bar on stderr; with ``quiet`` nothing."""
    if quiet:
        yield lambda share, text: None
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}", markup=False),
        console=stderr(),
    )
    with bar:
        task = bar.add_task(clean(title), total=1.0, doing="")
        yield lambda share, text: bar.update(task, completed=share, doing=clean(text)[:40])


def duration(seconds: float) -> str:
    """``45 s``, ``4 min 10 s``, ``3 h 5 min``, ``2 d 4 h``."""
    whole = max(0, round(seconds))
    for size, unit, smaller, smaller_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def ago(at: float | None, now: float | None = None) -> str:
    """``45 s ago``; ``never`` for None."""
    return "never" if at is None else f"{duration((time.time() if now is None else now) - at)} ago"


def size(count: int) -> str:
    """Bytes in words: ``980 B``, ``1.2 MB``."""
    amount = float(count)
    for unit in ("B", "KB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def share(value: Any, digits: int = 1) -> str:
    """A share of 0..1 in percent; a dash for what is no number."""
    return f"{100 * value:.{digits}f}%" if isinstance(value, int | float) else "-"


def short(digest: str | None) -> str:
    """The head of a digest."""
    return digest[:12] if digest else "-"
