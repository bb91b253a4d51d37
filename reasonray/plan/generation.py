"""The plan of a dataset: each stage's seconds and memory, pools in balance, hours, cost, disk."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reasonray.errors import UserError
from reasonray.plan.balance import Need, balance, rate
from reasonray.plan.hardware import GIB, KINDS, Hardware
from reasonray.plan.measured import Measured, restricted
from reasonray.plan.work import (
    CPU_SECONDS,
    PICTURE,
    WORKSPACE_BYTES,
    Work,
    model_of,
    stage_work,
    visits,
)
from reasonray.recipe import PoolConfig, Recipe
from reasonray.stages import needed

PAPER_SAMPLES = {"I": 8_013, "II": 4_141, "III": 28_058}
"""The paper's dataset; its parts' sizes are the shares where no run was measured."""

LATENCY_S = 5.0
"""Until a language model's server has answered one request, assumed."""

INPUT_BYTES_A_PIXEL = 0.53
"""Of a photograph as JPEG: COCO's train2017 has 19 GB for 118,287 pictures of 640 x 480."""

PNG_BYTES_A_PIXEL = 1.6
"""Of an edited photograph, PNG."""


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
        config: the recipe's.
        machine: what its actors run on.
        actors: as many as balance gives.
        rate: rows of the run a second that they manage together.
        memory: bytes on the device, of one actor.
    """

    config: PoolConfig
    machine: Hardware
    actors: int
    rate: float
    memory: float

    @property
    def fits(self) -> bool:
        """Whether an actor's share of a GPU's memory holds its models; any does on a CPU."""
        share = self.config.num_gpus * self.machine.memory * GIB
        return not self.machine.is_gpu or self.memory <= share


@dataclass(frozen=True)
class GenerationPlan:
    """Of a whole dataset.

    Attributes:
        shares: part -> its share of the inputs.
        stages, pools: in the pipeline's order; only what these parts need.
        machine: what is rented; cores where no pool takes a GPU.
        count: inputs.
        accepted: samples that come of them.
        rate: inputs a second.
        cpus: cores that all actors take.
        device_hours: at work.
        disk: bytes of the dataset.
    """

    shares: dict[str, float]
    stages: list[StagePlan]
    pools: list[PoolPlan]
    machine: Hardware
    count: int
    accepted: float
    rate: float
    cpus: float
    device_hours: float
    disk: float

    @property
    def hours(self) -> float:
        """From the first row to the last, models loaded."""
        return self.count / self.rate / 3600


def plan_generation(
    recipe: Recipe,
    count: int,
    gpu: Hardware,
    num_gpus: int,
    utilisation: float,
    measured: Measured | None,
) -> GenerationPlan:
    """Plan the run of a recipe.

    Args:
        recipe: its parts count.
        count: inputs.
        gpu: what there is; `cpu` for a cluster without any.
        num_gpus: how many; cores with `cpu`.
        utilisation: part of the peak that is reached.
        measured: an earlier run.

    Raises:
        UserError: the pools do not fit on so many.
    """
    parts = recipe.parts
    shares = restricted(dict(PAPER_SAMPLES) if measured is None else measured.shares, parts)
    recipe = needed(recipe, parts)
    if not any(pool.num_gpus for pool in recipe.pools):
        gpu = KINDS["cpu"]
    stages: list[StagePlan] = []
    needs: list[Need] = []
    machines: list[Hardware] = []
    for pool in recipe.pools:
        machine = gpu if pool.num_gpus and gpu.is_gpu else KINDS["cpu"]
        share = pool.num_gpus if machine.is_gpu else pool.num_cpus
        own = [
            _stage(name, recipe, pool, machine, count, shares, utilisation, measured)
            for name in pool.stages
        ]
        seconds = sum(stage.seconds * stage.rows for stage in own) / count
        needs.append(Need(seconds, share, pool.min_actors))
        machines.append(machine)
        stages += own
    actors = _actors(needs, machines, gpu, num_gpus)
    pools = [
        PoolPlan(pool, machine, number, rate(need, number), _memory(pool, stages))
        for pool, machine, number, need in zip(recipe.pools, machines, actors, needs, strict=True)
    ]
    return GenerationPlan(
        shares=shares,
        stages=stages,
        pools=pools,
        machine=gpu,
        count=count,
        accepted=count
        * sum(
            s * (measured.accepted.get(part, 1.0) if measured else 1.0)
            for part, s in shares.items()
        ),
        rate=min(pool.rate for pool in pools),
        cpus=sum(pool.actors * pool.config.num_cpus for pool in pools),
        device_hours=sum(
            stage.rows * stage.device_seconds / 3600
            for stage in stages
            if stage.machine.is_gpu == gpu.is_gpu
        ),
        disk=count * _row_bytes(shares, measured),
    )


def _stage(
    name: str,
    recipe: Recipe,
    pool: PoolConfig,
    machine: Hardware,
    count: int,
    shares: Mapping[str, float],
    utilisation: float,
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
    beside = CPU_SECONDS[name]
    if timing is not None:
        device = timing.seconds * (timing.num_gpus if machine.is_gpu else 1)
        seconds = device / share
    elif work.is_server:
        at_once = min(recipe.language_model.max_concurrency, pool.batch_size)
        device, seconds = 0.0, beside + LATENCY_S / at_once
    else:
        device = work.seconds(machine, utilisation, pool.num_threads)
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


def _memory(pool: PoolConfig, stages: list[StagePlan]) -> float:
    """Of an actor: its stages' models together; of a language model there is one for all."""
    held: dict[str | None, float] = {}
    for stage in stages:
        if stage.name in pool.stages:
            key = stage.work.model if stage.work.tokens else stage.name
            held[key] = max(held.get(key, 0.0), stage.work.memory)
    found = [memory for memory in held.values() if memory]
    return sum(found) - WORKSPACE_BYTES * max(len(found) - 1, 0)


def _actors(needs: list[Need], machines: list[Hardware], gpu: Hardware, num_gpus: int) -> list[int]:
    """GPUs are shared out first; what needs none is given as many actors as keep up with them."""
    limited = [i for i, machine in enumerate(machines) if machine.is_gpu == gpu.is_gpu]
    found = balance([needs[i] for i in limited], num_gpus)
    if found is None:
        least = sum(needs[i].share * needs[i].min_actors for i in limited)
        unit = f"{gpu.unit}s" if gpu.is_gpu else "cores"
        raise UserError(
            f"--gpus {num_gpus}: this recipe's pools take at least {least:g} {unit}; give more, or "
            "lower pools.N.min_actors, pools.N.num_gpus or pools.N.num_cpus"
        )
    actors = [need.min_actors for need in needs]
    for i, number in zip(limited, found, strict=True):
        actors[i] = number
    slowest = min(rate(needs[i], actors[i]) for i in limited)
    if slowest < float("inf"):
        for i in set(range(len(needs))) - set(limited):
            actors[i] = max(actors[i], math.ceil(slowest * needs[i].seconds - 1e-9))
    return actors


def _row_bytes(shares: Mapping[str, float], measured: Measured | None) -> float:
    if measured is not None and measured.row_bytes is not None:
        return measured.row_bytes
    pixels = PICTURE[0] * PICTURE[1]
    painted = visits("paint", shares)
    # Part I keeps both pictures of its pair, as they came.
    edited = painted * PNG_BYTES_A_PIXEL + (1 - painted) * INPUT_BYTES_A_PIXEL
    return pixels * (INPUT_BYTES_A_PIXEL + edited)
