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
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import ray
import ray.data
import ray.exceptions
from ray.data.checkpoint import CheckpointConfig
from ray.data.exceptions import ExecutionTimeoutError

from reasonray.core.errors import ReasonrayError, RunError, UserError
from reasonray.core.packing import fit_on_gpus
from reasonray.core.recipe import Recipe
from reasonray.core.sections import PoolConfig
from reasonray.core.writing import no_space, out_of_space

_T = TypeVar("_T")

SPARE_CPUS = 3
"""For the tasks that read and write, and for the filter of a resumed run: one each. Without
them the pools' actors hold all CPUs and nothing moves, without a word (ray issue 44687)."""

SPARE_MEMORY = 1024**3
"""What the filter of a resumed run reserves, bytes."""

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
    """
    _quieten()
    started = not ray.is_initialized()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if started and (address := os.environ.get("RAY_ADDRESS")):
        print(f"connecting to Ray at {address}", file=sys.stderr, flush=True)
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
    elif started:
        cpus = sum(pool.max_actors * pool.num_cpus for pool in pools)
        with _silent():
            ray.init(
                address="local",
                num_cpus=math.ceil(cpus) + SPARE_CPUS,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
    try:
        _check_resources(pools, keys)
        with _stopped_by_sigterm():
            yield
    finally:
        if started:
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
    ray.data.DataContext._set_current(context)
    try:
        yield
    finally:
        ray.data.DataContext._set_current(before)


def executed(action: Callable[[], _T], output: Path) -> _T:
    """What the action gives; what Ray raises becomes one of our errors.

    Raises:
        RunError, UserError: without the original exception, whose frames would keep the pools'
            actors, and with them their CPUs, alive. Ray Data's log files have its trace.
    """
    try:
        return action()
    except Exception as error:
        failure = _failure(_original(error), output)
    gc.collect()
    raise failure


def _failure(found: BaseException, output: Path) -> ReasonrayError:
    if out_of_space(found):
        return no_space(output)
    # Ray Data adds advice of its own to every message.
    message = str(found).partition("\nFailed to ")[0].strip()
    if isinstance(found, UserError):
        return UserError(message)
    if isinstance(found, ReasonrayError):
        return RunError(message, again=getattr(found, "again", True))
    if isinstance(found, ExecutionTimeoutError):
        message = "nothing moved for output.stall_timeout_s; is a model still loading?"
    last_line = message.splitlines()[-1].strip() if message else "no message"
    return RunError(f"the run stopped: {type(found).__name__}: {last_line}")


def _original(error: BaseException) -> BaseException:
    """The exception that a process of ours raised, out of what Ray packs around it."""
    chain = [error]
    while (inner := getattr(chain[-1], "cause", None) or chain[-1].__cause__) is not None:
        if not isinstance(inner, BaseException) or inner in chain:
            break
        chain.append(inner)
    for found in chain:
        if type(found).__module__.startswith(f"{__package__}.") or out_of_space(found):
            return found
    # Ray Data also puts an empty exception below, as a mark.
    return next((found for found in reversed(chain) if str(found)), error)


def _check_resources(pools: Sequence[PoolConfig], keys: str) -> None:
    """Refuse a cluster on which the pools could not all start.

    Raises:
        UserError: what is needed and what is there.
    """
    needed = {
        "CPU": sum(pool.min_actors * pool.num_cpus for pool in pools) + SPARE_CPUS,
        "GPU": sum(pool.min_actors * pool.num_gpus for pool in pools),
        "memory": float(SPARE_MEMORY),
    }
    # A cluster that grows counts with the size it may reach.
    limits = ray._private.state.state.get_max_resources_from_cluster_config()
    total: dict[str, Any] = limits or ray.cluster_resources()
    if missing := _missing(needed, total):
        raise UserError(_too_small(pools, needed, missing, "has", total, keys))
    if limits:
        return
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for pool in pools:
        for name, amount in (("CPU", pool.num_cpus), ("GPU", pool.num_gpus)):
            largest = max(machine.get(name, 0) for machine in machines)
            if amount > largest:
                raise UserError(
                    f"pool {'+'.join(pool.stages)} needs {amount:g} {name}s on one machine, "
                    f"the largest has {largest:g}"
                )
    gpus = [int(machine.get("GPU", 0)) for machine in machines]
    if not fit_on_gpus([n for p in pools for n in [p.num_gpus] * p.min_actors], gpus):
        raise UserError(
            f"this recipe's actors cannot share the GPUs there are ({_shares(pools)}; machines "
            f"with {', '.join(f'{n}' for n in gpus if n)}): a fraction lies on one GPU, several "
            f"GPUs on one machine; lower {keys}"
        )
    # A run that was just stopped may hold its CPUs for some seconds more; one that failed in this
    # process until its handles are collected.
    deadline = time.monotonic() + _WAIT_FOR_CPUS_S
    while missing := _missing(needed, free := ray.available_resources()):
        if time.monotonic() > deadline:
            raise UserError(_too_small(pools, needed, missing, "has now free", free, keys))
        gc.collect()
        time.sleep(1)


def _missing(needed: dict[str, float], there: Mapping[str, float]) -> list[str]:
    return [name for name, amount in needed.items() if there.get(name, 0) < amount - 1e-6]


def _too_small(
    pools: Sequence[PoolConfig],
    needed: dict[str, float],
    missing: list[str],
    verb: str,
    there: Mapping[str, float],
    keys: str,
) -> str:
    def amount(name: str, value: float) -> str:
        return f"{value / 1024**3:.1f} GiB memory" if name == "memory" else f"{value:g} {name}s"

    wants = " and ".join(amount(name, needed[name]) for name in missing)
    has = " and ".join(amount(name, there.get(name, 0)) for name in missing)
    return (
        f"this recipe needs at least {wants}, the cluster {verb} {has} ({_shares(pools)}; "
        f"{SPARE_CPUS} CPUs to read, write and resume); give the cluster more, or lower {keys}"
    )


def _shares(pools: Sequence[PoolConfig]) -> str:
    def share(pool: PoolConfig) -> str:
        gpus = f" and {pool.num_gpus:g} GPUs" if pool.num_gpus else ""
        return f"{pool.min_actors} x {pool.num_cpus:g} CPUs{gpus}"

    return f"pools: {', '.join(map(share, pools))}"


def _quieten() -> None:
    """Keep Ray Data's stack traces in its log files; the terminal gets our one message."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL + 1)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Ray's C++ part says on descriptor 2 at which level it logs; failures are exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise RunError("stopped by SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
