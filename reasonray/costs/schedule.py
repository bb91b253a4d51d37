"""How many processes a training has, and how long it takes with them."""

import math
from dataclasses import dataclass

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.costs.hardware import Hardware


@dataclass(frozen=True)
class Pace:
    """Of one process, in seconds.

    Attributes:
        each: that a sample computes.
        at_least: of a batch, however small.
    """

    each: float
    at_least: float

    def seconds(self, samples: float, size: int) -> float:
        """Of some samples, in batches of a size."""
        whole, rest = divmod(samples, size)
        last = max(rest * self.each, self.at_least) if rest else 0
        return whole * max(size * self.each, self.at_least) + last


@dataclass(frozen=True)
class Paces:
    """Of a step's two stages, and of the frozen models."""

    editing: Pace
    alignment: Pace
    features: Pace


@dataclass(frozen=True)
class Schedule:
    """How long a training takes with so many processes.

    Attributes:
        workers: training processes.
        feature_actors: processes that compute the features; online they are the workers.
        step_seconds: of an optimiser's step of the main stage, without online features.
        step_hours: of all steps of both stages.
        feature_hours: of the features, before the steps or in them.
    """

    workers: int
    feature_actors: int
    step_seconds: float
    step_hours: float
    feature_hours: float

    @property
    def hours(self) -> float:
        """From start to end, models loaded."""
        return self.step_hours + self.feature_hours


def schedule(
    config: EditorConfig,
    num_steps: int,
    num_crops: float,
    paces: Paces,
    workers: int,
    feature_actors: int,
) -> Schedule:
    """The schedule of so many processes.

    Args:
        config: sizes, and the steps of the alignment.
        num_steps: of the main stage.
        num_crops: of all samples.
        paces: of one process.
        workers, feature_actors: how many.
    """
    part, size = config.batch_size // workers, config.machines.micro_batch_size
    aligned = config.alignment_steps if config.condition == "mllm" else 0
    step = paces.editing.seconds(part, size)
    steps = num_steps * step + aligned * paces.alignment.seconds(part, size)
    if config.features == "online":
        feature_actors = workers
        features = (num_steps + aligned) * paces.features.seconds(part, size)
    else:
        features = paces.features.seconds(num_crops, cached_batch(config)) / feature_actors
    return Schedule(workers, feature_actors, step, steps / 3600, features / 3600)


def cached_batch(config: EditorConfig) -> int:
    """Squares in a call of the frozen models, beforehand."""
    return max(1, config.machines.feature_batch_size // config.num_crops) * config.num_crops


def processes(config: EditorConfig, machine: Hardware, number: int) -> tuple[int, int]:
    """Workers and feature actors that so many machines take.

    Raises:
        UserError: not even one.
    """
    if machine.is_gpu:
        key, share = "num_gpus", config.machines.num_gpus
        # A fraction lies on a single GPU.
        most = number * int(1 / share) if share < 1 else number // math.ceil(share)
    else:
        key, share = "num_cpus", config.machines.num_cpus
        most = int(number / share)
    if not most:
        raise UserError(
            f"--gpus {number}: a process of the training takes {share:g} {machine.unit}s; give "
            f"more, or lower editor.machines.{key}"
        )
    workers = max(n for n in range(1, most + 1) if config.batch_size % n == 0)
    return workers, most
