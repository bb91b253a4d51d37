"""The cluster's head, watched: without it nothing goes on, and Ray itself says nothing of it.

Ray's own client waits a minute for the head, which may be started again, and then ends the process
in C++, without an exception; at the log level that hides its other messages, without a word.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from ray.experimental.internal_kv import internal_kv_get_gcs_client

from reasonray.core.console import say

SILENT_S = 9.0
"""A head that has not answered for so long is spoken of; a busy one takes a second or two."""

_ASK_EVERY_S = 2.0
_ANSWER_S = 3.0

# Read by Ray's client, too; what it does with it is checked with Ray 2.60.
_RAY_WAITS_S = float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", "60"))  # noqa: SIM112
_BEFORE_RAY_S = 10.0
"""Longer than a turn of asking, so that none is under way when Ray ends the process in silence."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """While the block runs, the head's silence is said, and ends the process with exit code 1.

    What has been committed is kept; nothing else could be ended properly without the head.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(stop,), name="reasonray-head", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_ANSWER_S)


def _watch(stop: threading.Event) -> None:
    answered = time.monotonic()
    is_said = False
    while not stop.wait(_ASK_EVERY_S):
        if _answers():
            if is_said:
                say("the cluster's head answers again")
            answered, is_said = time.monotonic(), False
            continue
        silence = time.monotonic() - answered
        left = _RAY_WAITS_S - _BEFORE_RAY_S - silence
        if stop.is_set():
            return
        if left <= 0:
            say(
                f"reasonray: the cluster's head has not answered for {silence:.0f} s; finished "
                "rows are kept, the same command goes on"
            )
            sys.stdout.flush()
            os._exit(1)
        if silence >= SILENT_S and not is_said:
            say(
                f"the cluster's head has not answered for {silence:.0f} s; unless it does, the run "
                f"ends in {left:.0f} s, and the same command goes on"
            )
            is_said = True


def _answers() -> bool:
    # It raises Ray's own RpcError, and others while the process is shut down.
    with contextlib.suppress(Exception):
        internal_kv_get_gcs_client().check_alive([], timeout=_ANSWER_S)
        return True
    return False
