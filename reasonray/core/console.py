"""What a person at the terminal is shown while something goes on, on the standard error output."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

_Item = TypeVar("_Item")
LINE_EVERY_S = 10.0


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
    start = last_line = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last_line >= LINE_EVERY_S or number == total:
            rate = number / max(now - start, 1e-3)
            left = duration((total - number) / rate)
            with contextlib.suppress(OSError):  # nobody reads it any more
                say(f"{number}/{total} {noun}, {rate:.1f} {noun}/s, {left} left")
            last_line = now


def duration(seconds: float) -> str:
    """Seconds for a person, in the unit that fits."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def say(text: str) -> None:
    """Print a line that is no result: to the standard error output, at once."""
    print(text, file=sys.stderr, flush=True)
