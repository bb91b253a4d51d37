"""Training of `reasonray.mini.classifier`: what stands in a box, or that nothing does.

It never sees a painted picture: only boxes of true scenes, plain and real ones in equal parts,
moved and resized a little, half of them softened, and boxes of background, of parts of objects, and
of objects blurred beyond recognition, for which the right answer is "none".
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetForImageClassification

from reasonray.core.boxes import Box
from reasonray.mini.classifier import NONE, crop
from reasonray.mini.training.loop import Course, Loss, Schedule
from reasonray.mini.training.scenes import real_scene, soften, training_scenes
from reasonray.models.pixels import to_tensor
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import IMAGE_SIZE, SIDES, Scene, render

SCENES = 28
"""A step's; each gives all its objects and one box without a whole object."""

REAL_PIXELS = 2 * IMAGE_SIZE**2
"""Of a real scene's picture."""

SCHEDULE = Schedule(num_steps=800, learning_rate=2e-3, num_warmup_steps=100)
LABELS = (*sorted(CATEGORIES), NONE)


def build() -> ResNetForImageClassification:
    """The untrained classifier: crops -1..1 BCHW to a logit for each of `LABELS`."""
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[48, 96, 128],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
    )
    return ResNetForImageClassification(config)


def course(_workdir: Path, _zoo: Path) -> Course:
    """The classifier alone: its crops are made by `reasonray.mini.classifier`."""
    model = build()

    def loss(step: int) -> Loss:
        crops, labels = batch(step, SCENES)
        logits = model(crops).logits
        right = (logits.argmax(-1) == labels).float().mean()
        return F.cross_entropy(logits, labels, label_smoothing=0.05), {"right": right.item()}

    return Course(model, loss, SCHEDULE, {"": [model]})


def batch(step: int, num_scenes: int) -> tuple[Tensor, Tensor]:
    """Crops -1..1 BCHW and labels of a step."""
    rng = np.random.default_rng((step, 0xC1A55))
    crops, labels = [], []
    scenes = training_scenes(rng, num_scenes // 2)
    scenes += [real_scene(rng, REAL_PIXELS) for _ in range(num_scenes - len(scenes))]
    for scene in scenes:
        image = soften(render(scene), scene, rng)
        for item in scene.objects:
            if item.category not in CATEGORIES:
                continue
            view = crop(image, _jittered(scene.visible(item), rng))
            lost = rng.random() < 0.03
            crops.append(_blurred(view, rng) if lost else view)
            labels.append(LABELS.index(NONE if lost else item.category))
        crops.append(crop(image, _empty_box(scene, rng)))
        labels.append(LABELS.index(NONE))
    return to_tensor(crops), torch.tensor(labels)


def _jittered(box: tuple[int, int, int, int], rng: np.random.Generator) -> Box:
    """The box moved by up to a tenth of its sides and up to a tenth smaller or larger."""
    left, top, right, bottom = box
    sides = np.array([right - left, bottom - top])
    across, down = (sides / 2 * rng.uniform(0.9, 1.12)).tolist()
    x, y = (np.array([left + right, top + bottom]) / 2 + sides * rng.uniform(-0.1, 0.1, 2)).tolist()
    return x - across, y - down, x + across, y + down


def _empty_box(scene: Scene, rng: np.random.Generator) -> Box:
    """A box that holds less than a third of every object."""
    largest = max(SIDES) / IMAGE_SIZE * min(scene.width, scene.height)
    while True:
        side = largest * float(rng.uniform(min(SIDES) / max(SIDES), 1))
        left, top = rng.uniform(0, (scene.width - side, scene.height - side)).tolist()
        shares = [
            max(0.0, min(left + side, item.box[2]) - max(left, item.box[0]))
            * max(0.0, min(top + side, item.box[3]) - max(top, item.box[1]))
            / item.side**2
            for item in scene.objects
        ]
        if max(shares) < 1 / 3:
            return left, top, left + side, top + side


def _blurred(view: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    blur = ImageFilter.GaussianBlur(rng.uniform(5, 9))
    return np.asarray(Image.fromarray(view).filter(blur))
