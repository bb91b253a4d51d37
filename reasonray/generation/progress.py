"""How far a run is: counts that the pools' processes note, shown to a person, kept for later.

A live table on a terminal, else a line every ten seconds; always on the standard error output.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from reasonray.core.console import LINE_EVERY_S, duration, say
from reasonray.core.errors import ReasonrayError
from reasonray.core.place import reached
from reasonray.core.sections import ASKING
from reasonray.core.session import Session
from reasonray.dataset.manifest import RayJob
from reasonray.generation.counts import (
    StageCounts,
    all_notices,
    keep_counts,
    read_counts,
    read_pools,
)
from reasonray.generation.notes import Notes

TABLE_EVERY_S = 0.5
KEEP_EVERY_S = 30.0
"""A run that is killed forgets what it has counted since."""


class Progress:
    """Shows a run while it goes; a context manager around it.

    Args:
        notes: with the counts.
        stages: in order.
        num_rows: planned in all.
        num_done: finished by earlier sessions.
        session: whose counts they are and are kept as; None: they are not kept.
        console: where to; the standard error output by default.
        job: that the session is.
    """

    def __init__(
        self,
        notes: Notes,
        stages: list[str],
        num_rows: int,
        num_done: int,
        session: Session | None = None,
        console: Console | None = None,
        job: RayJob | None = None,
    ) -> None:
        self._notes = notes
        self._stages = stages
        self._num_rows = num_rows
        self._num_done = num_done
        self._session, self._job = session, job
        self._console = console or Console(stderr=True)
        self._start = self._kept = time.monotonic()
        self._first_row: float | None = None
        self._notices: set[str] = set()
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
        self._keep(read_counts(self._notes))

    def line(self, counts: dict[str, StageCounts]) -> str:
        """One plain line: rows through the last stage, rejected, rate, time left, each stage."""
        if not any(each.begun for each in counts.values()):
            return f"{self._num_done}/{self._num_rows} rows, loading the models"
        last = counts.get(self._stages[-1], StageCounts())
        rejected = sum(each.rejected for each in counts.values())
        each = " ".join(f"{name} {self._through(counts, name)}" for name in self._stages)
        rate = self._rate(last.passed)
        return (
            f"{self._through(counts, self._stages[-1])}/{self._num_rows} rows, "
            f"{rejected} rejected, {rate:.1f} rows/s, {self._left(last.passed)} left ({each})"
            f"{self._in_work(counts)}"
        )

    def _in_work(self, counts: dict[str, StageCounts]) -> str:
        """What is waited for: stages that have begun more than they have finished."""
        waits = [
            f"{name}: {waited_for(name, counts[name])}"
            for name in self._stages
            if name in counts and counts[name].begun > counts[name].worked
        ]
        return f"; {', '.join(waits)}" if waits else ""

    def table(self, counts: dict[str, StageCounts]) -> Table:
        """The live view: one line a stage."""
        table = Table(box=None, pad_edge=False)
        table.add_column("stage")
        for title in ("done", "rejected", "rows/s", "left", "in work"):
            table.add_column(title, justify="right")
        for name in self._stages:
            stage = counts.get(name, StageCounts())
            table.add_row(
                name,
                f"{self._through(counts, name)}/{self._num_rows}",
                str(stage.rejected) if stage.rejected else "",
                f"{self._rate(stage.passed):.1f}" if stage.passed else "",
                self._left(stage.passed),
                waited_for(name, stage) if stage.begun > stage.worked else "",
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
            # A notice holds a server's words, which are no markup.
            tell = functools.partial(live.console.print, markup=False, highlight=False)
            while not self._stop.wait(TABLE_EVERY_S):
                live.update(self.table(self._read(tell)))
            live.update(self.table(self._read(tell)))

    def _lines(self) -> None:
        while not self._stop.wait(LINE_EVERY_S):
            say(self.line(self._read(say)))
        say(self.line(self._read(say)))

    def _read(self, tell: Callable[[str], object]) -> dict[str, StageCounts]:
        """The counts; what the stages have to say is told as soon as it is known."""
        counts = read_counts(self._notes)
        for notice in all_notices(counts):
            if notice not in self._notices:
                tell(f"warning: {notice}")
                self._notices.add(notice)
        now = time.monotonic()
        if self._first_row is None and any(each.begun for each in counts.values()):
            self._first_row = now
        if now - self._kept >= KEEP_EVERY_S:
            self._kept = now
            self._keep(counts)
        return counts

    def _keep(self, counts: dict[str, StageCounts]) -> None:
        """Where the disk is full or the store away, they are counts only."""
        if self._session is None:
            return
        seconds, output = time.monotonic() - self._start, self._session.output
        with contextlib.suppress(OSError, ReasonrayError), reached(output):
            pools = read_pools(self._notes)
            keep_counts(self._session.counts_file, counts, seconds, pools, self._job)

    def _through(self, counts: dict[str, StageCounts], stage: str) -> int:
        # A block that is done again after a crash is counted again.
        return min(self._num_done + counts.get(stage, StageCounts()).passed, self._num_rows)

    def _rate(self, passed: int) -> float:
        """Rows a second since the first row was begun: loading the models is not counted."""
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
        return duration(remaining / rate)


def waited_for(name: str, counts: StageCounts) -> str:
    """What a stage has in work: answers of a language model one by one, else whole batches."""
    if name in ASKING:
        return f"{counts.finished} of {counts.begun} answered"
    return f"{counts.begun - counts.worked} rows"
