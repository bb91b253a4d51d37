"""The plan of a dataset: each stage's seconds and memory, pools in balance, hours, cost, disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reasonray.core.errors import UserError
from reasonray.core.packing import fit_on_gpus
from reasonray.core.recipe import Recipe
from reasonray.core.sections import PoolConfig
from reasonray.costs.balance import Need, balance, rate
from reasonray.costs.hardware import GIB, KINDS, Hardware
from reasonray.costs.measured import Measured, restricted
from reasonray.costs.reach import reach
from reasonray.costs.work import (
    WORKSPACE_BYTES,
    Work,
    cpu_seconds,
    model_of,
    picture_size,
    stage_work,
    visits,
)
from reasonray.stages import needed

PAPER_SAMPLES = {"I": 8_013, "II": 4_141, "III": 28_058}
"""The paper's dataset; its parts' sizes are the shares where no run was measured."""

LATENCY_S = 5.0
"""Until a language model's server has answered one request, assumed."""

INPUT_BYTES_A_PIXEL = 0.53
"""Of a photograph as JPEG: COCO's train2017 has 19 GB for 118,287 pictures of 640 x 480."""

EDITED_BYTES_A_PIXEL = {"webp": 1.2, "png": 1.7, "jpeg": 0.5}
"""Of an edited photograph, by `output.edited_format`."""


@dataclass(frozen=True)
class StagePlan:
    """Of one stage.

    Attributes:
        name: of the stage.
        work: what a row costs.
        machine: what its pool runs on.
        rows: that it works on.
        device_seconds: of a GPU (or core) for one of its rows.
        seconds: of an actor for one of its rows, with what the CPU does beside the GPU.
        is_measured: the seconds are a run's.
    """

    name: str
    work: Work
    machine: Hardware
    rows: float
    device_seconds: float
    seconds: float
    is_measured: bool


@dataclass(frozen=True)
class PoolPlan:
    """Of one pool.

    Attributes:
        index: among the recipe's pools.
        config: the recipe's.
        machine: what its actors run on.
        memory: bytes on the device, of one actor.
        need: of one actor.
        actors: as many as balance gives.
    """

    index: int
    config: PoolConfig
    machine: Hardware
    memory: float
    need: Need
    actors: int = 0

    @property
    def rate(self) -> float:
        """Rows of the run a second that they manage together."""
        return rate(self.need, self.actors)

    @property
    def fits(self) -> bool:
        """Whether what an actor asks for comes with the memory that its models take."""
        if self.machine.is_gpu:
            return self.memory <= self.config.num_gpus * self.machine.memory * GIB
        return self.need.share <= self.config.num_cpus

    @property
    def own_rate(self) -> float:
        """The rate with no more actors than the recipe has."""
        return rate(self.need, min(self.actors, self.config.max_actors))


@dataclass(frozen=True)
class GenerationPlan:
    """Of a whole dataset.

    Attributes:
        shares: part -> its share of the inputs.
        stages, pools: in the pipeline's order; only what these parts need.
        machine, number: what is rented, and how many; cores where no pool takes a GPU.
        least_gpus: that the recipe starts on; 0 where it takes none.
        count: inputs.
        accepted: samples that come of them.
        cpus: cores that all actors take.
        device_hours: at work.
        disk: bytes of the dataset.
    """

    shares: dict[str, float]
    stages: list[StagePlan]
    pools: list[PoolPlan]
    machine: Hardware
    number: float
    least_gpus: int
    count: int
    accepted: float
    cpus: float
    device_hours: float
    disk: float

    @property
    def rate(self) -> float:
        """Inputs a second that the slowest pool manages."""
        return min(pool.rate for pool in self.pools)

    @property
    def hours(self) -> float:
        """From the first row to the last, models loaded."""
        return self.count / self.rate / 3600

    @property
    def own_hours(self) -> float:
        """Likewise, with no more actors than the recipe has."""
        return self.count / min(pool.own_rate for pool in self.pools) / 3600

    @property
    def settings(self) -> list[str]:
        """What `generate` is to be told so that it has as many actors."""
        return [
            f"pools.{pool.index}.max_actors={pool.actors}"
            for pool in self.pools
            if pool.actors > pool.config.max_actors
        ]


def plan_generation(
    recipe: Recipe,
    count: int,
    gpu: Hardware,
    num_gpus: int,
    utilisation: float | None,
    measured: Measured | None,
) -> GenerationPlan:
    """Plan the run of a recipe.

    Args:
        recipe: its parts count.
        count: inputs.
        gpu: what there is; `cpu` for a cluster without any.
        num_gpus: how many; cores with `cpu`.
        utilisation: part of the peak that is reached; None: as measured (`reach`).
        measured: an earlier run.

    Raises:
        UserError: the pools do not fit on so many.
    """
    shares = restricted(dict(PAPER_SAMPLES) if measured is None else measured.shares, recipe.parts)
    stages: list[StagePlan] = []
    pools: list[PoolPlan] = []
    for pool in needed(recipe, recipe.parts).pools:
        machine = gpu if pool.num_gpus else KINDS["cpu"]
        own = [
            _stage(name, recipe, pool, machine, count, shares, utilisation, measured)
            for name in pool.stages
        ]
        index = next(i for i, p in enumerate(recipe.pools) if pool.stages[0] in p.stages)
        memory = _memory(own)
        seconds = sum(stage.seconds * stage.rows for stage in own) / count
        need = Need(seconds, _share(pool, machine, memory), pool.min_actors)
        pools.append(PoolPlan(index, pool, machine, memory, need))
        stages += own
    rented = gpu if any(pool.config.num_gpus for pool in pools) else KINDS["cpu"]
    number = float(num_gpus)
    if rented != gpu:
        number = sum(pool.need.share * pool.config.max_actors for pool in pools)
    pools = _balanced(pools, rented, number)
    return GenerationPlan(
        shares=shares,
        stages=stages,
        pools=pools,
        machine=rented,
        number=number,
        least_gpus=_least_gpus(pools),
        count=count,
        accepted=count
        * sum(
            s * (measured.accepted.get(part, 1.0) if measured else 1.0)
            for part, s in shares.items()
        ),
        cpus=sum(pool.actors * pool.config.num_cpus for pool in pools),
        device_hours=sum(
            stage.rows * stage.device_seconds / 3600
            for stage in stages
            if stage.machine.is_gpu == rented.is_gpu
        ),
        disk=count * _row_bytes(recipe, shares, measured),
    )


def _stage(
    name: str,
    recipe: Recipe,
    pool: PoolConfig,
    machine: Hardware,
    count: int,
    shares: Mapping[str, float],
    utilisation: float | None,
    measured: Measured | None,
) -> StagePlan:
    work = stage_work(name, recipe, pool, machine)
    has_model = model_of(name, recipe) is not None and work != Work()
    if not has_model:
        # Spelled out in the plan: the stage's part of the actor's time is a core's.
        machine = KINDS["cpu"]
    share = pool.num_gpus if machine.is_gpu else 1.0
    timing = measured.timings.get(name) if measured else None
    if timing is not None and has_model and bool(timing.num_gpus) != machine.is_gpu:
        timing = None
    beside = cpu_seconds(name, recipe)
    if timing is not None:
        device = timing.seconds * (timing.num_gpus if machine.is_gpu else 1)
        seconds = device / share
    elif work.is_server:
        most = recipe.language_model.server.max_concurrency
        at_once = most if recipe.num_calls(pool) > 1 else min(most, pool.batch_size)
        device, seconds = 0.0, beside + LATENCY_S / at_once
    else:
        device = work.seconds(machine, reach(name, machine, utilisation), pool.num_threads)
        if name == "quality":
            # The detector looks at painted pictures only.
            device *= visits("paint", shares)
        if machine.is_gpu:
            # Actors that share a GPU compute in turns while the others decode and encode.
            seconds = max(device / share, beside + device / max(share, 1.0))
        else:
            device += beside
            seconds = device
    return StagePlan(
        name=name,
        work=work,
        machine=machine,
        rows=count * visits(name, shares) * (measured.visits.get(name, 1.0) if measured else 1.0),
        device_seconds=device,
        seconds=seconds,
        is_measured=timing is not None,
    )


def _memory(stages: list[StagePlan]) -> float:
    """Of an actor: its stages' models together; of a language model there is one for all."""
    held: dict[str | None, float] = {}
    for stage in stages:
        key = stage.work.model if stage.work.tokens else stage.name
        held[key] = max(held.get(key, 0.0), stage.work.memory)
    memories = [memory for memory in held.values() if memory]
    return sum(memories) - WORKSPACE_BYTES * max(len(memories) - 1, 0)


def _share(pool: PoolConfig, machine: Hardware, memory: float) -> float:
    """Of GPUs (or cores) that an actor takes; a core comes with its part of the memory."""
    if machine.is_gpu:
        return pool.num_gpus
    return pool.num_cpus and max(pool.num_cpus, memory / GIB / machine.memory)


def _balanced(pools: Sequence[PoolPlan], machine: Hardware, number: float) -> list[PoolPlan]:
    """GPUs are shared out first; what needs none is given as many actors as keep up with them."""
    limited = [pool for pool in pools if pool.machine.is_gpu == machine.is_gpu]

    def fits(actors: list[int]) -> bool:
        return not machine.is_gpu or fit_on_gpus(_shares(limited, actors), [int(number)])

    numbers = balance([pool.need for pool in limited], number, fits)
    if numbers is None:
        least: float = _least_gpus(pools)
        if not machine.is_gpu:
            least = sum(pool.need.share * pool.need.min_actors for pool in limited)
        unit = f"{machine.unit}s" if machine.is_gpu else f"cores of {machine.memory:g} GiB"
        raise UserError(
            f"--gpus {number:g}: this recipe's pools take at least {least:.3g} {unit}; give more, "
            "or lower pools.N.min_actors, pools.N.num_gpus or pools.N.num_cpus"
        )
    actors = {pool.index: each for pool, each in zip(limited, numbers, strict=True)}
    slowest = min(rate(pool.need, actors[pool.index]) for pool in limited)

    def keeping_up(need: Need) -> int:
        num_actors = slowest * need.seconds if slowest < float("inf") else 0
        return max(need.min_actors, math.ceil(num_actors - 1e-9))

    return [replace(pool, actors=actors.get(pool.index) or keeping_up(pool.need)) for pool in pools]


def _least_gpus(pools: Sequence[PoolPlan]) -> int:
    """That the pools start on, were they on one machine."""
    shares = _shares(pools, [pool.config.min_actors for pool in pools])
    least = math.ceil(sum(shares) - 1e-6)
    while not fit_on_gpus(shares, [least]):
        least += 1
    return least


def _shares(pools: Sequence[PoolPlan], actors: Sequence[int]) -> list[float]:
    """GPUs that each actor takes."""
    counted = zip(pools, actors, strict=True)
    return [pool.config.num_gpus for pool, number in counted for _ in range(number)]


def _row_bytes(recipe: Recipe, shares: Mapping[str, float], measured: Measured | None) -> float:
    if measured is not None and measured.row_bytes is not None:
        return measured.row_bytes
    pixels = math.prod(picture_size(recipe))
    painted = visits("paint", shares)
    # Part I keeps both pictures of its pair, as they came.
    painting = EDITED_BYTES_A_PIXEL[recipe.output.edited_format]
    edited = painted * painting + (1 - painted) * INPUT_BYTES_A_PIXEL
    return pixels * (INPUT_BYTES_A_PIXEL + edited)
