"""A text-to-image UNet as an image editor's: more input channels, which start silent."""

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def with_image_channels(unet: Any, latent_channels: int) -> Any:
    """The UNet itself, its input widened for the source picture's latents (InstructPix2Pix, §3.2).

    Args:
        unet: `UNet2DConditionModel` that takes noisy latents; one that takes both is left alone.
        latent_channels: of the VAE.

    Raises:
        ValueError: it takes something else.
    """
    have = unet.config.in_channels
    if have == 2 * latent_channels:
        return unet
    if have != latent_channels:
        raise ValueError(
            f"the UNet takes {have} channels; {latent_channels} (text to image) or "
            f"{2 * latent_channels} (InstructPix2Pix) are expected"
        )
    old: Any = unet.conv_in
    new: Any = nn.Conv2d(
        2 * latent_channels, old.out_channels, old.kernel_size, old.stride, old.padding
    ).to(old.weight)
    new.weight.zero_()
    new.weight[:, :latent_channels] = old.weight
    new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=2 * latent_channels)
    return unet
