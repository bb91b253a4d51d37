"""Who works in an output: sessions with numbers, of which only the last one counts.

    sessions/000001.json   created by one process alone: who it is
    hearts/000001          written again and again while it lives, gone when it has ended

A session is a lock: a second one does not begin while the last is alive. It is a fence, too: one
that was taken for dead and is not finds by its number that it is not the last.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonray.core.console import say
from reasonray.core.errors import RunError, UserError
from reasonray.core.place import Place, age, create, files, make_folder, reached, remove, written
from reasonray.core.writing import out_of_space, unusable

BEAT_S = 10.0
STALE_S = 60.0
"""A session on another machine is dead after so long without a beat."""

COUNTS = ".counts.json"
"""How the names of the files end in which sessions keep what they count."""

_LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class Session:
    """This process's time with an output.

    Attributes:
        output: what is held, for messages.
        folder: where sessions and hearts lie.
        number: from 1; larger than that of each session before it.
    """

    output: Place
    folder: Place
    number: int

    @property
    def name(self) -> str:
        """The number in six digits, as files are called."""
        return f"{self.number:06}"

    @property
    def counts_file(self) -> Place:
        """Where what it counts may be kept, beside its token."""
        return self.folder / "sessions" / f"{self.name}{COUNTS}"

    def check(self) -> None:
        """Ask whether this is still the last session; what others did not wait for is in vain.

        Raises:
            RunError: another one has begun.
        """
        last = last_session(self.folder)
        if last != self.number:
            who = f" ({_who(_token(self.folder, last))})" if last else ""
            raise RunError(
                f"output {self.output}: another run{who} has taken over, as this one was not heard "
                f"of for {STALE_S:.0f} s",
                again=False,
            )


@contextlib.contextmanager
def session(folder: Place, output: Place) -> Iterator[Session]:
    """Begin a session, and end it with the block.

    One whose process is dead is followed at once on the same machine; one on another machine is
    waited for, until it is heard of or was silent for `STALE_S`.

    Args:
        folder: is made; sessions and hearts lie in it.
        output: what is held, for messages.

    Raises:
        UserError: another session is alive, or the folder cannot be made or written.
    """
    try:
        with reached(output):
            held = _begin(folder, output)
    except OSError as error:
        if out_of_space(error):
            raise
        raise unusable(output, error) from error
    heart, stop = _heart(folder, held.number), threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT_S):
            # A disk that is full or a store that is away for a moment is for the run to find.
            with contextlib.suppress(OSError, UserError, RunError), reached(output):
                heart.write_bytes(b"")

    thread = threading.Thread(target=beat, name="reasonray-session", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        stop.set()
        thread.join(BEAT_S)
        with contextlib.suppress(OSError, UserError, RunError), reached(output):
            remove(heart)


def last_session(folder: Place) -> int:
    """The number of the last session; 0 before the first."""
    names = [path.stem for path in files(folder / "sessions", ".json")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def _begin(folder: Place, output: Place) -> Session:
    for name in ("sessions", "hearts"):
        make_folder(folder / name)
    while True:
        last = last_session(folder)
        if last:
            _wait_for(folder, last, output)
        number = last + 1
        # Before the token: who sees that sees a heart.
        _heart(folder, number).write_bytes(b"")
        if create(_token_file(folder, number), json.dumps(_ourselves()).encode()):
            return Session(output, folder, number)


def _wait_for(folder: Place, number: int, output: Place) -> None:
    """Return when a session has ended.

    Raises:
        UserError: it is alive.
    """
    holder = _token(folder, number)
    in_use = UserError(
        f"output {output}: another run is writing here ({_who(holder)}); "
        "wait for it, or stop it and start again to go on where it was"
    )
    heart = _heart(folder, number)
    with contextlib.suppress(FileNotFoundError):
        beat = written(heart)
        if _is_here(holder):
            if _is_running(holder):
                raise in_use
            return
        silent_s = age(heart)
        if silent_s < STALE_S:
            say(
                f"output {output}: {_who(holder)} wrote here {max(silent_s, 0):.0f} s ago; waiting "
                f"up to {STALE_S - silent_s:.0f} s whether it still does"
            )
        deadline = time.monotonic() + STALE_S - silent_s
        while (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_EVERY_S))
            if written(heart) != beat:
                raise in_use


def _heart(folder: Place, number: int) -> Place:
    return folder / "hearts" / f"{number:06}"


def _token_file(folder: Place, number: int) -> Place:
    return folder / "sessions" / f"{number:06}.json"


def _token(folder: Place, number: int) -> dict[str, Any]:
    """Who a session is; nothing where its file is being written, or damaged: its heart decides."""
    try:
        content: dict[str, Any] = json.loads(_token_file(folder, number).read_bytes())
    except ValueError:
        return {}
    return content


def _who(holder: dict[str, Any]) -> str:
    if not holder:
        return "an unknown process"
    return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"


def _ourselves() -> dict[str, Any]:
    pid = os.getpid()
    return {
        **_here(),
        "pid": pid,
        "started": _started(pid),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "token": uuid.uuid4().hex,
    }


def _here() -> dict[str, str]:
    """What tells this machine, since it was started, and in it this container, from all others."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": str(namespace.readlink()) if namespace.is_symlink() else "",
    }


def _is_here(holder: dict[str, Any]) -> bool:
    return _here().items() <= holder.items()


def _is_running(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine lives; another that has got its number since does not."""
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return _started(holder["pid"]) == str(holder["started"])


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did; nothing where only its name is left."""
    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, ticks = fields[0], fields[19]
    return "" if state in "ZX" else ticks
