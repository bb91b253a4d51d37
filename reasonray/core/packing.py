"""Whether a recipe's pools find room: enough in all, a machine for each actor, GPUs to share."""

import math
from collections.abc import Mapping, Sequence

from reasonray.core.sections import PoolConfig

SPARE_CPUS = 2
"""For the tasks that read and write, one each. Without them the pools' actors hold all CPUs and
nothing moves, without a word (ray issue 44687)."""


def no_room(
    pools: Sequence[PoolConfig],
    total: Mapping[str, float],
    machines: Sequence[Mapping[str, float]],
    keys: str,
    spare_cpus: int = SPARE_CPUS,
) -> str | None:
    """Why the least number of the pools' actors could not all start; None where they can.

    Args:
        pools: who is to find room.
        total: `CPU` and `GPU` of the cluster, of the size it may reach.
        machines: the same of each machine that is there or may be started.
        keys: of the recipe, to be lowered where there is not enough.
        spare_cpus: beside the pools'.
    """
    if reason := shortage(pools, total, keys, spare_cpus):
        return reason
    for pool in pools:
        for name, amount in (("CPU", pool.num_cpus), ("GPU", pool.num_gpus)):
            largest = max((machine.get(name, 0) for machine in machines), default=0)
            if amount > largest:
                return (
                    f"pool {'+'.join(pool.stages)} needs {amount:g} {name}s on one machine, "
                    f"the largest has {largest:g}"
                )
    gpus = [int(machine.get("GPU", 0)) for machine in machines]
    if fit_on_gpus([n for p in pools for n in [p.num_gpus] * p.min_actors], gpus):
        return None
    return (
        f"this recipe's actors cannot share the GPUs there are ({_shares(pools)}; machines "
        f"with {', '.join(f'{n}' for n in gpus if n)}): a fraction lies on one GPU, several "
        f"GPUs on one machine; lower {keys}"
    )


def shortage(
    pools: Sequence[PoolConfig],
    there: Mapping[str, float],
    keys: str,
    spare_cpus: int = SPARE_CPUS,
    verb: str = "has",
) -> str | None:
    """What the pools and Ray's own tasks need more than there is, added up; None if nothing.

    Args:
        pools: who is to find room.
        there: `CPU` and `GPU`, of all machines together.
        keys: of the recipe, to be lowered where there is not enough.
        spare_cpus: beside the pools'.
        verb: how the cluster holds what is there.
    """
    needed = {
        "CPU": sum(pool.min_actors * pool.num_cpus for pool in pools) + spare_cpus,
        "GPU": sum(pool.min_actors * pool.num_gpus for pool in pools),
    }
    missing = [name for name, amount in needed.items() if there.get(name, 0) < amount - 1e-6]
    if not missing:
        return None
    needs, has = (
        " and ".join(f"{amounts.get(name, 0):g} {name}s" for name in missing)
        for amounts in (needed, there)
    )
    spare = f"; {spare_cpus} CPUs to read and write" if spare_cpus else ""
    return (
        f"this recipe needs at least {needs}, the cluster {verb} {has} ({_shares(pools)}{spare}); "
        f"give the cluster more, or lower {keys}"
    )


def bundles(pools: Sequence[PoolConfig]) -> list[dict[str, float]]:
    """What is to find room, one process each: the least number of actors and Ray's own tasks.

    Returns:
        Of each what it takes of `CPU` and `GPU`, without zeros.
    """
    shapes = [{"CPU": p.num_cpus, "GPU": p.num_gpus} for p in pools for _ in range(p.min_actors)]
    shapes += [{"CPU": 1.0} for _ in range(SPARE_CPUS)]
    needs = [{name: amount for name, amount in shape.items() if amount} for shape in shapes]
    return [shape for shape in needs if shape]


def selectors(pools: Sequence[PoolConfig]) -> list[dict[str, str]]:
    """The `label_selector` of each of `bundles`, in the same order."""
    named = [
        p.label_selector for p in pools for _ in range(p.min_actors) if p.num_cpus or p.num_gpus
    ]
    return [*named, *({} for _ in range(SPARE_CPUS))]


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether Ray starts an actor with this `label_selector` on a machine with these labels.

    Args:
        labels: of the machine.
        selector: a value, `!value`, `in(a, b)` or `!in(a, b)` of each label that is looked at.
    """
    for name, condition in selector.items():
        values = condition.removeprefix("!").removeprefix("in(").removesuffix(")").split(",")
        is_one = labels.get(name) in [value.strip() for value in values]
        if is_one == condition.startswith("!"):
            return False
    return True


def fit_on_gpus(actors: Sequence[float], machines: Sequence[int]) -> bool:
    """Whether actors find their GPUs: a fraction of a single one, or whole ones of one machine.

    Args:
        actors: GPUs that each takes.
        machines: GPUs that each has.
    """
    most = sum(map(math.ceil, actors))
    free = [[1.0] * min(num_gpus, most) for num_gpus in machines]
    for num_gpus in sorted(actors, reverse=True):
        share = min(num_gpus, 1.0)
        # What is fullest is filled first, as Ray does within a machine.
        for machine in sorted(free, key=sum):
            fitting = [i for i, left in enumerate(machine) if left > share - 1e-6]
            if len(fitting) >= math.ceil(num_gpus):
                for i in sorted(fitting, key=machine.__getitem__)[: math.ceil(num_gpus)]:
                    machine[i] -= share
                break
        else:
            return False
    return True


def _shares(pools: Sequence[PoolConfig]) -> str:
    def share(pool: PoolConfig) -> str:
        gpus = f" and {pool.num_gpus:g} GPUs" if pool.num_gpus else ""
        return f"{pool.min_actors} x {pool.num_cpus:g} CPUs{gpus}"

    return f"pools: {', '.join(map(share, pools))}"
