"""How the story is told: numbered steps, plain words, one live line while something takes its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from examples.digits.story.processes import StepFailed
from rich.console import Console
from rich.table import Table

T = TypeVar("T")


class Teller:
    """Prints the story, with the seconds since it began."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.began = time.monotonic()

    def step(self, number: int, title: str) -> None:
        """A step begins."""
        self.console.print(f"\n[bold cyan]{number}. {title}[/]  [dim]{self.seconds():.0f} s[/]")

    def say(self, text: str) -> None:
        """One line of the story."""
        self.console.print(f"   {text}")

    def seconds(self) -> float:
        """Since the story began."""
        return time.monotonic() - self.began

    def wait(
        self, what: str, probe: Callable[[], tuple[T | None, str]], seconds: float, check: Callable[[], None]
    ) -> T:
        """Wait for ``probe`` to give a value; its second part is shown meanwhile. Raises StepFailed at the deadline."""
        deadline = time.monotonic() + seconds
        text = ""
        with self.console.status(what) as status:
            while True:
                value, text = probe()
                if value is not None:
                    return value
                check()
                status.update(f"{what}: {text}" if text else what)
                if time.monotonic() > deadline:
                    raise StepFailed(f"expected within {seconds:.0f} s: {what}; last seen: {text or 'nothing'}")
                time.sleep(0.3)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """A table."""
        table = Table(title=title, title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)
