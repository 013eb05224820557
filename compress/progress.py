"""Progress and messages on stderr: a live bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

LINE_EVERY_SECONDS = 15.0


@dataclass
class Reporter:
    """Where people are told what happens. Results never go through it: they belong on stdout."""

    quiet: bool = False
    verbose: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def say(self, message: str) -> None:
        """One line about what is being done."""
        if not self.quiet:
            self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def detail(self, message: str) -> None:
        """One line that only `-v` shows."""
        if self.verbose:
            self.say(message)

    def warn(self, message: str) -> None:
        """One line that must be seen; `--quiet` does not hide it."""
        self.console.print("warning: " + message, style="bold yellow", highlight=False, markup=False, soft_wrap=True)


reporter = Reporter()


class Bar:
    """One piece of long work: its count, its rate and the time left."""

    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done, self.note, self.resumed = 0, "", 0
        self._start = self._said = time.monotonic()
        self._live: Progress | None = None
        self._task = None if reporter.quiet or not reporter.console.is_terminal else self._open()

    def _open(self) -> TaskID:
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=reporter.console,
            transient=True,
        )
        self._live.start()
        return self._live.add_task(self.name, total=self.total, note="")

    def resume_at(self, done: int) -> None:
        """Start the count at work that an earlier run had finished; it does not count towards the rate."""
        self.done = self.resumed = done
        self.advance(0)

    def advance(self, count: int, note: str = "") -> None:
        """Add finished units; `note` is shown beside the rate."""
        self.done += count
        self.note = note or self.note
        rate = (self.done - self.resumed) / max(time.monotonic() - self._start, 1e-9)
        if self._live is not None and self._task is not None:
            text = f"{rate:,.0f} {self.unit}/s {self.note}"
            self._live.update(self._task, completed=self.done, note=text)
        elif time.monotonic() - self._said > LINE_EVERY_SECONDS:
            self._said = time.monotonic()
            left = (self.total - self.done) / max(rate, 1e-9)
            reporter.say(
                f"  {self.name}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.0f}/s, "
                f"{left:,.0f} s left {self.note}"
            )

    def close(self) -> None:
        """End the display and leave one line behind."""
        if self._live is not None:
            self._live.stop()
        seconds = time.monotonic() - self._start
        reporter.say(f"  {self.name}: {self.done:,} {self.unit} in {seconds:,.1f} s {self.note}".rstrip())


@contextmanager
def bar(name: str, total: int, unit: str = "rows") -> Iterator[Bar]:
    """Show progress over `total` units for as long as the block runs."""
    shown = Bar(name, total, unit)
    try:
        yield shown
    finally:
        shown.close()
