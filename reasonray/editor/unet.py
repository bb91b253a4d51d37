"""The editor's UNet: a text-to-image one with the source picture's channels; its adapters."""

from typing import Any

import torch
from torch import nn

LORA_TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
"""The UNet's layers that adapters sit on, as diffusers' training examples have them."""


def check_channels(in_channels: int, latent_channels: int) -> None:
    """Whether a UNet can be an image editor's.

    Raises:
        ValueError: it takes neither noisy latents nor those and the source picture's.
    """
    if in_channels not in (latent_channels, 2 * latent_channels):
        raise ValueError(
            f"the UNet takes {in_channels} channels; {latent_channels} (text to image) or "
            f"{2 * latent_channels} (InstructPix2Pix) are expected"
        )


@torch.no_grad()
def with_image_channels(unet: Any, latent_channels: int) -> Any:
    """The UNet itself, its input widened for the source picture's latents (InstructPix2Pix, §3.2).

    Args:
        unet: `UNet2DConditionModel` that takes noisy latents; one that takes both is left alone.
        latent_channels: of the VAE.

    Raises:
        ValueError: it takes something else.
    """
    check_channels(unet.config.in_channels, latent_channels)
    if unet.config.in_channels == 2 * latent_channels:
        return unet
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
