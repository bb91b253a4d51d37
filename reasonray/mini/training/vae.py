"""The zoo's VAE: scenes to 12 x 12 x 8 latents and back.

Trained on crops (a background has little to teach), then on whole scenes, because group norms
see the whole picture. Loss: L1 + L2 + gradients (edges decide what is recognised) + a small KL.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from reasonray.mini.training.loop import Schedule, fit, mixed_precision
from reasonray.mini.world import HELD_OUT_SEED, IMAGE_SIZE, render, sample_scene

CROP = 64
BATCH = 24
SCHEDULE = Schedule(num_steps=4000, learning_rate=2e-3)
WHOLE_FROM = 0.8


def build() -> AutoencoderKL:
    """The untrained VAE: images -1..1 BCHW, factor 8, 8 latent channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
        mid_block_add_attention=False,
    )


def train(workdir: Path, schedule: Schedule = SCHEDULE) -> AutoencoderKL:
    """Train (or continue), then set `scaling_factor` so that latents have unit variance."""
    vae = build().to(memory_format=torch.channels_last)

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        whole = step >= schedule.num_steps * WHOLE_FROM
        images = batch(step, BATCH, crop=None if whole else CROP)
        with mixed_precision():
            posterior = vae.encode(images).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        decoded = decoded.float()
        difference = decoded - images
        l1 = difference.abs().mean()
        edges = sum(difference.diff(dim=axis).abs().mean() for axis in (2, 3))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        total = l1 + 2 * difference.square().mean() + 0.5 * edges + 1e-4 * kl
        return total, {"l1": l1.item() / 2, "kl": kl.item()}

    fit("vae", vae, loss, schedule, workdir)
    with torch.no_grad():
        latents = vae.encode(batch(schedule.num_steps, 64, crop=None)).latent_dist.mode()
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return vae


def batch(step: int, size: int, *, crop: int | None) -> torch.Tensor:
    """Training images of a step, float32 BCHW -1..1; a crop is centred near an object."""
    rng = np.random.default_rng((step, 0x7AE))
    images = []
    for seed in rng.integers(HELD_OUT_SEED, size=size):
        scene = sample_scene(int(seed))
        image = render(scene)
        if crop is not None:
            item = scene.objects[rng.integers(len(scene.objects))]
            centre = np.array([item.top, item.left]) + item.side // 2 + rng.integers(-12, 13, 2)
            top, left = np.clip(centre - crop // 2, 0, IMAGE_SIZE - crop)
            image = image[top : top + crop, left : left + crop]
        images.append(image)
    pixels_BHWC = torch.from_numpy(np.stack(images))
    return (pixels_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(
        memory_format=torch.channels_last
    )
