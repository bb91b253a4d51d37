"""Ray: joined or started, and left again."""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import ray

from reasonray.cluster.head import watched
from reasonray.cluster.room import room
from reasonray.core.console import say
from reasonray.core.errors import RunError, UserError
from reasonray.core.packing import SPARE_CPUS
from reasonray.core.sections import PoolConfig

# Read when Ray is started; what a user has set stays.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Hides a false error about constructor arguments that every actor pool causes (ray issue 57733).
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

_OBJECT_STORE_BYTES = 2 * 1024**3
_CONNECT_S = 10.0


@contextlib.contextmanager
def connected(
    pools: Sequence[PoolConfig],
    keys: str = "pools.N.min_actors, num_cpus or num_gpus",
    wait_s: float | None = None,
) -> Iterator[None]:
    """Ray: the cluster this process belongs to (`RAY_ADDRESS`, a job), else one of our own.

    Our own has as many CPUs in name as the pools ask for: on a laptop they share the real ones. A
    cluster that is too small is waited for (`room`). SIGTERM (`ray job stop`) ends the block as a
    `RunError`; the head's silence is said, and ends the process (`head`).

    Args:
        pools: who is to find room.
        keys: of the recipe, to be lowered where there is not enough.
        wait_s: `output.wait_for_cluster_s`.

    Raises:
        UserError: no connection, or the cluster is too small for the pools.
        RunError: our own did not start, or a cluster that grows has not grown enough in time.
    """
    _quieten()
    started = not ray.is_initialized()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if started and (address := os.environ.get("RAY_ADDRESS")):
        say(f"connecting to Ray at {address}")
        try:
            if address != "auto":
                # Ray itself waits for minutes where nothing answers.
                host, _, port = address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
            with _silent():
                ray.init(address="auto", **quiet)
        except (OSError, ValueError) as error:
            raise UserError(
                f"RAY_ADDRESS={address}: no cluster answers there; expected HOST:PORT of its head "
                "node, which `ray start --head` prints, or auto for one on this machine"
            ) from error
        # Another version of Ray or Python; a token that is missing or wrong.
        except (RuntimeError, ray.exceptions.RayError) as error:
            raise UserError(f"RAY_ADDRESS={address}: {' '.join(str(error).split())}") from error
    elif started:
        cpus = sum(pool.max_actors * pool.num_cpus for pool in pools)
        try:
            with _silent():
                ray.init(
                    address="local",
                    num_cpus=math.ceil(cpus) + SPARE_CPUS,
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **quiet,
                )
        except Exception as error:  # Ray raises nearly anything, and plain Exception on time-out
            raise RunError(
                f"Ray did not start on this machine ({' '.join(str(error).split())}); is it short "
                "of memory, of room for temporary files (RAY_TMPDIR), or very busy?"
            ) from error
    is_ours = started and not os.environ.get("RAY_ADDRESS")
    try:
        with _stopped_by_sigterm(), watched(), room(pools, keys, 0.0 if is_ours else wait_s):
            yield
    finally:
        if started:
            ray.shutdown()


def current_job() -> dict[str, str | None]:
    """The ids of the job that this process is: Ray's `job_id`, and `submission_id` if there is one.

    The second is None where no `ray job submit` has started it.
    """
    # Nothing public tells a job its submission's id. Checked with Ray 2.60.
    worker: Any = ray._private.worker.global_worker  # noqa: SLF001
    config = worker.core_worker.get_job_config()
    return {
        "job_id": ray.get_runtime_context().get_job_id(),
        "submission_id": config.metadata.get("job_submission_id") or None,
    }


@contextlib.contextmanager
def own(num_cpus: float, at_end: Callable[[], None]) -> Iterator[float]:
    """A Ray of this process's own, whatever clusters there are; it ends with the block.

    Args:
        num_cpus: in name; on a laptop they share the real ones.
        at_end: called before it ends.

    Yields:
        The machine's GPUs.

    Raises:
        RunError: Ray does not start here.
    """
    try:
        with _silent():
            ray.init(
                address="local",
                num_cpus=math.ceil(num_cpus),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # it raises that very class
        lines = str(error).splitlines() or [type(error).__name__]
        raise RunError(f"Ray does not start on this machine: {lines[0]}", again=False) from error
    try:
        yield ray.cluster_resources().get("GPU", 0.0)
    finally:
        with _silent():
            at_end()
            ray.shutdown()


def _quieten() -> None:
    """Keep Ray Data's stack traces in its log files; the terminal gets our one message."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL + 1)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing reaches descriptors 1 and 2, where Ray writes past all settings.

    Its C++ part says at which level it logs, its threads what they hear of processes that end;
    failures are exceptions.
    """
    before = []
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        before.append((stream, number, os.dup(number)))
        os.dup2(nowhere, number)
    os.close(nowhere)
    try:
        yield
    finally:
        for stream, number, copy in before:
            stream.flush()
            os.dup2(copy, number)
            os.close(copy)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    is_stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_stopped
        is_stopped = True
        # At once: `ray job stop` kills what has not ended three seconds later.
        say("stopping (SIGTERM); what is finished is kept")
        # Where Ray waits for an object it swallows every other exception of a handler.
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if is_stopped:
            raise RunError("stopped by SIGTERM") from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
