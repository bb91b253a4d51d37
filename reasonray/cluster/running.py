"""Ray Data's settings for a run, and Ray's failures as our errors."""

import contextlib
import gc
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import ray.data
from ray.data.checkpoint import CheckpointConfig
from ray.data.exceptions import ExecutionTimeoutError

from reasonray.core.errors import ReasonrayError, RunError, UserError
from reasonray.core.place import Place
from reasonray.core.recipe import Recipe
from reasonray.core.writing import no_space, out_of_space

_T = TypeVar("_T")

_OURS = __name__.partition(".")[0]


def hide_gpus_unless(num_gpus: float) -> None:
    """In a process of Ray: one that asked for no GPU is shown all of its machine's."""
    if not num_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


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
        if type(link).__module__.startswith(f"{_OURS}.") or out_of_space(link):
            return link
    # Ray Data also puts an empty exception below, as a mark.
    return next((link for link in reversed(chain) if str(link)), error)
