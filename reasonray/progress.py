"""How far a run is: counts that the pools' processes keep in files, shown to a person.

A live table on a terminal, else a line every ten seconds; always on the standard error output.
"""

import contextlib
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import track
from rich.table import Table

_Item = TypeVar("_Item")

TABLE_EVERY_S = 0.5
LINE_EVERY_S = 10.0
_WALL = "wall.json"


@dataclasses.dataclass
class StageCounts:
    """What happened in one stage."""

    passed: int = 0
    """Rows that went through, whether it had work on them or not."""
    worked: int = 0
    rejected: int = 0
    seconds: float = 0.0
    """Of work, summed over processes."""


def read_counts(folder: Path) -> dict[str, StageCounts]:
    """Counts of all processes of one run, by stage."""
    totals: dict[str, StageCounts] = {}
    for path in folder.glob("*.json"):
        if path.name == _WALL:
            continue
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # on some network file systems a replaced file is gone for a moment
        for stage, counts in content.items():
            total = totals.setdefault(stage, StageCounts())
            for name, amount in counts.items():
                setattr(total, name, getattr(total, name) + amount)
    return totals


def read_all(folder: Path) -> tuple[dict[str, StageCounts], float]:
    """Counts and wall seconds over all runs that worked on an output.

    Args:
        folder: `.run/progress`.
    """
    totals: dict[str, StageCounts] = {}
    seconds = 0.0
    for session in folder.iterdir():
        for stage, counts in read_counts(session).items():
            total = totals.setdefault(stage, StageCounts())
            for field in dataclasses.fields(StageCounts):
                summed = getattr(total, field.name) + getattr(counts, field.name)
                setattr(total, field.name, summed)
        with contextlib.suppress(OSError, ValueError):
            seconds += json.loads((session / _WALL).read_text())
    return totals, seconds


class Progress:
    """Shows a run while it goes; a context manager around it.

    Args:
        folder: of this run's counts.
        stages: in order.
        num_rows: planned in all.
        num_done: finished by earlier runs.
        console: where to; the standard error output by default.
    """

    def __init__(
        self,
        folder: Path,
        stages: list[str],
        num_rows: int,
        num_done: int,
        console: Console | None = None,
    ) -> None:
        self._folder = folder
        self._stages = stages
        self._num_rows = num_rows
        self._num_done = num_done
        self._console = console or Console(stderr=True)
        self._start = time.monotonic()
        self._first_row: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="reasonray-progress", daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def line(self, counts: dict[str, StageCounts]) -> str:
        """One plain line: rows through the last stage, rejected, rate, time left, each stage."""
        if not counts:
            return f"{self._num_done}/{self._num_rows} rows, loading the models"
        last = counts.get(self._stages[-1], StageCounts())
        rejected = sum(each.rejected for each in counts.values())
        each = " ".join(f"{name} {self._through(counts, name)}" for name in self._stages)
        rate = self._rate(last.passed)
        return (
            f"{self._through(counts, self._stages[-1])}/{self._num_rows} rows, "
            f"{rejected} rejected, {rate:.1f} rows/s, {self._left(last.passed)} left ({each})"
        )

    def table(self, counts: dict[str, StageCounts]) -> Table:
        """The live view: one line a stage."""
        table = Table(box=None, pad_edge=False)
        table.add_column("stage")
        for title in ("done", "rejected", "rows/s", "left"):
            table.add_column(title, justify="right")
        for name in self._stages:
            stage = counts.get(name, StageCounts())
            table.add_row(
                name,
                f"{self._through(counts, name)}/{self._num_rows}",
                str(stage.rejected) if stage.rejected else "",
                f"{self._rate(stage.passed):.1f}" if stage.passed else "",
                self._left(stage.passed),
            )
        return table

    def _show(self) -> None:
        show = self._live if self._console.is_terminal else self._lines
        try:
            show()
        except OSError:
            return  # nobody reads our output any more; the run goes on

    def _live(self) -> None:
        with Live(
            self.table({}), console=self._console, refresh_per_second=2, transient=False
        ) as live:
            while not self._stop.wait(TABLE_EVERY_S):
                live.update(self.table(self._read()))
            live.update(self.table(self._read()))

    def _lines(self) -> None:
        while not self._stop.wait(LINE_EVERY_S):
            print(self.line(self._read()), file=sys.stderr, flush=True)
        print(self.line(self._read()), file=sys.stderr, flush=True)

    def _read(self) -> dict[str, StageCounts]:
        counts = read_counts(self._folder)
        now = time.monotonic()
        if self._first_row is None and counts:
            self._first_row = now
        with contextlib.suppress(OSError):
            (self._folder / _WALL).write_text(json.dumps(now - self._start))
        return counts

    def _through(self, counts: dict[str, StageCounts], stage: str) -> int:
        # A block that is done again after a crash is counted again.
        return min(self._num_done + counts.get(stage, StageCounts()).passed, self._num_rows)

    def _rate(self, passed: int) -> float:
        """Rows a second since the first row was done: loading the models is not counted."""
        if self._first_row is None or not passed:
            return 0.0
        return passed / max(time.monotonic() - self._first_row, 1.0)

    def _left(self, passed: int) -> str:
        rate = self._rate(passed)
        remaining = max(self._num_rows - self._num_done - passed, 0)
        if remaining == 0:
            return "0 s"
        if not rate:
            return "?"
        return _duration(remaining / rate)


def counted(
    items: Iterable[_Item], total: int, noun: str, console: Console | None = None
) -> Iterator[_Item]:
    """Hand items on and show how many have been.

    Args:
        items: handed on as they are.
        total: how many there will be.
        noun: what they are, for the person who looks.
        console: where to; the standard error output by default.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        yield from track(items, noun, total, console=console)
        return
    start = said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= LINE_EVERY_S or number == total:
            rate = number / max(now - start, 1e-3)
            left = _duration((total - number) / rate)
            with contextlib.suppress(OSError):  # nobody reads it any more
                print(
                    f"{number}/{total} {noun}, {rate:.1f} {noun}/s, {left} left",
                    file=sys.stderr,
                    flush=True,
                )
            said = now


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
