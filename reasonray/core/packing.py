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
) -> str | None:
    """Why the least number of the pools' actors could not all start; None where they can.

    Args:
        pools: who is to find room.
        total: `CPU` and `GPU` of the cluster, of the size it may reach.
        machines: the same of each machine that is there or may be started.
        keys: of the recipe, to be lowered where there is not enough.
    """
    if reason := shortage(pools, total, keys):
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
    pools: Sequence[PoolConfig], there: Mapping[str, float], keys: str, verb: str = "has"
) -> str | None:
    """What the pools and Ray's own tasks need more than there is, added up; None if nothing.

    Args:
        pools: who is to find room.
        there: `CPU` and `GPU`, of all machines together.
        keys: of the recipe, to be lowered where there is not enough.
        verb: how the cluster holds what is there.
    """
    needed = {
        "CPU": sum(pool.min_actors * pool.num_cpus for pool in pools) + SPARE_CPUS,
        "GPU": sum(pool.min_actors * pool.num_gpus for pool in pools),
    }
    missing = [name for name, amount in needed.items() if there.get(name, 0) < amount - 1e-6]
    if not missing:
        return None
    needs, has = (
        " and ".join(f"{amounts.get(name, 0):g} {name}s" for name in missing)
        for amounts in (needed, there)
    )
    return (
        f"this recipe needs at least {needs}, the cluster {verb} {has} ({_shares(pools)}; "
        f"{SPARE_CPUS} CPUs to read and write); give the cluster more, or lower {keys}"
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
