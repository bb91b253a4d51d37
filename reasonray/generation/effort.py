"""How much of its time a pool's process works, and to whom that is told."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol


class Meter(Protocol):
    """Whoever counts a process's work, beside the run itself: a monitoring system."""

    def rows(self, stage: str, finished: int, rejected: int, seconds: float) -> None:
        """A stage has worked on some rows, in so many seconds."""

    def tokens(self, stage: str, num_read: int, num_written: int) -> None:
        """A stage's language model has answered."""

    def busy(self, share: float) -> None:
        """How much of the last seconds the process had rows in hand, 0..1."""


class Unmetered:
    """Nobody counts."""

    def rows(self, stage: str, finished: int, rejected: int, seconds: float) -> None:
        """As in `Meter`."""

    def tokens(self, stage: str, num_read: int, num_written: int) -> None:
        """As in `Meter`."""

    def busy(self, share: float) -> None:
        """As in `Meter`."""


UNMETERED: Meter = Unmetered()


class Effort:
    """The seconds in which a process had at least one batch in hand, and those in which none.

    For many threads. It counts from the moment it is made.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._num_in_hand = 0
        self._since = clock()
        self._busy = self._idle = 0.0

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """A batch is in hand while the block runs."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def taken(self) -> tuple[float, float]:
        """Seconds busy and idle since this was last called."""
        self._change(0)
        with self._lock:
            busy, idle = self._busy, self._idle
            self._busy = self._idle = 0.0
        return busy, idle

    def _change(self, step: int) -> None:
        with self._lock:
            now = self._clock()
            if self._num_in_hand:
                self._busy += now - self._since
            else:
                self._idle += now - self._since
            self._since = now
            self._num_in_hand += step
