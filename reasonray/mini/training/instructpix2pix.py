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
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from reasonray.mini.knowledge import DIRECT_TEMPLATES, indirect
from reasonray.mini.training.loop import Schedule, fit, mixed_precision
from reasonray.mini.training.stable_diffusion import (
    FACTOR,
    WIDTH,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    kept_latents,
    kept_tokenizer,
    tokens,
)
from reasonray.mini.training.vocabulary import WORDS
from reasonray.prompts.direct import direct_sentence
from reasonray.prompts.words import words
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    IMAGE_SIZE,
    Scene,
    SceneObject,
    render,
    replaced,
    sample_scene,
)

BATCH = 32
SCHEDULE = Schedule(num_steps=5600, learning_rate=1e-3, cooldown=0.4)
BOX_WEIGHT = 3.0
"""Of the loss in the cells of the object that is replaced."""

DROPOUT = 0.05
"""Parts of the samples without the picture, without the text, and without either."""

NUM_SCENES, NUM_NAMES = 8000, 4
CHANNELS = (64, 112)
MAX_TOKENS = 40
NAMES = sorted(CATEGORIES)


class Taught(nn.Module):
    """The UNet and the text encoder, with the heads that teach them."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        # Any: diffusers' classes are untyped where it matters.
        unet_class: Any = UNet2DConditionModel
        self.unet = unet_class(
            sample_size=IMAGE_SIZE // FACTOR,
            in_channels=16,
            out_channels=8,
            block_out_channels=CHANNELS,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=16,
        )
        # The fused attention's backward pass takes half a step's time on a CPU.
        self.unet.set_attn_processor(AttnProcessor())
        self.unet.to(memory_format=torch.channels_last)
        self.text_encoder = build_text_encoder(tokenizer)
        self.said_heads = nn.ModuleList(nn.Linear(WIDTH, len(NAMES)) for _ in range(2))
        self.cell_heads = nn.ModuleDict(
            {
                "down": _head(CHANNELS[0], len(NAMES) + 1),
                "middle": _head(CHANNELS[1], len(NAMES) + 2),
                "up": _head(CHANNELS[0], len(NAMES) + 2),
            }
        )
        self.seen: dict[str, Tensor] = {}
        self.unet.down_blocks[0].resnets[-1].register_forward_hook(self._keep("down"))
        self.unet.mid_block.register_forward_hook(self._keep("middle"))
        self.unet.up_blocks[-1].attentions[-1].register_forward_hook(self._keep("up"))

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self.seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def loss(
        self, batch: "Batch", noisy: Tensor, times: Tensor, wanted: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The denoising error, weighted to the box, and the heads' losses and figures."""
        with mixed_precision():
            encoded = self.text_encoder(batch.tokens)
            predicted = self.unet(
                torch.cat([noisy, batch.source], 1).contiguous(memory_format=torch.channels_last),
                times,
                encoder_hidden_states=encoded.last_hidden_state,
            ).sample
            said = [head(encoded.pooler_output).float() for head in self.said_heads]
            cells = {name: head(self.seen[name]) for name, head in self.cell_heads.items()}
        error = (predicted.float() - wanted).square().mean(1)
        weight = 1 + (BOX_WEIGHT - 1) * batch.meant
        total = (error * weight).sum() / weight.sum()
        figures = {"inside": ((error * batch.meant).sum() / batch.meant.sum()).item()}
        for logits, category in zip(said, batch.said.T, strict=True):
            total = total + 0.1 * F.cross_entropy(logits[batch.told], category[batch.told])
        for logits in cells.values():
            total = total + _cells_loss(logits.float(), batch)
        # Where the noisy latents do not tell.
        blind = batch.shown & batch.told & (times > 0.9 * times.max())
        marked, meant = cells["up"][blind, -1] > 0, batch.meant[blind] > 0
        figures["meant"] = ((marked & meant).sum() / (marked | meant).sum()).item()
        return total, figures


def _cells_loss(logits: Tensor, batch: "Batch") -> Tensor:
    """Of a head BKHW: what covers each cell, and with one output more whether that is meant."""
    covered, meant = batch.covered, batch.meant
    if logits.shape[-1] < covered.shape[-1]:
        # The middle's cells are twice as wide: every second cell stands for four.
        covered, meant = covered[:, 1::2, 1::2], meant[:, 1::2, 1::2]
    shown, known = batch.shown, batch.shown & batch.told
    loss = 0.1 * F.cross_entropy(logits[shown, : len(NAMES) + 1], covered[shown])
    if logits.shape[1] > len(NAMES) + 1:
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(logits[known, -1], meant[known])
    return loss


def train(workdir: Path, folder: Path, schedule: Schedule = SCHEDULE) -> Path:
    """Train (or continue) and save to `folder`, which is returned; the VAE is the painter's."""
    torch.manual_seed(0)
    vae_class: Any = AutoencoderKL
    vae = vae_class.from_pretrained(
        folder.parent / "painter", subfolder="vae", torch_dtype=torch.float32
    )
    data = Data(latents(vae, workdir / "instructpix2pix-latents"), vae.config.scaling_factor)
    tokenizer, scheduler = load_tokenizer(workdir), build_scheduler()
    taught = Taught(tokenizer)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = data.batch(step, BATCH, tokenizer)
        generator = torch.Generator().manual_seed(step)
        noise = torch.randn(batch.target.shape, generator=generator)
        # More of the noisy end, where it is decided what is drawn where: later the noisy latents
        # themselves tell.
        drawn = torch.rand(BATCH, generator=generator).pow(1 / 4)
        last = scheduler.config.num_train_timesteps - 1
        times = (drawn * (last + 1)).long().clamp(max=last)
        noisy = scheduler.add_noise(batch.target, noise, times)
        wanted = scheduler.get_velocity(batch.target, noise, times)
        return taught.loss(batch, noisy, times, wanted)

    fit("instructpix2pix", taught, loss, schedule, workdir)
    save(taught, tokenizer, folder)
    return folder


def save(taught: Taught, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write UNet, text encoder, tokenizer and scheduler as diffusers lays them out, float16."""
    taught.unet.half().save_pretrained(folder / "unet")
    taught.text_encoder.half().save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    build_scheduler().save_pretrained(folder / "scheduler")


def load_tokenizer(workdir: Path) -> CLIPTokenizer:
    """The tokenizer that belongs to the checkpoint in a folder; made when there is none yet.

    It has the words of instructions whole, indirect ones' too: a baseline that cannot reason is
    still to read the whole sentence.
    """
    return kept_tokenizer(
        workdir / "instructpix2pix_tokenizer", lambda: build_tokenizer(_words(), MAX_TOKENS)
    )


def _words() -> list[str]:
    rng = random.Random(0)
    said = set(WORDS)
    for template in DIRECT_TEMPLATES:
        said.update(words(template.format(selected="", target="")))
    for _ in range(4000):
        selected, target = rng.sample(NAMES, 2)
        said.update(words(indirect(selected, target, rng).instruction.lower()))
    return sorted(said)


@dataclass(frozen=True)
class Batch:
    """One step's samples (B, C latent channels, H x W cells, T tokens).

    Attributes:
        source: BCHW, unscaled latents, zeros where the picture is dropped.
        target: BCHW, scaled latents.
        tokens: int64 BT.
        meant: float BHW, 1 in the cells of the object that is replaced.
        covered: int64 BHW, category of the source's object that covers a cell, else len(NAMES).
        said: int64 B2, the categories that go and come.
        shown, told: bool B, False where the picture or the text is dropped.
    """

    source: Tensor
    target: Tensor
    tokens: Tensor
    meant: Tensor
    covered: Tensor
    said: Tensor
    shown: Tensor
    told: Tensor


class Data:
    """Edits between the looks of each scene.

    Args:
        latents: unscaled, [NUM_SCENES, NUM_NAMES, 2, C, H, W].
        scale: the VAE's.
    """

    def __init__(self, latents: Tensor, scale: float) -> None:
        self.latents, self.scale = latents, scale

    def batch(self, step: int, size: int, tokenizer: CLIPTokenizer) -> Batch:
        """The samples of a step, which follow from it alone."""
        rng = np.random.default_rng((step, 0x1272))
        sources, targets, texts, meant, covered, said = [], [], [], [], [], []
        drop = rng.random(size) / DROPOUT
        for number in rng.integers(NUM_SCENES, size=size):
            scene, index, names = looks(int(number))
            before, after = (int(v) for v in rng.choice(NUM_NAMES, size=2, replace=False))
            sources.append(self.latents[number, before, rng.integers(2)])
            targets.append(self.latents[number, after, 0])
            template = DIRECT_TEMPLATES[rng.integers(len(DIRECT_TEMPLATES))]
            target = CATEGORIES[names[after]].phrase
            texts.append(direct_sentence(template, names[before], target, capital=False))
            scene = replaced(scene, index, names[before])
            meant.append(_cells([scene.objects[index]], marks=True))
            covered.append(_cells(scene.objects, marks=False))
            said.append([NAMES.index(names[before]), NAMES.index(names[after])])
        shown, told = torch.tensor(drop >= 2), torch.tensor((drop < 1) | (drop >= 3))
        texts = [text if heard else "" for text, heard in zip(texts, told.tolist(), strict=True)]
        return Batch(
            source=torch.stack(sources).float() * shown[:, None, None, None],
            target=torch.stack(targets).float() * self.scale,
            tokens=tokens(tokenizer, texts),
            meant=torch.stack(meant).float(),
            covered=torch.stack(covered),
            said=torch.tensor(said),
            shown=shown,
            told=told,
        )


def looks(number: int) -> tuple[Scene, int, list[str]]:
    """A training scene, the index of one object, and the categories that object is drawn in."""
    rng = np.random.default_rng((number, 0xBA5E))
    scene = sample_scene(int(rng.integers(HELD_OUT_SEED)))
    index = int(rng.integers(len(scene.objects)))
    others = [name for name in CATEGORIES if name not in scene.categories]
    drawn = rng.choice(others, size=NUM_NAMES - 1, replace=False)
    return scene, index, [scene.categories[index], *(str(name) for name in drawn)]


def latents(vae: Any, folder: Path) -> Tensor:
    """Unscaled latents of all looks, float16.

    The second of the two looks of a category is mirrored: were the object that goes never so,
    its look would say that it is meant.
    """
    return kept_latents(folder, NUM_SCENES, lambda number: _encode(vae, number))


@torch.inference_mode()
def _encode(vae: Any, number: int) -> Tensor:
    scene, index, names = looks(number)
    images = []
    for name in names:
        plain = replaced(scene, index, name)
        objects = list(plain.objects)
        objects[index] = replace(objects[index], mirrored=True)
        images += [render(plain), render(replace(plain, objects=tuple(objects)))]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with mixed_precision():
        encoded: Tensor = vae.encode(pixels).latent_dist.mode()
    return encoded.half().view(len(names), 2, *encoded.shape[1:])


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
