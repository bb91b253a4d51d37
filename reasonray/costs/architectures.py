"""The recipes' models without weights: built on the meta device from their configurations.

A configuration comes from a folder, the hub's cache, the constants below for the models that the
recipes name, or the hub, in this order: a plan of a shipped recipe needs no network.
"""

import functools
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig
from reasonray.editor.unet import with_image_channels
from reasonray.models import weights

_VAE = {
    "_class_name": "AutoencoderKL",
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
_CLIP_L = {
    "model_type": "clip_text_model",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
_UNET = {"_class_name": "UNet2DConditionModel", "sample_size": 64, "cross_attention_dim": 768}


def _stable_diffusion(**unet: Any) -> dict[str, dict[str, Any]]:
    return {"unet": {**_UNET, **unet}, "vae": _VAE, "text_encoder": _CLIP_L}


def _swin(embed_dim: int, num_heads: list[int], out_indices: list[int]) -> dict[str, Any]:
    return {"model_type": "swin", "embed_dim": embed_dim, "depths": [2, 2, 18, 2],
            "num_heads": num_heads, "window_size": 12, "image_size": 384,
            "out_indices": out_indices}  # fmt: skip


def _blip2(width: int, inner: int, image_size: int) -> dict[str, Any]:
    text = {"model_type": "opt", "hidden_size": width, "word_embed_proj_dim": width,
            "ffn_dim": inner, "num_hidden_layers": 32, "num_attention_heads": 32,
            "vocab_size": 50304}  # fmt: skip
    return {
        "model_type": "blip-2",
        "text_config": text,
        "vision_config": {"image_size": image_size},
    }


KNOWN: dict[str, dict[str, dict[str, Any]]] = {
    "timbrooks/instruct-pix2pix": _stable_diffusion(in_channels=8),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _stable_diffusion(),
    "CompVis/stable-diffusion-v1-4": _stable_diffusion(),
    "masterful/gligen-1-4-inpainting-text-box": _stable_diffusion(
        in_channels=9, attention_type="gated"
    ),
    "llava-hf/llava-1.5-7b-hf": {
        "": {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
    },
    "Salesforce/blip2-opt-2.7b": {"": _blip2(2560, 10240, 224)},
    "Salesforce/blip2-opt-6.7b-coco": {"": _blip2(4096, 16384, 364)},
    "IDEA-Research/grounding-dino-tiny": {"": {"model_type": "grounding-dino"}},
    "IDEA-Research/grounding-dino-base": {
        "": {
            "model_type": "grounding-dino",
            "backbone_config": _swin(128, [4, 8, 16, 32], [2, 3, 4]),
        }
    },
    "iSEE-Laboratory/llmdet_large": {
        "": {
            "model_type": "mm-grounding-dino",
            "num_feature_levels": 5,
            "backbone_config": _swin(192, [6, 12, 24, 48], [1, 2, 3, 4]),
        }
    },
    "Qwen/Qwen3-30B-A3B-Instruct-2507": {
        "": {
            "model_type": "qwen3_moe",
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "vocab_size": 151936,
        }
    },
}
"""Hub id -> subfolder ("": none) -> its config.json, where it is not the class's default."""

_DETECTOR_SIZE = {"shortest_edge": 800, "longest_edge": 1333}
_CONNECT_S = 3.0


class UnknownModelError(Exception):
    """No configuration of a model can be had; the text says why."""


def unet(config: ModelConfig) -> Any:
    """A base's UNet, as its own pipeline has it."""
    from diffusers import UNet2DConditionModel

    return _diffusers(UNet2DConditionModel, config, "unet")


def editor_unet(config: ModelConfig) -> Any:
    """A base's UNet with the source picture's channels (InstructPix2Pix)."""
    base = unet(config)
    try:
        return with_image_channels(base, base.config.out_channels).to("meta")
    except ValueError as error:
        raise UnknownModelError(str(error)) from error


def vae(config: ModelConfig, part: str = "vae") -> Any:
    """A base's VAE; with no part, a VAE of its own."""
    from diffusers import AutoencoderKL

    return _diffusers(AutoencoderKL, config, part)


def text_encoder(config: ModelConfig) -> Any:
    """The text encoder in a base's folder, CLIP's."""
    from transformers import CLIPTextModel

    return _transformers(CLIPTextModel, config, "text_encoder")


def captioner(config: ModelConfig) -> Any:
    """A BLIP-2 for captions."""
    from transformers import Blip2ForConditionalGeneration

    return _transformers(Blip2ForConditionalGeneration, config)


def detector(config: ModelConfig) -> Any:
    """Grounding DINO or a model of its kind."""
    from transformers import AutoModelForZeroShotObjectDetection

    return _transformers(AutoModelForZeroShotObjectDetection, config)


def detector_size(config: ModelConfig) -> tuple[int, int]:
    """Shortest and longest edge, pixels, that a detector's pictures are brought to."""
    from transformers import AutoProcessor

    size = _DETECTOR_SIZE
    if Path(weights.resolve(config)).is_dir():
        size = weights.load_part(AutoProcessor, config).image_processor.size
    return size["shortest_edge"], size["longest_edge"]


def mllm(config: ModelConfig) -> Any:
    """A LLaVA, which reads instruction and picture together."""
    from transformers import LlavaForConditionalGeneration

    return _transformers(LlavaForConditionalGeneration, config)


def causal_lm(config: ModelConfig) -> Any:
    """A language model of any architecture that transformers knows."""
    from transformers import AutoModelForCausalLM

    return _transformers(AutoModelForCausalLM, config)


def parameters(*models: Any) -> int:
    """Of some models together."""
    return sum(p.numel() for model in models for p in model.parameters())


def _diffusers(kind: Any, config: ModelConfig, part: str) -> Any:
    where = weights.resolve(config)

    def read(offline: bool) -> dict[str, Any]:
        with warnings.catch_warnings():
            # diffusers hands the hub's client an argument that has gone.
            warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks`")
            content: dict[str, Any] = kind.load_config(
                where, subfolder=part or None, revision=config.revision, local_files_only=offline
            )
        return content

    content = _configuration(config.name, where, part, read)
    if (class_name := content.get("_class_name")) != kind.__name__:
        fault = _other_kind(class_name or content.get("model_type"), kind)
        raise UserError(f"model {config.name}/{part}: {fault}")
    with torch.device("meta"):
        return kind.from_config(content).to("meta").float().eval()


def _transformers(kind: Any, config: ModelConfig, part: str = "") -> Any:
    """A model of a class, or of any that an auto class knows."""
    from transformers import AutoConfig

    where = weights.resolve(config)

    def read(offline: bool) -> Any:
        return AutoConfig.from_pretrained(
            where, subfolder=part, revision=config.revision, local_files_only=offline
        )

    content = _configuration(config.name, where, part, read)
    if isinstance(content, dict):
        content = AutoConfig.for_model(**content)
    expected = getattr(kind, "config_class", None)
    # What an auto class knows is told by nothing public (checked with transformers 5.19).
    known = [expected] if expected else kind._model_mapping  # noqa: SLF001
    if type(content) not in known:
        fault = _other_kind(content.model_type, kind)
        # vLLM serves more than an auto class knows.
        raise UserError(f"model {config.name}: {fault}") if expected else UnknownModelError(fault)
    with torch.device("meta"):
        model = kind(content) if expected else kind.from_config(content)
        # Once more: parameters made by torch.Tensor(…) do not heed the context.
        return model.to("meta").float().eval()


def _other_kind(name: str | None, kind: Any) -> str:
    return f"its config.json is of {name}, not of {kind.__name__}"


def _configuration(name: str, where: str, part: str, read: Callable[[bool], Any]) -> Any:
    try:
        return read(True)
    except (OSError, ValueError) as error:
        if Path(where).is_dir():
            raise UnknownModelError(f"no configuration in {where}") from error
    if name in KNOWN and part in KNOWN[name]:
        return KNOWN[name][part]
    # Its libraries try again and again, for half a minute.
    if not _hub_answers():
        raise UnknownModelError("not in the hub's cache, and the hub does not answer")
    try:
        return read(False)
    except (OSError, ValueError) as error:
        raise UnknownModelError(" ".join(str(error).split())[:120]) from error


@functools.cache
def _hub_answers() -> bool:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    place = urlsplit(ENDPOINT)
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        if HF_HUB_OFFLINE:
            return False
        socket.create_connection((place.hostname or "", port), _CONNECT_S).close()
    except OSError:
        return False
    return True
