"""Ray: joined or started, looked through for room, and its failures as our errors.

The one place that does so, for the pipeline and for the editor's jobs.
"""

import contextlib
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, TypeVar

import ray
import ray.data
import ray.exceptions
from ray.data.checkpoint import CheckpointConfig
from ray.data.exceptions import ExecutionTimeoutError

from reasonray.core.console import say
from reasonray.core.errors import ReasonrayError, RunError, UserError
from reasonray.core.packing import SPARE_CPUS, no_room, shortage
from reasonray.core.place import Place
from reasonray.core.recipe import Recipe
from reasonray.core.sections import PoolConfig
from reasonray.core.writing import no_space, out_of_space

# Read when Ray is started; what a user has set stays.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Hides a false error about constructor arguments that every actor pool causes (ray issue 57733).
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

_T = TypeVar("_T")

_OBJECT_STORE_BYTES = 2 * 1024**3
_WAIT_FOR_CPUS_S = 60.0
_CONNECT_S = 10.0


def hide_gpus_unless(num_gpus: float) -> None:
    """In a process of Ray: one that asked for no GPU is shown all of its machine's."""
    if not num_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextlib.contextmanager
def connected(
    pools: Sequence[PoolConfig], keys: str = "pools.N.min_actors, num_cpus or num_gpus"
) -> Iterator[None]:
    """Ray: the cluster this process belongs to (`RAY_ADDRESS`, a job), else one of our own.

    Our own has as many CPUs in name as the pools ask for: on a laptop they share the real ones.
    SIGTERM (`ray job stop`) ends the block as a `RunError`.

    Args:
        pools: who is to find room.
        keys: of the recipe, to be lowered where there is not enough.

    Raises:
        UserError: no connection, or the cluster is too small for the pools.
        RunError: our own did not start.
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
        except RuntimeError as error:  # another version of Ray or Python
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
    try:
        _check_resources(pools, keys)
        with _stopped_by_sigterm():
            yield
    finally:
        if started:
            ray.shutdown()


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


@contextlib.contextmanager
def settings(recipe: Recipe, checkpoint: CheckpointConfig | None = None) -> Iterator[None]:
    """Ray Data's settings for what is made inside."""
    before = ray.data.DataContext.get_current()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of settings that nobody touched
        context = before.copy()
    context.checkpoint_config = checkpoint
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = recipe.output.stall_timeout_s
    # So that a RunError in an actor arrives here with its message, not as "UDF failed".
    context.raise_original_map_exception = True
    # Its reader gives one block whatever is asked for.
    context.use_datasource_v2 = False
    # Private: checked with Ray 2.60. Its public way changes the context for good.
    ray.data.DataContext._set_current(context)  # noqa: SLF001
    try:
        yield
    finally:
        ray.data.DataContext._set_current(before)  # noqa: SLF001


def executed(action: Callable[[], _T], output: Place) -> _T:
    """What the action gives; what Ray raises becomes one of our errors.

    Raises:
        RunError, UserError: without the original exception, whose frames would keep the pools'
            actors, and with them their CPUs, alive. Ray Data's log files have its trace.
    """
    try:
        return action()
    except Exception as error:  # noqa: BLE001  whatever Ray raises becomes an error of ours
        failure = _failure(_original(error), output)
    gc.collect()
    raise failure


def _failure(error: BaseException, output: Place) -> ReasonrayError:
    if out_of_space(error):
        return no_space(output)
    # Ray Data adds advice of its own to every message.
    message = str(error).partition("\nFailed to ")[0].strip()
    if isinstance(error, UserError):
        return UserError(message)
    if isinstance(error, ReasonrayError):
        return RunError(message, again=getattr(error, "again", True))
    if isinstance(error, ExecutionTimeoutError):
        message = "nothing moved for output.stall_timeout_s; is a model still loading?"
    last_line = message.splitlines()[-1].strip() if message else "no message"
    return RunError(f"the run stopped: {type(error).__name__}: {last_line}")


def _original(error: BaseException) -> BaseException:
    """The exception that a process of ours raised, out of what Ray packs around it."""
    chain = [error]
    while (inner := getattr(chain[-1], "cause", None) or chain[-1].__cause__) is not None:
        if not isinstance(inner, BaseException) or inner in chain:
            break
        chain.append(inner)
    for link in chain:
        if type(link).__module__.startswith(f"{__package__}.") or out_of_space(link):
            return link
    # Ray Data also puts an empty exception below, as a mark.
    return next((link for link in reversed(chain) if str(link)), error)


def _check_resources(pools: Sequence[PoolConfig], keys: str) -> None:
    """Refuse a cluster on which the pools could not all start.

    Raises:
        UserError: what is needed and what is there.
    """
    total = ray.cluster_resources()
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    growth = _growth(sum(pool.min_actors for pool in pools))
    if growth:
        total, startable = growth
        machines += startable
    if reason := no_room(pools, total, machines, keys):
        raise UserError(reason)
    if not growth:
        _wait_for_room(pools, keys)


def _growth(num_actors: int) -> tuple[Mapping[str, float], list[Mapping[str, float]]] | None:
    """What a cluster that grows may reach in all, and what each machine has that it may start.

    Of each kind of machine no more are listed than there are actors. None: it does not grow, or
    does not say how far.
    """
    # Nothing public tells. Checked with Ray 2.60, where only hosted autoscalers report it.
    state = ray._private.state.state  # noqa: SLF001
    total = state.get_max_resources_from_cluster_config()
    if not total:
        return None

    def bounded(amount: int) -> int:
        return sys.maxsize if amount < 0 else amount  # -1 is without end

    startable: list[Mapping[str, float]] = []
    for group in state.get_cluster_config().node_group_configs:
        machine = {name: bounded(amount) for name, amount in group.resources.items()}
        startable += [machine] * min(num_actors, bounded(group.max_count))
    return total, startable


def _wait_for_room(pools: Sequence[PoolConfig], keys: str) -> None:
    """Wait for the CPUs of a run that was just stopped, or of one that failed in this process.

    Raises:
        UserError: somebody else holds them for longer.
    """
    deadline = time.monotonic() + _WAIT_FOR_CPUS_S
    while reason := shortage(pools, ray.available_resources(), keys, verb="has now free"):
        if time.monotonic() > deadline:
            raise UserError(reason)
        gc.collect()  # the handles of a run that failed here hold its actors
        time.sleep(1)


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
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise RunError("stopped by SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
