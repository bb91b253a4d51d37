"""The zoo's InstructPix2Pix: the editor's base, which does what a direct instruction says.

Learned on latents of the painter's VAE, made once. Left to the denoising loss alone a small UNet
draws the right thing in any object's place, for many thousand steps: so heads on its features
name the object that covers each cell and say whether it is the one meant, and two on the text
encoder name what goes and what comes. The heads are thrown away.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from reasonray.core.errors import UserError
from reasonray.mini.knowledge import DIRECT_TEMPLATES, reasoning_candidate
from reasonray.mini.training.loop import Course, Loss, Schedule, mixed_precision
from reasonray.mini.training.stable_diffusion import (
    FACTOR,
    WIDTH,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    kept_latents,
    noised,
    tokens,
    variants,
)
from reasonray.mini.training.vocabulary import WORDS, kept_tokenizer
from reasonray.prompts.direct import direct_sentence
from reasonray.prompts.words import words
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import IMAGE_SIZE, SceneObject, render, replaced

BATCH = 32
SCHEDULE = Schedule(num_steps=5600, learning_rate=1e-3, cooldown=0.4)
BOX_WEIGHT = 3.0
"""Of the loss in the cells of the object that is replaced."""

DROPOUT = 0.05
"""Parts of the samples without the picture, without the text, and without either."""

NUM_SCENES, NUM_NAMES = 8000, 4
SALT = 0xBA5E
"""Its scenes are others than those of the other trainings, whose salts differ."""

CHANNELS = (64, 112)
MAX_TOKENS = 40
NAMES = sorted(CATEGORIES)


class Taught(nn.Module):
    """The UNet and the text encoder, with the heads that teach them."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = build_unet(
            in_channels=16,
            block_out_channels=CHANNELS,
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        )
        self.text_encoder = build_text_encoder(tokenizer)
        self.said_heads = nn.ModuleList(nn.Linear(WIDTH, len(NAMES)) for _ in range(2))
        self.cell_heads = nn.ModuleDict(
            {
                "down": _head(CHANNELS[0], len(NAMES) + 1),
                "middle": _head(CHANNELS[1], len(NAMES) + 2),
                "up": _head(CHANNELS[0], len(NAMES) + 2),
            }
        )
        self.features: dict[str, Tensor] = {}
        self.unet.down_blocks[0].resnets[-1].register_forward_hook(self._keep("down"))
        self.unet.mid_block.register_forward_hook(self._keep("middle"))
        self.unet.up_blocks[-1].attentions[-1].register_forward_hook(self._keep("up"))

    def _keep(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.features[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def loss(self, batch: "Batch", noisy: Tensor, times: Tensor, velocity: Tensor) -> Loss:
        """The denoising error, weighted to the box, and the heads' losses and figures."""
        with mixed_precision():
            encoded = self.text_encoder(batch.tokens)
            predicted = self.unet(
                torch.cat([noisy, batch.source], 1).contiguous(memory_format=torch.channels_last),
                times,
                encoder_hidden_states=encoded.last_hidden_state,
            ).sample
            edits = [head(encoded.pooler_output).float() for head in self.said_heads]
            cells = {name: head(self.features[name]) for name, head in self.cell_heads.items()}
        error = (predicted.float() - velocity).square().mean(1)
        weight = 1 + (BOX_WEIGHT - 1) * batch.meant
        total = (error * weight).sum() / weight.sum()
        figures = {"inside": ((error * batch.meant).sum() / batch.meant.sum()).item()}
        text = batch.with_text
        for logits, category in zip(edits, batch.edits.T, strict=True):
            total = total + 0.1 * F.cross_entropy(logits[text], category[text])
        for logits in cells.values():
            total = total + _cells_loss(logits.float(), batch)
        # Where the noisy latents do not tell.
        blind = batch.with_picture & text & (times > 0.9 * times.max())
        marked, meant = cells["up"][blind, -1] > 0, batch.meant[blind] > 0
        figures["meant"] = ((marked & meant).sum() / (marked | meant).sum()).item()
        return total, figures


def _cells_loss(logits: Tensor, batch: "Batch") -> Tensor:
    """Of a head BKHW: what covers each cell, and with one output more whether that is meant."""
    covered, meant = batch.covered, batch.meant
    if logits.shape[-1] < covered.shape[-1]:
        # The middle's cells are twice as wide: every second cell stands for four.
        covered, meant = covered[:, 1::2, 1::2], meant[:, 1::2, 1::2]
    picture, both = batch.with_picture, batch.with_picture & batch.with_text
    loss = 0.1 * F.cross_entropy(logits[picture, : len(NAMES) + 1], covered[picture])
    if logits.shape[1] > len(NAMES) + 1:
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(logits[both, -1], meant[both])
    return loss


def course(workdir: Path, zoo: Path) -> Course:
    """UNet, text encoder, tokenizer and scheduler, as diffusers lays them out.

    The VAE is the painter's.

    Raises:
        UserError: it is not there.
    """
    if not (zoo / "painter" / "vae").exists():
        raise UserError("mini train instructpix2pix: no painter, whose VAE is used; train it first")
    vae_class: Any = AutoencoderKL
    vae = vae_class.from_pretrained(zoo / "painter", subfolder="vae", torch_dtype=torch.float32)
    latents = kept_looks(vae, workdir / "instructpix2pix-latents")
    tokenizer, scheduler = load_tokenizer(workdir), build_scheduler()
    taught = Taught(tokenizer)

    def loss(step: int) -> Loss:
        data = batch(step, BATCH, latents, vae.config.scaling_factor, tokenizer)
        # More of the noisy end, where it is decided what is drawn where: later the noisy latents
        # themselves tell.
        return taught.loss(data, *noised(scheduler, data.target, step, 1 / 4))

    parts = {
        "unet": [taught.unet],
        "text_encoder": [taught.text_encoder],
        "tokenizer": [tokenizer],
        "scheduler": [scheduler],
    }
    return Course(taught, loss, SCHEDULE, parts)


def load_tokenizer(workdir: Path) -> CLIPTokenizer:
    """The tokenizer that belongs to the checkpoint in a folder; made when there is none yet.

    It has the words of instructions whole, reasoning ones' too: a baseline that cannot reason is
    still to read the whole sentence.
    """
    return kept_tokenizer(
        CLIPTokenizer,
        workdir / "instructpix2pix_tokenizer",
        lambda: build_tokenizer(_words(), MAX_TOKENS),
    )


def _words() -> list[str]:
    rng = random.Random(0)
    known = set(WORDS)
    for template in DIRECT_TEMPLATES:
        known.update(words(template.format(selected="", target="")))
    for _ in range(4000):
        selected, target = rng.sample(NAMES, 2)
        known.update(words(reasoning_candidate(selected, target, rng).instruction.lower()))
    return sorted(known)


@dataclass(frozen=True)
class Batch:
    """One step's samples (B, C latent channels, H x W cells, T tokens).

    Attributes:
        source: BCHW, unscaled latents, zeros where the picture is dropped.
        target: BCHW, scaled latents.
        tokens: int64 BT.
        meant: float BHW, 1 in the cells of the object that is replaced.
        covered: int64 BHW, category of the source's object that covers a cell, else len(NAMES).
        edits: int64 B2, the categories that go and come.
        with_picture, with_text: bool B, False where it is dropped.
    """

    source: Tensor
    target: Tensor
    tokens: Tensor
    meant: Tensor
    covered: Tensor
    edits: Tensor
    with_picture: Tensor
    with_text: Tensor


def batch(step: int, size: int, latents: Tensor, scale: float, tokenizer: CLIPTokenizer) -> Batch:
    """A step's edits between the looks of each scene; they follow from the step alone.

    Args:
        step: of the training.
        size: B.
        latents: of `kept_looks`.
        scale: the VAE's.
        tokenizer: of `load_tokenizer`.
    """
    rng = np.random.default_rng((step, 0x1272))
    sources, targets, texts, meant, covered, edits = [], [], [], [], [], []
    drop = rng.random(size) / DROPOUT
    for number in rng.integers(NUM_SCENES, size=size):
        scene, index, names = variants(int(number), SALT, NUM_NAMES)
        before, after = (int(v) for v in rng.choice(NUM_NAMES, size=2, replace=False))
        sources.append(latents[number, before, rng.integers(2)])
        targets.append(latents[number, after, 0])
        template = DIRECT_TEMPLATES[rng.integers(len(DIRECT_TEMPLATES))]
        target = CATEGORIES[names[after]].phrase
        texts.append(direct_sentence(template, names[before], target, capital=False))
        scene = replaced(scene, index, names[before])
        meant.append(_cells([scene.objects[index]], marks=True))
        covered.append(_cells(scene.objects, marks=False))
        edits.append([NAMES.index(names[before]), NAMES.index(names[after])])
    with_picture, with_text = torch.tensor(drop >= 2), torch.tensor((drop < 1) | (drop >= 3))
    heard = zip(texts, with_text.tolist(), strict=True)
    return Batch(
        source=torch.stack(sources).float() * with_picture[:, None, None, None],
        target=torch.stack(targets).float() * scale,
        tokens=tokens(tokenizer, [text if is_heard else "" for text, is_heard in heard]),
        meant=torch.stack(meant).float(),
        covered=torch.stack(covered),
        edits=torch.tensor(edits),
        with_picture=with_picture,
        with_text=with_text,
    )


def kept_looks(vae: Any, folder: Path) -> Tensor:
    """Unscaled latents of each category of each scene, float16 [NUM_SCENES, NUM_NAMES, 2, C, H, W].

    The second of the two looks of a category is mirrored: were the object that goes never so,
    its look would say that it is meant.
    """
    latents = kept_latents(vae, folder, NUM_SCENES, _looks)
    return latents.view(NUM_SCENES, NUM_NAMES, 2, *latents.shape[-3:])


def _looks(number: int) -> list[NDArray[np.uint8]]:
    scene, index, names = variants(number, SALT, NUM_NAMES)
    images = []
    for name in names:
        plain = replaced(scene, index, name)
        objects = list(plain.objects)
        objects[index] = replace(objects[index], mirrored=True)
        images += [render(plain), render(replace(plain, objects=tuple(objects)))]
    return images


def _cells(objects: Sequence[SceneObject], *, marks: bool) -> Tensor:
    """int64 HW: 1 in the objects' cells, or their categories there and len(NAMES) elsewhere."""
    side = IMAGE_SIZE // FACTOR
    cells = torch.full((side, side), 0 if marks else len(NAMES))
    for item in objects:
        left, top, right, bottom = (edge // FACTOR for edge in item.box)
        cells[top:bottom, left:right] = 1 if marks else NAMES.index(item.category)
    return cells


def _head(channels: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.GroupNorm(16, channels), nn.Conv2d(channels, outputs, 1))
