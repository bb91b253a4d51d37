"""A folder held by one process at a time: `flock` on this machine, a heartbeat across machines."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reasonray.core.errors import UserError
from reasonray.core.writing import out_of_space, unusable

HEARTBEAT_S = 10.0
STALE_S = 60.0
"""A lock of another host is dead after so long without a heartbeat."""


@contextlib.contextmanager
def locked(path: Path, output: Path) -> Iterator[None]:
    """Hold an output for this process.

    Args:
        path: of the lock file, which goes at the end; the folders above it are made.
        output: what is held, for messages.

    Raises:
        UserError: another run holds it, or it cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take(path, output)
    except OSError as error:
        if out_of_space(error):
            raise
        raise unusable(output, error) from error
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_S):
            # A file system that is full or away for a moment is for the run itself to find.
            with contextlib.suppress(OSError):
                os.utime(path)

    heart = threading.Thread(target=beat, name="reasonray-lock", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _take(path: Path, output: Path) -> int:
    """The lock file's descriptor, locked and signed."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                break
            os.close(descriptor)  # its holder has just removed it
        except OSError as error:
            holder = _holder(descriptor)
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.EOPNOTSUPP):
                os.close(descriptor)
                raise UserError(_in_use(output, holder)) from error
            break  # no locks on this file system: the heartbeat alone decides
    holder = _holder(descriptor)
    # flock may end at this machine; a holder elsewhere shows by its heartbeat.
    if holder and holder["host"] != _host():
        silent_s = time.time() - os.fstat(descriptor).st_mtime
        if silent_s < STALE_S:
            os.close(descriptor)
            raise UserError(_in_use(output, holder))
    signature = {"host": _host(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(signature).encode(), 0)
    return descriptor


def _holder(descriptor: int) -> dict[str, Any] | None:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
    return content if isinstance(content, dict) and "host" in content else None


def _in_use(output: Path, holder: dict[str, Any] | None) -> str:
    who = ""
    if holder:
        who = f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    return (
        f"output {output}: another run is writing here{who}; "
        "wait for it, or stop it and start again to go on where it was"
    )


def _host() -> str:
    return socket.gethostname()
