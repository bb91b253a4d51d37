"""The editor's parts from where the recipe says; a text-to-image UNet as an image editor's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError
from torch import nn
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig
from reasonray.models import weights


def load_part(kind: Any, model: ModelConfig, subfolder: str | None = None, **options: Any) -> Any:
    """A model, scheduler, tokenizer or processor by its class's `from_pretrained`.

    Args:
        kind: the class.
        model: where it is, and which revision.
        subfolder: of a diffusers folder.
        options: further ones of `from_pretrained`.

    Raises:
        UserError: it is not there, cannot be read, or is of another class.
    """
    with _loading(kind, model, subfolder) as (source, where):
        _check_class(kind, source, where)
        part = kind.from_pretrained(source, **where, **options)
        _check_vocabulary(part)
    return part


def load_config(kind: Any, model: ModelConfig, subfolder: str) -> dict[str, Any]:
    """What a part's config says, without its weights.

    Args:
        kind: diffusers' class, or one that has its config's interface.
        model: where it is, and which revision.
        subfolder: of a diffusers folder.

    Raises:
        UserError: it is not there, cannot be read, or is of another class of model.
    """
    with _loading(kind, model, subfolder) as (source, where):
        _check_class(kind, source, where)
        said: dict[str, Any] = kind.load_config(source, **where)
    return said


@contextmanager
def _loading(
    kind: Any, model: ModelConfig, subfolder: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Source and place for the libraries, whose complaints become one message."""
    where = {"revision": model.revision, **({"subfolder": subfolder} if subfolder else {})}
    try:
        yield weights.resolve(model), where
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        what = f"{model.name}/{subfolder}" if subfolder else model.name
        reason = " ".join(str(error).split())
        raise UserError(f"model {what}: no {kind.__name__} can be loaded: {reason}") from error


def _check_class(kind: Any, source: str, where: dict[str, Any]) -> None:
    # The libraries load another class's folder with a warning: weights that fit no name are drawn
    # at random, and what the config leaves open is that of a model of full size.
    if issubclass(kind, ModelMixin):
        said, expected = kind.load_config(source, **where).get("_class_name"), kind.__name__
    elif issubclass(kind, PreTrainedModel):
        said = PreTrainedConfig.get_config_dict(source, **where)[0].get("model_type")
        expected = kind.config_class.model_type
        if said is None:
            raise ValueError("there is no config.json that says what model it is")
    else:
        return
    if said != expected:
        raise ValueError(f"its config.json is of {said}, not of {expected}")


def _check_vocabulary(part: Any) -> None:
    # transformers makes a tokenizer without its files, too.
    tokenizer = part.tokenizer if isinstance(part, ProcessorMixin) else part
    if isinstance(tokenizer, PreTrainedTokenizerBase) and len(tokenizer) <= len(
        tokenizer.all_special_ids
    ):
        raise ValueError("there is no vocabulary")


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
