"""What an editor is made of and how its parts are loaded.

Shapes: B samples, C latent channels, H x W cells, T tokens, D width.
"""

import importlib.util
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.editor.connector import Connector
from reasonray.editor.unet import LORA_TARGETS, check_channels, with_image_channels
from reasonray.models import weights
from reasonray.models.weights import load_config, load_part


class Editor(nn.Module):
    """What is trained: the UNet and, with a multimodal model, the connector."""

    def __init__(self, unet: Any, connector: Connector | None) -> None:
        super().__init__()
        # Any: modules called through their attribute are untyped.
        self.unet: Any = unet
        self.connector: Any = connector

    def forward(self, method: Literal["condition", "predict"], *inputs: Tensor | None) -> Any:
        """One of the two methods below, by name.

        What averages gradients over workers (DDP) knows of what its own `forward` has computed, so
        that a loss asks for either through here.
        """
        return getattr(self, method)(*inputs)

    def condition(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the UNet attends to, BLC, and its bool mask BL.

        Args:
            states: BTD of the frozen model, which go through the connector if there is one.
            mask: bool BT; None: of CLIP's text encoding, which the UNet takes as it is.
        """
        if mask is not None and self.connector is not None:
            states, mask = self.connector(states, mask)
        return states, mask

    def predict(self, noisy: Tensor, times: Tensor, states: Tensor, mask: Tensor | None) -> Tensor:
        """The UNet's prediction, BCHW.

        Args:
            noisy: B,2C,H,W, noisy target latents and the source's.
            times: B, the scheduler's timesteps.
            states, mask: as for `condition`.
        """
        states, mask = self.condition(states, mask)
        predicted: Tensor = self.unet(
            noisy, times, encoder_hidden_states=states, encoder_attention_mask=mask
        ).sample
        return predicted


def check(config: EditorConfig) -> None:
    """Find what would stop `load_editor`, from the base's config alone.

    Raises:
        UserError: the base is not there or of another kind, the connector does not fit it, or
            adapters are asked for without peft.
    """
    from diffusers import UNet2DConditionModel

    unet = load_config(UNet2DConditionModel, config.base, "unet")
    load_scheduler(config)
    try:
        check_channels(unet["in_channels"], unet["out_channels"])
    except ValueError as error:
        raise UserError(f"editor.base {config.base.name}: {error}") from error
    if config.condition == "mllm":
        width = unet["cross_attention_dim"]
        with torch.device("meta"):
            Connector.of(config.connector, width, width)
    if config.lora_rank is not None and importlib.util.find_spec("peft") is None:
        raise UserError("editor.lora_rank: needs the package peft: pip install peft")


def sees_pictures(config: EditorConfig) -> bool:
    """Whether the base's UNet takes the source's latents, as InstructPix2Pix's does."""
    from diffusers import UNet2DConditionModel

    unet = load_config(UNet2DConditionModel, config.base, "unet")
    return bool(unet["in_channels"] != unet["out_channels"])


def load_editor(config: EditorConfig, input_dim: int, seed: int) -> tuple[Editor, Any]:
    """The editor before any training, float32, and the base's scheduler.

    Args:
        config: base, connector, adapters.
        input_dim: width of the frozen model's states.
        seed: of the connector's and the adapters' first weights.

    Raises:
        UserError: as `check`, or the base's weights cannot be read.
    """
    from diffusers import UNet2DConditionModel

    check(config)
    unet = load_part(UNet2DConditionModel, config.base, "unet", torch_dtype=torch.float32)
    sees_pictures = unet.config.in_channels != unet.config.out_channels
    with_image_channels(unet, unet.config.out_channels)
    torch.manual_seed(seed)
    connector = None
    if config.condition == "mllm":
        width = unet.config.cross_attention_dim
        connector = Connector.of(config.connector, input_dim, width)
    if config.lora_rank is not None:
        from peft import LoraConfig

        unet.add_adapter(
            LoraConfig(
                r=config.lora_rank,
                lora_alpha=config.lora_rank,
                init_lora_weights="gaussian",
                target_modules=LORA_TARGETS,
            )
        )
        # The source picture's channels, if they are new, are zero: no adapter makes up for them.
        unet.conv_in.requires_grad_(not sees_pictures)
    return Editor(unet, connector), load_scheduler(config)


def load_scheduler(config: EditorConfig) -> Any:
    """The base's noise schedule as a `DDIMScheduler`, which has all that training needs.

    Raises:
        UserError: the base has none.
    """
    from diffusers import DDIMScheduler

    settings = load_config(DDIMScheduler, config.base, "scheduler")
    # Stable Diffusion's own settings for what another kind of scheduler leaves open: DDIM's
    # defaults are for pixels, and cut latents off at 1.
    latents = {"clip_sample": False, "set_alpha_to_one": False}
    return DDIMScheduler.from_config({**latents, **settings})


def load_vae(config: EditorConfig) -> Any:
    """The VAE that encodes the pictures, frozen: the recipe's own, or its base's.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from diffusers import AutoencoderKL

    model, subfolder = (config.vae, None) if config.vae else (config.base, "vae")
    vae = load_part(AutoencoderKL, model, subfolder, torch_dtype=weights.dtype(model))
    return vae.to(weights.device(model)).eval().requires_grad_(False)


def load_text_parts(config: EditorConfig) -> tuple[Any, Any]:
    """CLIP's text encoder and tokenizer of the base, frozen."""
    from transformers import CLIPTextModel, CLIPTokenizer

    dtype = weights.dtype(config.base)
    encoder = load_part(CLIPTextModel, config.base, "text_encoder", dtype=dtype)
    encoder.to(weights.device(config.base)).eval().requires_grad_(False)
    return encoder, load_part(CLIPTokenizer, config.base, "tokenizer")
