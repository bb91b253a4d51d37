"""Whether the pools find room on a cluster, and what is asked of one that grows.

A cluster grows by an autoscaler (KubeRay's, `ray up`'s), which starts machines that somebody asks
for, or because somebody starts machines. Below the pools' minimum a run asks and waits.
"""

import contextlib
import gc
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import yaml

from reasonray.core.console import duration, say
from reasonray.core.errors import RunError, UserError
from reasonray.core.packing import SPARE_CPUS, bundles, matches, no_room, selectors, shortage
from reasonray.core.sections import PoolConfig

GROWING_S = 900.0
"""What is waited where an autoscaler is at work: a machine with GPUs takes minutes to start."""

JOINING_S = 60.0
"""What is waited elsewhere: a machine may be joining, or a stopped run may still hold its CPUs."""

_ASK_EVERY_S = 10.0
"""The cluster holds one request: another run that ends takes ours back with its own."""

_LOOK_EVERY_S = 1.0

_Kind = tuple[dict[str, float], int]
"""Resources of a machine that may be started, and how many of its kind at most."""


@contextlib.contextmanager
def room(pools: Sequence[PoolConfig], keys: str, wait_s: float | None) -> Iterator[None]:
    """The least number of the pools' actors find room while the block runs.

    Args:
        pools: who is to find room.
        keys: of the recipe, to be lowered where there is not enough.
        wait_s: for machines to join; None: `GROWING_S` with an autoscaler, `JOINING_S` without.

    Raises:
        UserError: they never will on this cluster.
        RunError: they may, but not within that time.
    """
    kinds = _reported() or _launched()
    if kinds and (reason := _too_small(pools, keys, kinds)):
        raise UserError(reason)
    with contextlib.ExitStack() as stack:
        _wait(pools, keys, wait_s, stack)
        yield


def num_gpus(selector: Mapping[str, str]) -> float:
    """That the cluster's machines with these labels have in all."""
    return _sum([node["Resources"] for node in _nodes(selector)]).get("GPU", 0.0)


def _wait(
    pools: Sequence[PoolConfig], keys: str, wait_s: float | None, stack: contextlib.ExitStack
) -> None:
    start = time.monotonic()
    last_reason = asked = None
    while reason := _missing(pools, keys):
        is_there = _too_small(pools, keys) is None
        grows = _grows()
        patience = _patience(grows, wait_s, is_there=is_there)
        waited = time.monotonic() - start
        if waited >= patience:
            if patience and (grows or (wait_s and not is_there)):
                raise RunError(f"{reason}; waited {duration(waited)} (output.wait_for_cluster_s)")
            raise UserError(reason)
        if reason != last_reason:
            say(f"waiting up to {duration(patience - waited)} for the cluster: {reason}")
            last_reason = reason
        if asked is None:
            stack.callback(_give_back)
        if asked is None or time.monotonic() - asked >= _ASK_EVERY_S:
            if is_there:
                gc.collect()  # the handles of a run that failed in this process hold its actors
            held = _held()
            _ask([*bundles(pools), *held], [*selectors(pools), *({} for _ in held)])
            asked = time.monotonic()
        time.sleep(_LOOK_EVERY_S)


def _patience(grows: bool, wait_s: float | None, *, is_there: bool) -> float:
    """Seconds to wait in all."""
    if wait_s is None:
        return GROWING_S if grows else JOINING_S
    # What others hold comes free without anybody's asking.
    return max(wait_s, JOINING_S) if is_there else wait_s


def _missing(pools: Sequence[PoolConfig], keys: str) -> str | None:
    """What is not there, or not free."""
    if reason := _too_small(pools, keys):
        return reason
    free = _free()
    for selector, kept in _by_selector(pools):
        left = _sum([free.get(node["NodeID"], {}) for node in _nodes(selector)])
        spare = 0 if selector else SPARE_CPUS
        if reason := shortage(kept, left, keys, spare, verb="has now free"):
            return _where(reason, selector)
    return None


def _too_small(
    pools: Sequence[PoolConfig], keys: str, startable: Sequence[_Kind] = ()
) -> str | None:
    """What the machines that are there, and those that an autoscaler may start, do not hold.

    Of each kind the machines that are there are counted twice, and a kind's labels are not known:
    more is never refused than is so.
    """
    for selector, kept in _by_selector(pools):
        machines: list[Mapping[str, float]] = [node["Resources"] for node in _nodes(selector)]
        total = _sum(machines)
        for resources, count in startable:
            for name, amount in resources.items():
                total[name] = total.get(name, 0) + amount * count
            machines += [resources] * min(count, _MANY)
        spare = 0 if selector else SPARE_CPUS
        if reason := no_room(kept, total, machines, keys, spare):
            return _where(reason, selector)
    return None


def _by_selector(
    pools: Sequence[PoolConfig],
) -> list[tuple[Mapping[str, str], list[PoolConfig]]]:
    """All pools, which share all machines; then those that take only some, with others alike."""
    groups: list[tuple[Mapping[str, str], list[PoolConfig]]] = [({}, list(pools))]
    for pool in pools:
        if pool.label_selector not in [selector for selector, _ in groups]:
            alike = [each for each in pools if each.label_selector == pool.label_selector]
            groups.append((pool.label_selector, alike))
    return groups


def _where(reason: str, selector: Mapping[str, str]) -> str:
    labels = ", ".join(f"{name}: {condition}" for name, condition in selector.items())
    return f"{reason}; counted are machines with {labels} (label_selector)" if labels else reason


def _nodes(selector: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        node for node in ray.nodes() if node["Alive"] and matches(node.get("Labels", {}), selector)
    ]


def _sum(machines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name for machine in machines for name in machine}
    return {name: sum(machine.get(name, 0) for machine in machines) for name in names}


def _free() -> Mapping[str, Mapping[str, float]]:
    """By the machine's id."""
    # Nothing public tells of each machine. Checked with Ray 2.60.
    free: Mapping[str, Mapping[str, float]] = ray._private.state.available_resources_per_node()  # noqa: SLF001
    return free


def _held() -> list[dict[str, float]]:
    """What others have in use, machine by machine: an autoscaler is told of all it is to hold."""
    free, held = _free(), []
    for node in ray.nodes():
        if node["Alive"]:
            left = free.get(node["NodeID"], {})
            used = {
                name: amount
                for name in ("CPU", "GPU", "memory")
                if (amount := node["Resources"].get(name, 0) - left.get(name, 0)) > 1e-6
            }
            held += [used] if used else []
    return held


def _ask(shapes: list[dict[str, float]], labels: list[dict[str, str]]) -> None:
    # Imported here: it brings a quarter of a second of Ray's launcher.
    from ray.autoscaler.sdk import request_resources

    # Autoscaler v1 takes no notice of labels.
    request_resources(bundles=shapes, bundle_label_selectors=labels)


def _give_back() -> None:
    # Where the head is gone, so is the request.
    with contextlib.suppress(Exception):
        _ask([], [])


def _grows() -> bool:
    """Whether an autoscaler is at work on this cluster.

    Ray's monitor runs on every head, and reports kinds of machines; where nobody has told it of
    any, each machine is a kind of its own, named after itself. Nothing public tells. Checked with
    Ray 2.60, autoscalers v1 and v2.
    """
    from ray.autoscaler._private.util import format_readonly_node_type
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get, internal_kv_get_gcs_client

    own = {format_readonly_node_type(node["NodeID"]) for node in ray.nodes()}
    if is_autoscaler_v2():
        status = get_cluster_status(internal_kv_get_gcs_client().address)
        nodes = [*status.active_nodes, *status.idle_nodes, *status.pending_nodes]
        return not own.issuperset(node.ray_node_type_name for node in nodes)
    report = _internal_kv_get(ray._private.ray_constants.DEBUG_AUTOSCALING_STATUS)  # noqa: SLF001
    summary = json.loads(report).get("autoscaler_report") if report else None
    return summary is not None and own.isdisjoint(summary["active_nodes"])


_MANY = 1000
"""Machines of one kind; more are not looked at when actors are to find GPUs to share."""


def _reported() -> list[_Kind]:
    """What the cluster may reach, where its autoscaler reports it; else nothing is known."""
    # Nothing public tells. Checked with Ray 2.60, where only hosted autoscalers report it.
    config = ray._private.state.state.get_cluster_config()  # noqa: SLF001

    def bounded(amount: int) -> int:
        return sys.maxsize if amount < 0 else amount  # -1 is without end

    return [
        ({name: bounded(amount) for name, amount in group.resources.items()}, bounded(count))
        for group in (config.node_group_configs if config else ())
        if group.resources and (count := group.max_count)
    ]


def _launched() -> list[_Kind]:
    """Of `ray up`, which leaves its configuration on the head node, where jobs start."""
    path = Path("~/ray_bootstrap_config.yaml").expanduser()
    here = ray.get_runtime_context().get_node_id()
    on_head = any(
        node["NodeID"] == here and "node:__internal_head__" in node["Resources"]
        for node in ray.nodes()
    )
    if not on_head or not path.is_file():
        return []
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    most = content.get("max_workers", 2)  # Ray's own default
    kinds = content.get("available_node_types") or {}
    workers = [kind for name, kind in kinds.items() if name != content.get("head_node_type")]
    if not all(kind.get("resources") for kind in workers):
        return []
    return [(kind["resources"], min(kind.get("max_workers", most), most)) for kind in workers]
