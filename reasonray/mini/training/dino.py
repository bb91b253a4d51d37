"""The zoo's DINO: a tiny ViT whose class token tells how alike two scenes are.

Not self-distilled as DINO is: in the mini world it is known how alike two scenes are, so that the
cosine of their class tokens is taught to be that of their contents, soft pictures counting as sharp
ones. Before that the tower learns to name the object that covers each patch; the head for it is
thrown away.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel

from reasonray.mini.training.clip import edited
from reasonray.mini.training.loop import Course, Loss, Schedule, mixed_precision
from reasonray.mini.training.scenes import soften, training_scenes
from reasonray.mini.training.vision import NAMES, PatchHead, image_processor, patch_labels
from reasonray.models.pixels import to_tensor
from reasonray.sources.mini.world import COLOURS, IMAGE_SIZE, Scene, render

QUARTETS = 12
"""Of a step: a scene, two edits of it, and one of the edits softened."""

SCHEDULE = Schedule(num_steps=800, learning_rate=1.5e-3, num_warmup_steps=100, cooldown=0.4)
PATCHES_STEPS = int(0.4 * SCHEDULE.num_steps)
"""The first steps teach the patches only."""

PATCH = 8
WIDTH = 72
COLOUR_NAMES = sorted(COLOURS)
CELLS = 3
"""Where an object stands is compared on a grid of so many cells a side."""

COLOUR_WEIGHT = 0.5
"""Of the background beside one object."""


def build() -> ViTModel:
    """The untrained ViT: pictures -1..1 BCHW to a class token and one state a patch."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return ViTModel(config, add_pooling_layer=False)


def course(_workdir: Path, _zoo: Path) -> Course:
    """The model and its image processor."""
    taught = Taught()

    def loss(step: int) -> Loss:
        return taught.loss(batch(step, QUARTETS), patches_only=step < PATCHES_STEPS)

    return Course(taught, loss, SCHEDULE, {"": [taught.dino, image_processor()]})


@dataclass(frozen=True)
class Batch:
    """Training pictures (B) and what is in them.

    Attributes:
        pixels: float BCHW -1..1.
        patches: int64 [B, P], category of the object covering the patch.
        alike: float [B, B], the cosine of the scenes' contents.
    """

    pixels: Tensor
    patches: Tensor
    alike: Tensor


class Taught(nn.Module):
    """The model with the head that teaches its patches."""

    def __init__(self) -> None:
        super().__init__()
        self.dino = build()
        self.patch_head = PatchHead(WIDTH)

    def loss(self, data: Batch, *, patches_only: bool) -> Loss:
        """The loss of a batch and its figures."""
        with mixed_precision():
            states = self.dino(data.pixels).last_hidden_state
            dense, figures = self.patch_head.loss(states[:, 1:], data.patches)
        if patches_only:
            return dense, figures
        tokens = F.normalize(states[:, 0].float(), dim=-1)
        error = (tokens @ tokens.T - data.alike).square().mean()
        figures["error"] = error.sqrt().item()
        return 20 * error + 0.5 * dense, figures


def batch(step: int, size: int) -> Batch:
    """The batch of a step: `size` scenes, two edits of each, and the second ones softened."""
    rng = np.random.default_rng((step, 0xD1A0))
    first = training_scenes(rng, size)
    edits = [[edited(scene, rng) for scene in first] for _ in range(2)]
    scenes = [*first, *edits[0], *edits[1]]
    images = [soften(render(scene), scene, rng, chance=0.3) for scene in scenes]
    images += [soften(render(scene), scene, rng, chance=1) for scene in edits[1]]
    scenes += edits[1]
    described = F.normalize(torch.stack([contents(scene) for scene in scenes]), dim=-1)
    return Batch(
        to_tensor(images),
        torch.stack([patch_labels(scene, PATCH)[0] for scene in scenes]),
        described @ described.T,
    )


def contents(scene: Scene) -> Tensor:
    """What is in a scene, as a vector: half of each object's length is what it is, half where.

    Returns:
        float32 [N]: the background's colour, then for each category whether it is there, and how
        near it is to each cell of a coarse grid.
    """
    colour = torch.zeros(len(COLOUR_NAMES))
    colour[COLOUR_NAMES.index(scene.colour)] = COLOUR_WEIGHT
    what = torch.zeros(len(NAMES))
    where = torch.zeros(len(NAMES), CELLS, CELLS)
    centres = (torch.arange(CELLS) + 0.5) * IMAGE_SIZE / CELLS
    for item in scene.objects:
        x, y = item.left + item.side / 2, item.top + item.side / 2
        near_x, near_y = (
            (-((centres - at) / (IMAGE_SIZE / CELLS)).square()).exp() for at in (x, y)
        )
        number = NAMES.index(item.category)
        what[number] = 0.5**0.5
        where[number] = (
            F.normalize(torch.outer(near_y, near_x).flatten(), dim=0).view(CELLS, CELLS) * 0.5**0.5
        )
    return torch.cat([colour, what, where.flatten()])
