"""The plan of a training: FLOPs of its steps, memory of a worker, features cached or online."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch

from reasonray.core.crops import training_size
from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig
from reasonray.costs import architectures
from reasonray.costs.counting import count
from reasonray.costs.hardware import Hardware
from reasonray.costs.memory import Memory, memory_plan
from reasonray.costs.reach import reach
from reasonray.costs.schedule import Pace, Paces, Schedule, cached_batch, processes, schedule
from reasonray.costs.work import PICTURE
from reasonray.editor.connector import Connector

INSTRUCTION_TOKENS = 20
TEMPLATE_TOKENS = 12
"""Of the chat around instruction and picture, half before the picture and half after it."""

DISK_PRICE = 0.08
"""Dollars for a GB and month of a disk that is read in any order, assumed; a month is counted."""


@dataclass(frozen=True)
class Features:
    """What the frozen models give, for one crop of a sample.

    Attributes:
        flops: of all frozen models.
        calls: their forward passes for a batch, one after another.
        bytes: of what is cached of a sample, all its crops.
        tokens, width: of the states before the connector.
        cells: height and width of the latents.
        frozen: parameters.
        frozen_bytes: of their weights.
    """

    flops: float
    calls: int
    bytes: float
    tokens: int
    width: int
    cells: tuple[int, int]
    frozen: int
    frozen_bytes: float


@dataclass(frozen=True)
class Comparison:
    """Features once beforehand, or at each access.

    Attributes:
        epochs: times that the training sees a sample, in both stages.
        cache_bytes: on disk.
        compute: dollars, of all features once.
        disk: dollars, of the cache for a month.
        online: dollars, of all features that the training asks for.
        break_even: epochs from which the cache is cheaper.
    """

    epochs: float
    cache_bytes: float
    compute: float
    disk: float
    online: float
    break_even: float

    @property
    def cheaper(self) -> str:
        """As `editor.features` takes it."""
        return "cached" if self.compute + self.disk <= self.online else "online"


@dataclass(frozen=True)
class TrainingPlan:
    """Of one training.

    Attributes:
        config: the recipe's section.
        machine: that it runs on.
        share: of GPUs (or cores) that a process takes.
        samples: accepted, held-out ones among them.
        num_steps: of the main stage.
        epochs: that it sees.
        own_processes: workers and feature actors that the recipe takes here.
        unet, connector: parameters.
        flops: of one sample forward and back, in the main stage.
        alignment_flops: in the alignment.
        features: of the frozen models.
        memory: a line for each way to spread or spare it.
        schedule: with as many processes as the cluster takes.
        own: with as many as the recipe has; None where the cluster does not take them.
        comparison: cached beside online.
    """

    config: EditorConfig
    machine: Hardware
    share: float
    samples: float
    num_steps: int
    epochs: float
    own_processes: tuple[int, int]
    unet: int
    connector: int
    flops: float
    alignment_flops: float
    features: Features
    memory: list[Memory]
    schedule: Schedule
    own: Schedule | None
    comparison: Comparison

    @property
    def step_hours(self) -> float:
        """Of a GPU (or core), all steps of both stages."""
        return self.schedule.step_hours * self.schedule.workers * self.share

    @property
    def feature_hours(self) -> float:
        """Likewise, of the features as the recipe has them."""
        return self.schedule.feature_hours * self.schedule.feature_actors * self.share

    @property
    def settings(self) -> list[str]:
        """What `train` is to be told so that it has as many processes."""
        workers, actors = self.own_processes
        planned = [("num_workers", self.schedule.workers, workers)]
        if self.config.features == "cached":
            planned.append(("feature_actors", self.schedule.feature_actors, actors))
        return [f"editor.machines.{key}={number}" for key, number, own in planned if number != own]


def plan_training(
    config: EditorConfig,
    samples: float,
    machine: Hardware,
    number: int | None,
    utilisation: float | None,
    price: float,
) -> TrainingPlan:
    """Plan a training.

    Args:
        config: a recipe's editor.
        samples: accepted in its dataset.
        machine, number: what there is, and how many; None: what the recipe takes.
        utilisation: part of the peak that is reached; None: as measured (`reach`).
        price: dollars an hour of one machine.

    Raises:
        UnknownModelError: a model's configuration cannot be had.
        UserError: a setting does not go with a model, or with so many machines.
    """
    spread, unet = config.machines, architectures.editor_unet(config.base)
    features = frozen_features(config, machine)
    connector = _connector(config, features.width, unet.config.cross_attention_dim)
    passing = count(lambda: _pass(unet, connector, features), gradients=True)
    # The backward pass: as much again for the activations' gradients, and for the weights'.
    passes = 2 if config.lora_rank is not None else 3
    alignment_steps = config.alignment_steps if config.condition == "mllm" else 0
    flops, alignment = passes * passing.flops, 3 * passing.flops
    if connector is not None and _compares_encodings(config):
        alignment = 3 * count(lambda: _connect(connector, features), gradients=True).flops
    # Of one process: on less than a GPU they compute in turns.
    part = min(spread.num_gpus, 1) if machine.is_gpu else spread.num_threads
    stepping, reading = (reach(name, machine, utilisation) for name in ("training", "features"))
    peak = machine.peak("float32" if config.precision == "float32" else "bfloat16")
    trained = peak * stepping.utilisation * part
    frozen = machine.peak(config.mllm.dtype) * reading.utilisation * part
    paces = Paces(
        editing=Pace(flops / trained, passes * stepping.call_s),
        alignment=Pace(alignment / trained, 3 * stepping.call_s),
        features=Pace(features.flops / frozen, features.calls * reading.call_s),
    )
    own = spread.processes((number or 0) if machine.is_gpu else 0, config.batch_size)
    workers, actors = own if number is None else processes(config, machine, number)
    starts = number is None or max(own) <= actors
    num_crops, trained_on = samples * config.num_crops, samples * (1 - config.validation_fraction)
    num_steps = config.steps(trained_on)
    share = spread.num_gpus if machine.is_gpu else spread.num_cpus
    batches = cached_batch(config), min(spread.micro_batch_size, config.batch_size // workers)
    cached_s, online_s = (paces.features.seconds(size, size) / size for size in batches)
    return TrainingPlan(
        config=config,
        machine=machine,
        share=share,
        samples=samples,
        num_steps=num_steps,
        epochs=num_steps * config.batch_size / trained_on,
        own_processes=own,
        unet=architectures.parameters(unet),
        connector=0 if connector is None else architectures.parameters(connector),
        flops=flops,
        alignment_flops=alignment,
        features=features,
        memory=memory_plan(config, unet, connector, features.frozen_bytes, passing.saved, workers),
        schedule=schedule(config, num_steps, num_crops, paces, workers, actors),
        own=schedule(config, num_steps, num_crops, paces, *own) if starts else None,
        comparison=compare(
            num_samples=samples,
            num_crops=num_crops,
            num_trained=config.batch_size * (num_steps + alignment_steps),
            held_out=config.validation_fraction,
            bytes_each=features.bytes,
            cached_each=price * share * cached_s / 3600,
            online_each=price * share * online_s / 3600,
        ),
    )


def compare(
    *,
    num_samples: float,
    num_crops: float,
    num_trained: float,
    held_out: float,
    bytes_each: float,
    cached_each: float,
    online_each: float,
) -> Comparison:
    """Cached features beside those computed at each access.

    Args:
        num_samples, num_crops: all of which a cache holds.
        num_trained: samples that all steps take, one crop of each.
        held_out: the part of them that is not trained on.
        bytes_each: of a sample, in the cache.
        cached_each, online_each: dollars to compute a crop, in a batch of its own or in a step.
    """
    trained_on = num_samples * (1 - held_out)
    disk = num_samples * bytes_each / 1e9 * DISK_PRICE
    compute = num_crops * cached_each
    return Comparison(
        epochs=num_trained / trained_on,
        cache_bytes=num_samples * bytes_each,
        compute=compute,
        disk=disk,
        online=num_trained * online_each,
        break_even=(compute + disk) / (trained_on * online_each),
    )


def frozen_features(config: EditorConfig, machine: Hardware) -> Features:
    """One crop of a sample, of a photograph of `PICTURE`, through the frozen models.

    Args:
        config: which models and tokens.
        machine: decides the weights' dtype.

    Raises:
        UserError: the pictures are too small for the VAE.
    """
    vae = architectures.vae(config.vae, "") if config.vae else architectures.vae(config.base)
    side = config.image_size
    width, height = training_size(PICTURE, side)
    cell = 2 ** (len(vae.config.block_out_channels) - 1)
    cells = height // cell, width // cell
    if not all(cells):
        raise UserError(f"editor.image_size {side}: the VAE takes pictures of {cell} or more")
    flops: float = 2 * count(lambda: vae.encode(torch.empty(1, 3, height, width))).flops
    size = config.num_crops * 2 * 2 * vae.config.latent_channels * math.prod(cells)
    models, calls = [vae], 2
    is_text = config.condition == "text"
    if is_text or config.alignment_steps:
        encoder = architectures.text_encoder(config.base)
        length = encoder.config.max_position_embeddings
        encoding = count(lambda: encoder(torch.empty(1, length, dtype=torch.long)))
        # Both instructions are the condition, or the direct one is what alignment imitates.
        texts = 2 if is_text else 1
        flops += texts * encoding.flops
        calls += texts
        # What alignment imitates is stored once for all crops.
        copies = 2 * config.num_crops if is_text else 1
        size += copies * 2 * length * encoder.config.hidden_size
        models.append(encoder)
        tokens, width = length, encoder.config.hidden_size
    if not is_text:
        mllm, length, after, pass_flops = _multimodal_pass(config.mllm)
        flops += pass_flops
        calls += 3
        width = mllm.config.text_config.hidden_size
        tokens = {"all": length, "text": after, "last": 1}[config.tokens]
        # The picture's states once, and those of both instructions.
        stored = length + after if config.tokens == "all" else 2 * tokens
        size += config.num_crops * 2 * stored * width
        models.append(mllm)
    frozen = architectures.parameters(*models)
    weights = frozen * machine.bytes_of(config.mllm.dtype)
    return Features(flops, calls, size, tokens, width, cells, frozen, weights)


@functools.cache
def _multimodal_pass(config: ModelConfig) -> tuple[Any, int, int, int]:
    """A LLaVA, the tokens of a picture with an instruction, those after it, the FLOPs of both."""
    mllm = architectures.mllm(config)
    after = TEMPLATE_TOKENS // 2 + INSTRUCTION_TOKENS
    before = image_tokens(mllm) + TEMPLATE_TOKENS // 2
    pixels = mllm.config.vision_config.image_size
    picture = count(
        lambda: mllm.model(
            input_ids=torch.empty(1, before, dtype=torch.long),
            pixel_values=torch.empty(1, 3, pixels, pixels),
            attention_mask=torch.ones(1, before, dtype=torch.long),
            use_cache=False,
        )
    )
    # The picture is read once. That the instructions attend to it is left out: a hundredth.
    instructions = count(
        lambda: mllm.model(input_ids=torch.empty(2, after, dtype=torch.long), use_cache=False)
    )
    return mllm, before + after, after, picture.flops + instructions.flops


def image_tokens(mllm: Any) -> int:
    """Tokens of one picture in a LLaVA."""
    vision = mllm.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    return int(patches + (mllm.config.vision_feature_select_strategy != "default"))


def _connector(config: EditorConfig, width: int, output_dim: int) -> Any:
    if config.condition == "text":
        return None
    with torch.device("meta"):
        return Connector.of(config.connector, width, output_dim)


def _compares_encodings(config: EditorConfig) -> bool:
    """Whether alignment needs no UNet (`objective.Objective.alignment`)."""
    encoder = architectures.text_encoder(config.base)
    return config.connector.gives(encoder.config.max_position_embeddings)


def _connect(connector: Any, features: Features) -> Any:
    """The frozen model's states of one sample, through the connector."""
    states = torch.empty(1, features.tokens, features.width)
    return connector(states, torch.ones(1, features.tokens, dtype=torch.bool))[0]


def _pass(unet: Any, connector: Any, features: Features) -> Any:
    """One sample through connector and UNet."""
    if connector is not None:
        states = _connect(connector, features)
    else:
        states = torch.empty(1, features.tokens, features.width)
    noisy = torch.empty(1, unet.conv_in.in_channels, *features.cells)
    return unet(noisy, torch.empty(1), encoder_hidden_states=states)
