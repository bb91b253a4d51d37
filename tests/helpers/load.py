"""Clients that ask without a pause while something happens."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def under_load(
    act: Callable[[], None], ask: Callable[[], Any], clients: int = 8, seconds: float = 20
) -> list[Any]:
    """What `ask` gave or raised, of all clients; `act` happens after a quarter of the time.

    Prints the longest wait (pytest -rP shows it): how long depends on the machine.
    """
    over = threading.Event()
    outcomes: list[Any] = []
    waits: list[float] = []

    def work() -> None:
        while not over.is_set():
            begin = time.monotonic()
            try:
                outcomes.append(ask())
            except Exception as error:  # noqa: BLE001  it is what is looked at
                outcomes.append(error)
            waits.append(time.monotonic() - begin)

    with ThreadPoolExecutor(clients) as pool:
        for _ in range(clients):
            pool.submit(work)
        try:
            time.sleep(seconds / 4)
            act()
            time.sleep(seconds * 3 / 4)
        finally:
            over.set()
    print(f"{len(outcomes)} answers of {clients} clients, the slowest after {max(waits):.1f} s")
    return outcomes


def failures(outcomes: list[Any]) -> list[Any]:
    """Those that are exceptions."""
    return [each for each in outcomes if isinstance(each, Exception)]
