"""What one row costs each stage: FLOPs of the real forward passes, memory of an actor, tokens.

The counts follow the stages' own code, at the batch size of their pool.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.models.attention import GatedSelfAttentionDense

from reasonray.core.errors import UserError
from reasonray.core.recipe import Recipe
from reasonray.core.sections import ASKING, ModelConfig, PoolConfig
from reasonray.costs import architectures
from reasonray.costs.asking import tokens
from reasonray.costs.counting import Forward, count
from reasonray.costs.hardware import Hardware
from reasonray.costs.reach import Reach
from reasonray.models.detector import MAX_PASS
from reasonray.models.painter import MAX_OBJECTS, SLICE, Painter
from reasonray.stages import stage_class

PICTURE = (1024, 768)
"""Width and height of the pictures that come in, assumed: photographs of the web, or larger ones
made so small by `images.max_side`."""

CAPTION_TOKENS = 12
"""Of a generated caption, assumed; BLIP-2 says one short sentence."""

PHRASE_TOKENS = 12
"""Of the phrases that a picture is searched for, with their full stops."""

WORKSPACE_BYTES = 1e9
"""Of CUDA's context and libraries in one process."""

CPU_SECONDS = {
    "load": 0.005,
    "divergence": 0.02,
    "rewrite": 0.002,
    "select": 0.002,
    "caption": 0.02,
    "categories": 0.01,
    "ground": 0.05,
    "propose": 0.002,
    "paint": 0.02,
    "quality": 0.09,
}
"""Of one core beside the model, for pictures of `PICTURE`: assumed, from decoding, resizing and
encoding as timed one by one."""

_WORDS = {*ASKING, "categories"}
"""Stages that look at no picture."""


def picture_size(recipe: Recipe) -> tuple[int, int]:
    """Width and height of the pictures that a run works on: `PICTURE`, within `images.max_side`."""
    longest = recipe.images.max_side or max(PICTURE)
    scale = min(1.0, longest / max(PICTURE))
    return round(PICTURE[0] * scale), round(PICTURE[1] * scale)


def cpu_seconds(name: str, recipe: Recipe) -> float:
    """What a stage takes of one core beside its model, for a row."""
    if name in _WORDS:
        return CPU_SECONDS[name]
    return CPU_SECONDS[name] * math.prod(picture_size(recipe)) / math.prod(PICTURE)


@dataclass(frozen=True)
class Work:
    """Of one row in one stage.

    Attributes:
        model: its name; None for a stage without one.
        parameters: of all its networks.
        flops: of one row.
        dtype: the recipe's.
        streamed: bytes of weights that are read for a row's generated tokens.
        calls: forward passes of a batch, one after another.
        batch: rows that share a call.
        memory: bytes on the device, of an actor's models and one batch.
        tokens: prompt's and reply's, of a language model.
        is_server: the language model is not ours to run.
        unknown: why nothing could be counted; None otherwise.
    """

    model: str | None = None
    parameters: int = 0
    flops: float = 0
    dtype: str = "auto"
    streamed: float = 0
    calls: float = 0
    batch: float = 1
    memory: float = 0
    tokens: tuple[int, int] | None = None
    is_server: bool = False
    unknown: str | None = None

    def seconds(self, machine: Hardware, reach: Reach, threads: int = 1) -> float:
        """Of a row on a machine that it has to itself.

        Args:
            machine: a GPU, or one core.
            reach: what the model makes of it.
            threads: cores that compute together; no effect on a GPU.
        """
        computing = self.flops / (machine.peak(self.dtype) * reach.utilisation)
        reading = self.streamed / (machine.bandwidth * 1e9)
        at_least = self.calls * reach.call_s / self.batch
        return max((computing + reading) / (1 if machine.is_gpu else threads), at_least)


def stage_work(name: str, recipe: Recipe, pool: PoolConfig, machine: Hardware) -> Work:
    """What a stage costs; quality's figure is of a painted row.

    Args:
        name: of the stage.
        recipe: its models and settings.
        pool: the stage's; its batch size counts.
        machine: what the pool's actors run on.
    """
    stages, size = recipe.stages, pool.batch_size
    try:
        match name:
            case "caption":
                return _caption(recipe, size, machine)
            case "ground":
                return _detect(stages.ground.model, picture_size(recipe), size, machine)
            case "paint":
                return _paint(recipe, size, machine)
            case "quality":
                if not stages.quality.asks_detector:
                    return Work()
                # CLIP's pass over the box is a hundredth of that.
                return _detect(stages.quality.model, picture_size(recipe), size, machine)
            case _ if name in ASKING:
                return _ask(name, recipe, size, machine)
    except architectures.UnknownModelError as error:
        return Work(model=model_of(name, recipe), unknown=str(error))
    return Work()


def model_of(name: str, recipe: Recipe) -> str | None:
    """The name of a stage's model."""
    if name in ASKING:
        return recipe.language_model.model.name
    config = getattr(getattr(recipe.stages, name, None), "model", None)
    return config.name if isinstance(config, ModelConfig) else None


def _caption(recipe: Recipe, size: int, machine: Hardware) -> Work:
    section = recipe.stages.caption
    model, looked = _looking(section.model)
    tokens = min(CAPTION_TOKENS, section.max_new_tokens)
    beams = section.num_beams
    prompt = model.config.num_query_tokens + 2
    saying = _generation(
        model.language_model, prompt, tokens * beams, size * beams, machine, section.model.dtype
    )
    seeing = architectures.parameters(model) - saying.parameters + size * looked.peak
    return replace(
        saying,
        model=section.model.name,
        parameters=architectures.parameters(model),
        flops=looked.flops + saying.flops,
        calls=tokens + 1,
        batch=size,
        memory=saying.memory + seeing * machine.bytes_of(section.model.dtype),
        tokens=None,
    )


@functools.cache
def _looking(config: ModelConfig) -> tuple[Any, Forward]:
    """A BLIP-2, and what it does with one picture before it says a word."""
    model = architectures.captioner(config)
    vision = model.config.vision_config
    states = 1 + (vision.image_size // vision.patch_size) ** 2

    def look() -> None:
        model.vision_model(torch.empty(1, 3, vision.image_size, vision.image_size))
        model.qformer(
            query_embeds=torch.empty(
                1, model.config.num_query_tokens, model.config.qformer_config.hidden_size
            ),
            encoder_hidden_states=torch.empty(1, states, vision.hidden_size),
        )

    return model, count(look)


def _detect(config: ModelConfig, picture: tuple[int, int], size: int, machine: Hardware) -> Work:
    parameters, forward = _detection(config, picture)
    numbers = parameters + min(size, MAX_PASS) * forward.peak
    return Work(
        model=config.name,
        parameters=parameters,
        flops=forward.flops,
        dtype=config.dtype,
        calls=1,
        # Of photographs as the web has them, 16 have eight shapes, 64 have sixteen.
        batch=max(1, math.sqrt(size) / 2),
        memory=numbers * machine.bytes_of(config.dtype) + WORKSPACE_BYTES,
    )


@functools.cache
def _detection(config: ModelConfig, picture: tuple[int, int]) -> tuple[int, Forward]:
    """A detector's parameters, and its pass over one picture; two stages ask for it."""
    model = architectures.detector(config)
    shortest, longest = architectures.detector_size(config)
    scale = min(shortest / min(picture), longest / max(picture))
    width, height = (round(scale * side) for side in picture)
    forward = count(
        lambda: model(
            pixel_values=torch.empty(1, 3, height, width),
            input_ids=torch.empty(1, PHRASE_TOKENS, dtype=torch.long),
            attention_mask=torch.ones(1, PHRASE_TOKENS, dtype=torch.long),
        )
    )
    return architectures.parameters(model), forward


def _paint(recipe: Recipe, size: int, machine: Hardware) -> Work:
    section = recipe.stages.paint
    parts = _painting(section.model)
    steps = section.num_inference_steps
    grounded = int(section.scheduled_sampling_beta * steps)
    passes = 2 if section.guidance_scale > 1 else 1
    denoised = grounded * parts.grounded.flops + (steps - grounded) * parts.plain.flops
    # The guided step has two pictures in hand for each row; the VAE sees a few rows at once.
    denoising = size * passes * parts.grounded.peak
    coding = min(size, SLICE) * max(parts.encoded.peak, parts.decoded.peak)
    numbers = parts.parameters + max(denoising, coding)
    return Work(
        model=section.model.name,
        parameters=parts.parameters,
        # Read are the prompt and the phrase.
        flops=passes * denoised + parts.encoded.flops + parts.decoded.flops + 2 * parts.read.flops,
        dtype=section.model.dtype,
        calls=steps + 4,
        batch=size,
        memory=numbers * machine.bytes_of(section.model.dtype) + WORKSPACE_BYTES,
    )


@dataclass(frozen=True)
class _Painting:
    """A painter's parameters and passes, of one picture: a step with boxes and one without."""

    parameters: int
    grounded: Forward
    plain: Forward
    encoded: Forward
    decoded: Forward
    read: Forward


@functools.cache
def _painting(config: ModelConfig) -> _Painting:
    unet, vae = architectures.unet(config), architectures.vae(config)
    encoder = architectures.text_encoder(config)
    try:
        pixels = Painter(vae, unet, encoder, tokenizer=None, scheduler=None).image_size
    except ValueError as error:
        raise UserError(f"model {config.name}: {error}") from error
    cells = unet.config.sample_size
    channels, width = vae.config.latent_channels, unet.config.cross_attention_dim
    tokens = encoder.config.max_position_embeddings
    grounding = {
        "boxes": (1, MAX_OBJECTS, 4),
        "positive_embeddings": (1, MAX_OBJECTS, width),
        "masks": (1, MAX_OBJECTS),
    }

    def step(is_grounded: bool) -> Forward:
        for module in unet.modules():
            if isinstance(module, GatedSelfAttentionDense):
                module.enabled = is_grounded
        return count(
            lambda: unet(
                torch.empty(1, unet.conv_in.in_channels, cells, cells),
                torch.empty(1),
                encoder_hidden_states=torch.empty(1, tokens, width),
                cross_attention_kwargs={
                    "gligen": {name: torch.empty(shape) for name, shape in grounding.items()}
                },
            )
        )

    return _Painting(
        parameters=architectures.parameters(unet, vae, encoder),
        grounded=step(True),
        plain=step(False),
        encoded=count(lambda: vae.encode(torch.empty(1, 3, pixels, pixels))),
        decoded=count(lambda: vae.decode(torch.empty(1, channels, cells, cells))),
        read=count(lambda: encoder(torch.empty(1, tokens, dtype=torch.long))),
    )


def _ask(name: str, recipe: Recipe, size: int, machine: Hardware) -> Work:
    config = recipe.language_model
    prompt, reply = tokens(name, recipe)
    if config.has_server:
        return Work(model=config.model.name, tokens=(prompt, reply), is_server=True)
    model = architectures.causal_lm(config.model)
    rows = size if config.backend == "vllm" else min(size, 64)
    work = _generation(model, prompt, reply, rows, machine, config.model.dtype)
    if config.backend == "vllm":
        # Its cache takes what the weights leave, and rows wait for a place in it.
        weights = work.parameters * machine.bytes_of(config.model.dtype)
        work = replace(work, memory=weights + WORKSPACE_BYTES)
    return replace(work, model=config.model.name)


def _generation(
    model: Any, prompt: int, reply: int, rows: int, machine: Hardware, dtype: str
) -> Work:
    """A language model that reads a prompt once and then writes token by token.

    Args:
        model: causal, on the meta device.
        prompt, reply: tokens.
        rows: that are written together.
        machine, dtype: what it runs on.
    """
    config = model.config.get_text_config()
    active = active_parameters(model)
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    length = prompt + reply
    attention = 2 * length**2 * layers * heads * head  # half of the pairs: it is causal
    total = architectures.parameters(model)
    width = machine.bytes_of(dtype)
    cached = 2 * layers * (getattr(config, "num_key_value_heads", None) or heads) * head * width
    return Work(
        parameters=total,
        flops=2 * active * length + attention,
        dtype=dtype,
        streamed=reply * total * width / rows,
        calls=reply + 1,
        batch=rows,
        memory=total * width + rows * length * cached + WORKSPACE_BYTES,
        tokens=(prompt, reply),
    )


def active_parameters(model: Any) -> float:
    """Of a language model those that a token is multiplied with."""
    config = model.config.get_text_config()
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    total = architectures.parameters(model)
    if experts:
        total -= experts * (1 - config.num_experts_per_tok / config.num_experts)
    if not getattr(config, "tie_word_embeddings", False):
        total -= model.get_input_embeddings().weight.numel()
    return float(total)


def visits(name: str, shares: Mapping[str, float]) -> float:
    """The part of all rows that a stage works on, if none is rejected.

    Args:
        name: of the stage.
        shares: part -> its share of the rows.
    """
    # Pairs of InstructPix2Pix, the inputs of Part II, have captions.
    served = ("III",) if name == "caption" else stage_class(name).parts
    return sum(shares.get(part, 0.0) for part in served)
