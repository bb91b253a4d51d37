"""The zoo's CLIP: a tiny two-tower model that tells whether a caption fits a scene.

Contrastive, as CLIP is, with a hard negative for every pair: each batch holds scenes and the same
scenes with one object replaced. Captions alone teach a vision tower slowly, so it first learns to
name the object that covers each patch; the heads for that are thrown away.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer

from reasonray.mini.training import painter
from reasonray.mini.training.loop import Course, Loss, Schedule, mixed_precision
from reasonray.mini.training.scenes import soften, training_scenes
from reasonray.mini.training.vision import NAMES, PatchHead, image_processor, patch_labels
from reasonray.models.pixels import to_tensor
from reasonray.sources.mini.world import IMAGE_SIZE, Scene, caption, render, replaced

PAIRS = 24
"""Scenes of a step, each also with one object replaced."""

SCHEDULE = Schedule(num_steps=800, learning_rate=1.5e-3, num_warmup_steps=100, cooldown=0.4)
PATCHES_STEPS = int(0.6 * SCHEDULE.num_steps)
"""The first steps train the vision tower only."""

PATCH = 8
WIDTH = 72
MAX_LOGIT_SCALE = float(np.log(100))
"""The largest factor that CLIP lets its logits grow by."""


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """The untrained CLIP: pictures -1..1 BCHW and token ids to vectors of one space."""
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": painter.MAX_TOKENS,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
        },
        projection_dim=64,
    )
    return CLIPModel(config)


def course(workdir: Path, _zoo: Path) -> Course:
    """The model and its processor."""
    tokenizer = painter.load_tokenizer(workdir)
    taught = Taught(tokenizer)

    def loss(step: int) -> Loss:
        data = batch(step, PAIRS, tokenizer)
        return taught.loss(data, patches_only=step < PATCHES_STEPS)

    processor = CLIPProcessor(image_processor(), tokenizer)
    return Course(taught, loss, SCHEDULE, {"": [taught.clip, processor]})


@dataclass(frozen=True)
class Batch:
    """Training pictures and their captions (B pictures, P patches, C categories).

    Attributes:
        pixels: float BCHW -1..1.
        patches: int64 [B, P], category of the object covering the patch.
        present: float [B, C], 1 for the categories in the picture.
        tokens, mask: int64 [B, T], the captions.
    """

    pixels: Tensor
    patches: Tensor
    present: Tensor
    tokens: Tensor
    mask: Tensor


class Taught(nn.Module):
    """The model with the heads that teach its vision tower."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.clip = build(tokenizer)
        self.patch_head = PatchHead(WIDTH)
        self.shown_head = nn.Linear(WIDTH, len(NAMES))

    def loss(self, data: Batch, *, patches_only: bool) -> Loss:
        """The loss of a batch and its figures."""
        with mixed_precision():
            vision = self.clip.vision_model(data.pixels)
            dense, figures = self.patch_head.loss(vision.last_hidden_state[:, 1:], data.patches)
            logits = self.shown_head(vision.pooler_output)
        dense = dense + 4 * F.binary_cross_entropy_with_logits(logits.float(), data.present)
        if patches_only:
            return dense, figures
        with mixed_precision():
            text = self.clip.text_model(input_ids=data.tokens, attention_mask=data.mask)
            images = self.clip.visual_projection(vision.pooler_output)
            texts = self.clip.text_projection(text.pooler_output)
        images, texts = (F.normalize(states.float(), dim=-1) for states in (images, texts))
        logits = images @ texts.T * self.clip.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        pairs = torch.arange(len(logits))
        contrast = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
        figures["said"] = contrast.item()
        figures["matched"] = (logits.argmax(1) == pairs).float().mean().item()
        return contrast + 0.5 * dense, figures


def batch(step: int, size: int, tokenizer: CLIPTokenizer) -> Batch:
    """The batch of a step: `size` scenes, then the same ones with an object replaced."""
    rng = np.random.default_rng((step, 0xC11B))
    scenes = training_scenes(rng, size)
    scenes += [edited(scene, rng) for scene in scenes]
    texts = tokenizer([caption(scene) for scene in scenes], padding=True, return_tensors="pt")
    return Batch(
        to_tensor(soften(render(scene), scene, rng) for scene in scenes),
        torch.stack([patch_labels(scene, PATCH)[0] for scene in scenes]),
        torch.tensor([[float(name in scene.categories) for name in NAMES] for scene in scenes]),
        texts["input_ids"],
        texts["attention_mask"],
    )


def edited(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one of its objects replaced by a category that it does not show."""
    target = rng.choice([name for name in NAMES if name not in scene.categories])
    return replaced(scene, int(rng.integers(len(scene.objects))), str(target))
