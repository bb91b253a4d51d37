"""Python's warnings held back while a library is at work that warns of what we handle."""

import threading
import warnings


class _Silence:
    """`with silence:` ignores all warnings as long as some thread is within.

    Python's filters are the process's: were each thread to set and to restore them by itself, one
    would bring back what another has just set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_within = 0
        self._filters: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._filters is None:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._num_within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_within -= 1
            if not self._num_within and self._filters is not None:
                self._filters.__exit__(None, None, None)
                self._filters = None


silence = _Silence()
