"""Whose fault it is when a stage's rows fail alike: theirs, or that of what stands behind it.

One failure says little. Before anything has gone well, rows that failed wait for what becomes of
the others in work: one that goes well shows that the failures are the rows' own; if none is left
and several failed in the same manner, the run stops before a row is rejected for it.
"""

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reasonray.core.errors import RunError

MANY = 25
"""So many one after the other, where things have gone well before."""


@dataclass(frozen=True)
class Failure:
    """One row's.

    Attributes:
        manner: the same for failures that have one cause.
        detail: one sentence, the last that a person reads.
    """

    manner: str
    detail: str


class FailuresAlike:
    """Judges the failures of one stage in one process; for many threads.

    Args:
        subject: begins the message; the number of rows follows.
        remedy: ends it, one sentence without its full stop.
        few: so many failures of one manner, where nothing has gone well, are not the rows' own.
    """

    def __init__(self, subject: str, remedy: str, few: int) -> None:
        self._subject, self._remedy, self._few = subject, remedy, few
        self._changed = threading.Condition()
        self._num_in_work = 0
        self._has_gone_well = False
        self._in_a_row: list[Failure] = []

    @contextlib.contextmanager
    def begun(self, num_rows: int) -> Iterator[None]:
        """So many rows are in work from here on, until `settle`.

        An exception in the block ends that, too, and says nothing of the rows.
        """
        with self._changed:
            self._num_in_work += num_rows
        try:
            yield
        except BaseException:
            with self._changed:
                self._num_in_work -= num_rows
                self._changed.notify_all()
            raise

    def settle(self, num_rows: int, num_well: int, failures: Sequence[Failure]) -> None:
        """So many rows are done; waits where it is open whose fault the failures are.

        Args:
            num_rows: as begun.
            num_well: those of them that show that things can go well.
            failures: those of them that may not be the rows' own.

        Raises:
            RunError: they are not the rows' own.
        """
        with self._changed:
            self._num_in_work -= num_rows
            if num_well:
                self._has_gone_well = True
                self._in_a_row.clear()
            else:
                self._in_a_row += failures
            self._changed.notify_all()
            if not failures:
                return
            self._changed.wait_for(lambda: self._has_gone_well or self._num_in_work == 0)
            most = MANY if self._has_gone_well else self._few
            manners = Counter(failure.manner for failure in self._in_a_row)
            for manner, count in manners.most_common(1):
                if count >= most:
                    last = [each for each in self._in_a_row if each.manner == manner][-1]
                    raise RunError(
                        f"{self._subject} {count} rows failed alike, and none has gone well "
                        f"{'since' if self._has_gone_well else 'yet'}: {last.detail} {self._remedy}"
                    )


def manner(detail: str) -> str:
    """The beginning of a sentence without its numbers, which differ from row to row."""
    return re.sub(r"\d+", "#", detail)[:80]
