"""The zoo's VAE: scenes to 12 x 12 x 8 latents and back.

Trained on crops (a background has little to teach), then its decoder on whole scenes, because
group norms see the whole picture. Loss: L1 + L2 + gradients (edges decide what is recognised) +
colours of flat areas + a small KL.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from reasonray.mini.training.loop import Course, Loss, Schedule, fit, mixed_precision
from reasonray.mini.training.scenes import training_scenes
from reasonray.models.pixels import to_tensor
from reasonray.sources.mini.world import IMAGE_SIZE, render

CROP = 64
BATCH = 24
SCHEDULE = Schedule(num_steps=3000, learning_rate=1e-3, cooldown=0.45)
DECODER_SCHEDULE = Schedule(num_steps=700, learning_rate=5e-4, cooldown=0.7)
DECODER_NOISE = 0.4
"""Most noise on the latents, in their standard deviations, that the decoder learns to bear."""


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


def train(workdir: Path) -> Any:
    """Train (or continue) the whole VAE on crops, then its decoder alone on whole scenes.

    The encoder is final after the first phase (`scaling_factor` gives its latents unit variance),
    so that a painter can already learn its latents while the decoder is refined.
    """
    # Any: diffusers leaves the models untyped where it matters.
    vae: Any = build()
    vae.to(memory_format=torch.channels_last)

    def loss(step: int, crop: int | None, noise: float) -> Loss:
        images = batch(step, BATCH, crop=crop)
        with mixed_precision():
            posterior = vae.encode(images).latent_dist
            latents = posterior.sample()
            # A painter's latents are never quite right; most are nearly so.
            levels = noise * torch.rand(len(latents), 1, 1, 1).square() * latents.detach().std()
            decoded = vae.decode(latents + levels * torch.randn_like(latents)).sample
        difference = decoded.float() - images
        l1 = difference.abs().mean()
        edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        # Edges alone leave the colours behind: flat areas are judged at an eighth of the size.
        colours = torch.nn.functional.avg_pool2d(difference, 8).abs().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        total = l1 + 2 * difference.square().mean() + 0.5 * edges + 2 * colours + 1e-4 * kl
        return total, {"l1": l1.item() / 2, "kl": kl.item()}

    fit("vae", Course(vae, lambda step: loss(step, CROP, 0.0), SCHEDULE), workdir)
    with torch.no_grad():
        latents = vae.encode(batch(SCHEDULE.num_steps, 64, crop=None)).latent_dist.mode()
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(workdir / "vae")
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    refined = Course(vae, lambda step: loss(step, None, DECODER_NOISE), DECODER_SCHEDULE)
    fit("vae-decoder", refined, workdir)
    vae.save_pretrained(workdir / "vae")
    return vae


def batch(step: int, size: int, *, crop: int | None) -> torch.Tensor:
    """Training images of a step, float32 BCHW -1..1; a crop is centred near an object."""
    rng = np.random.default_rng((step, 0x7AE))
    images = []
    for scene in training_scenes(rng, size):
        image = render(scene)
        if crop is not None:
            item = scene.objects[rng.integers(len(scene.objects))]
            centre = np.array([item.top, item.left]) + item.side // 2 + rng.integers(-12, 13, 2)
            top, left = np.clip(centre - crop // 2, 0, IMAGE_SIZE - crop)
            image = image[top : top + crop, left : left + crop]
        images.append(image)
    return to_tensor(images).contiguous(memory_format=torch.channels_last)
