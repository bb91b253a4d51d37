"""The zoo's painter: a tiny GLIGEN inpainter that puts any category into any object's box.

Learned on latents of the frozen VAE, which are made once: each scene with one of its objects in
several categories, so that every pair of them is an edit. The text encoder is learned with the
UNet. Shapes as in `reasonray.models.painter`, whose inputs the model sees here exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.pipelines.deprecated.stable_diffusion_gligen import StableDiffusionGLIGENPipeline
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from reasonray.core.boxes import Box, widened
from reasonray.core.errors import UserError
from reasonray.mini.training.loop import Course, Loss, Schedule, mixed_precision
from reasonray.mini.training.stable_diffusion import (
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    kept_latents,
    noised,
    tokens,
    variants,
)
from reasonray.mini.training.vocabulary import OTHER_NOUNS, WORDS, kept_tokenizer
from reasonray.models.painter import MAX_OBJECTS, outside_mask
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import IMAGE_SIZE, Scene, caption, render, replaced

BATCH = 32
SCHEDULE = Schedule(num_steps=4000, learning_rate=1e-3, cooldown=0.35)
OUTSIDE_WEIGHT = 0.1
"""Of the loss in cells that keep the source, which sampling overwrites."""

NO_CONDITION, NO_PROMPT = 0.1, 0.1
"""Parts of the samples without any condition (for guidance), or with the grounding alone."""

JITTER, MAX_MARGIN = 2, 0.1
"""A detector's box is off by up to so many pixels on each side; the stage widens it by a margin."""

OPEN = 0.6
"""The gates' first value; with 0 the boxes' phrases are not heard for a thousand steps."""

APART_STEPS = 150
NUM_SCENES, NUM_VARIANTS = 6000, 4
MAX_TOKENS = 24


class Taught(nn.Module):
    """All that is trained together."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = build_unet(
            in_channels=17,
            block_out_channels=(80, 128),
            # Six by six cells are enough to say what goes where; convolutions draw the detail.
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_type="gated",
        )
        # GLIGEN's gates start shut, so as not to disturb a trained UNet; ours is not trained yet.
        for module in self.unet.modules():
            if isinstance(module, GatedSelfAttentionDense):
                for gate in (module.alpha_attn, module.alpha_dense):
                    nn.init.constant_(cast(Tensor, gate), OPEN)
        self.text_encoder = build_text_encoder(tokenizer)


def load_tokenizer(workdir: Path) -> CLIPTokenizer:
    """The tokenizer that belongs to the checkpoint in a folder: it has the world's words whole."""
    return kept_tokenizer(
        CLIPTokenizer,
        workdir / "painter_tokenizer",
        lambda: build_tokenizer((*WORDS, *OTHER_NOUNS), MAX_TOKENS),
    )


def course(workdir: Path, _zoo: Path) -> Course:
    """The whole painter, as a diffusers GLIGEN folder.

    The VAE is taken from `workdir`/vae, where `training.vae` leaves it.

    Raises:
        UserError: it is not there.
    """
    if not (workdir / "vae").exists():
        raise UserError(f"mini train painter: no VAE in {workdir}; train vae first")
    # Any: diffusers' classes are untyped where it matters.
    vae: Any = AutoencoderKL.from_pretrained(workdir / "vae")
    # Else the folder of this machine that it was loaded from is written.
    vae.register_to_config(_name_or_path="")
    latents = kept_latents(vae, workdir / "painter-latents", NUM_SCENES, pictures)
    latents = latents * vae.config.scaling_factor
    tokenizer, scheduler = load_tokenizer(workdir), build_scheduler()
    taught = Taught(tokenizer)
    if not (workdir / "painter.pt").exists():
        tell_apart(taught.text_encoder, tokenizer)

    def loss(step: int) -> Loss:
        data = batch(step, BATCH, latents, tokenizer)
        # More of the noisy end, where it is decided what is drawn.
        noisy, times, velocity = noised(scheduler, data.clean, step, 1 / 2)
        with mixed_precision():
            predicted = predict(taught, data, noisy, times)
        error = (predicted.float() - velocity).square()
        weight = 1 - (1 - OUTSIDE_WEIGHT) * data.keep
        inside = (error * (1 - data.keep)).sum() / (1 - data.keep).sum() / error.shape[1]
        total = (error * weight).sum() / weight.sum() / error.shape[1]
        return total, {"inside": inside.item()}

    pipeline = StableDiffusionGLIGENPipeline(
        vae=vae.half(),
        text_encoder=taught.text_encoder,
        tokenizer=tokenizer,
        unet=taught.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return Course(taught, loss, SCHEDULE, {"": [pipeline]})


def tell_apart(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
    """Teach the text encoder that each noun, with or without its article, is unlike all others.

    Left to the painter alone it keeps only what helps first, the objects' rough colour: after
    2,600 steps "cat" and "caterpillar" had the same embedding.
    """
    bare = tokens(tokenizer, [*CATEGORIES, *OTHER_NOUNS])
    phrases = [*(category.phrase for category in CATEGORIES.values())]
    full = tokens(tokenizer, [*phrases, *(f"a {noun}" for noun in OTHER_NOUNS)])
    optimizer = torch.optim.Adam(text_encoder.parameters(), lr=1e-3)
    for _ in range(APART_STEPS):
        pooled = text_encoder(torch.cat([bare, full])).pooler_output
        centred = nn.functional.normalize(pooled - pooled.mean(dim=0), dim=-1)
        similar = centred[: len(bare)] @ centred[len(bare) :].T
        loss = nn.functional.cross_entropy(10 * similar, torch.arange(len(bare)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@dataclass(frozen=True)
class Batch:
    """One step's samples.

    Attributes:
        clean: BCHW, the source's latents around the box, the target's in it.
        source: BCHW, the source's latents.
        keep: B1HW, 1 where the source is kept.
        boxes: B4, xyxy, 0..1.
        prompts, phrases: tokens of the edited caption and of the target, int64 [B, T].
        grounded: float [B], 0 for samples without any condition.
    """

    clean: Tensor
    source: Tensor
    keep: Tensor
    boxes: Tensor
    prompts: Tensor
    phrases: Tensor
    grounded: Tensor


def batch(step: int, size: int, latents: Tensor, tokenizer: CLIPTokenizer) -> Batch:
    """A step's edits between the variants of each scene; they follow from the step alone.

    Args:
        step: of the training.
        size: B.
        latents: scaled, [NUM_SCENES, NUM_VARIANTS, C, H, W].
        tokenizer: of `load_tokenizer`.
    """
    rng = np.random.default_rng((step, 0x9A17))
    sources, targets, boxes, prompts, phrases, grounded = [], [], [], [], [], []
    for number in rng.integers(NUM_SCENES, size=size):
        scene, index, names = same_side(int(number))
        source, target = rng.choice(NUM_VARIANTS, size=2, replace=False)
        sources.append(latents[number, source])
        targets.append(latents[number, target])
        boxes.append(asked_box(scene.objects[index].box, rng))
        category = CATEGORIES[names[target]]
        phrases.append(category.phrase if rng.random() < 0.3 else category.name)
        draw = rng.random()
        blind = draw < NO_CONDITION + NO_PROMPT
        prompts.append("" if blind else caption(replaced(scene, index, category.name)))
        grounded.append(float(draw >= NO_CONDITION))
    boxes_B4 = torch.tensor(np.array(boxes), dtype=torch.float32) / IMAGE_SIZE
    source_BCHW = torch.stack(sources).float()
    keep = outside_mask(boxes_B4, source_BCHW.shape[-2:])
    return Batch(
        clean=source_BCHW * keep + torch.stack(targets).float() * (1 - keep),
        source=source_BCHW,
        keep=keep,
        boxes=boxes_B4,
        prompts=tokens(tokenizer, prompts),
        phrases=tokens(tokenizer, phrases),
        grounded=torch.tensor(grounded),
    )


def predict(taught: Taught, batch: Batch, noisy: Tensor, times: Tensor) -> Tensor:
    """The UNet's velocity for noisy latents BCHW at timesteps [B]."""
    size = len(noisy)
    texts = torch.cat([batch.prompts, batch.phrases])
    encoded = taught.text_encoder(texts)
    hidden, pooled = encoded.last_hidden_state[:size], encoded.pooler_output[size:]
    boxes = noisy.new_zeros(size, MAX_OBJECTS, 4)
    masks = noisy.new_zeros(size, MAX_OBJECTS)
    boxes[:, 0], masks[:, 0] = batch.boxes, batch.grounded
    embeddings = nn.functional.pad(pooled[:, None], (0, 0, 0, MAX_OBJECTS - 1))
    gligen = {"boxes": boxes, "masks": masks, "positive_embeddings": embeddings}
    inputs = torch.cat([noisy, batch.source * batch.keep, batch.keep], dim=1)
    predicted: Tensor = taught.unet(
        inputs.contiguous(memory_format=torch.channels_last),
        times,
        encoder_hidden_states=hidden,
        cross_attention_kwargs={"gligen": gligen},
    ).sample
    return predicted


def same_side(number: int) -> tuple[Scene, int, list[str]]:
    """The `variants` of a scene, in which the object always looks to the same side.

    Between two equally likely views a small model paints both.
    """
    scene, index, names = variants(number, 0xED17, NUM_VARIANTS)
    return replaced(scene, index, names[0]), index, names


def pictures(number: int) -> list[NDArray[np.uint8]]:
    """All variants of a scene, uint8 HWC."""
    scene, index, names = same_side(number)
    return [render(replaced(scene, index, name)) for name in names]


def asked_box(box: Sequence[int], rng: np.random.Generator) -> Box:
    """The box as the stage `paint` hands it on: a detector's, widened; xyxy pixels."""
    moved = np.array(box) + rng.uniform(-JITTER, JITTER, size=4)
    return widened(moved.tolist(), rng.uniform(0, MAX_MARGIN), (IMAGE_SIZE, IMAGE_SIZE))
