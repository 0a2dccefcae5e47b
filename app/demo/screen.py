"""How the demo speaks: a live panel in a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.demo.tally import Tally

_PLAIN_SECONDS: Final = 5.0
_BAR_WIDTH: Final = 36


class Screen:
    """Prints to standard output, or to standard error where that is kept for one JSON object.

    Nothing that it prints is needed by a program but the last ledger line.
    """

    def __init__(self, *, on_stderr: bool = False) -> None:
        self.console = Console(highlight=False, soft_wrap=True, stderr=on_stderr)
        self._began = time.monotonic()
        self._live: Live | None = None
        self._plain_at = 0.0

    def title(self, text: str) -> None:
        """Print a heading."""
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def line(self, text: str) -> None:
        """Print a line of the story."""
        self.console.print(Text(f"  {text}"))

    def step(self, text: str) -> None:
        """Print a line with the time since the start."""
        self.console.print(Text.assemble((f"  {time.monotonic() - self._began:6.1f} s  ", "dim"), text))

    def result(self, text: str, *, good: bool) -> None:
        """Print the result line, alone on its line and never wrapped."""
        self.console.print()
        self.console.print(Text(text, style="bold green" if good else "bold red"))

    @contextmanager
    def progress(self) -> Iterator[None]:
        """While inside, `show` draws over itself in a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as self._live:
            try:
                yield
            finally:
                self._live.update("")
        self._live = None

    def show(self, tally: Tally) -> None:
        """Show where things stand; outside of a terminal one line every five seconds and at the end."""
        now = time.monotonic()
        sending, scoring = tally.rates(now)
        if self._live is not None:
            self._live.update(_panel(tally, sending, scoring))
        elif now - self._plain_at >= _PLAIN_SECONDS or tally.complete:
            self._plain_at = now
            self.step(
                f"uploaded {len(tally.sent)}/{tally.total}, outcomes {len(tally.outcomes)} ({scoring:.0f}/s), "
                f"waiting {tally.waiting}, hits {tally.hits}, rejected {tally.count('rejected')}, "
                f"flagged {len(tally.flags)}"
            )


def _panel(tally: Tally, sending: float, scoring: float) -> Group:
    bars = Table.grid(padding=(0, 2))
    for name, done, rate in (
        ("uploaded", len(tally.sent), sending),
        ("outcomes", len(tally.outcomes), scoring),
    ):
        bars.add_row(
            f"  {name}",
            ProgressBar(total=max(1, tally.total), completed=done, width=_BAR_WIDTH),
            f"{done}/{tally.total}",
            Text(f"{rate:5.1f}/s", style="dim"),
        )
    counts = (
        f"  waiting {tally.waiting}   scored {tally.count('scored')}   hits {tally.hits}   "
        f"rejected {tally.count('rejected')}   flagged {len(tally.flags)}"
    )
    return Group(bars, Text(counts))


def shown(path: Path) -> str:
    """Return a path as a person would type it from here."""
    here = Path(os.path.relpath(path))
    return str(path) if here.parts[:2] == ("..", "..") else str(here)
