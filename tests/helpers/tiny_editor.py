"""Untrained editors of every kind, small enough to run in a test."""

from functools import cache
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from reasonray.editor.connector import Connector
from reasonray.mini.training import mllm as mini_mllm
from reasonray.mini.training.stable_diffusion import build_tokenizer
from reasonray.mini.training.vocabulary import OTHER_NOUNS, WORDS

WIDTH = 64


def vae() -> Any:
    torch.manual_seed(1)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        norm_num_groups=8,
        latent_channels=4,
        sample_size=32,
    ).eval()  # fmt: skip


def unet(in_channels: int = 8) -> Any:
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


def scheduler() -> Any:
    return DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)


def text_parts() -> dict[str, Any]:
    tokenizer = build_tokenizer((*WORDS, *OTHER_NOUNS), max_tokens=24)
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return {"text_encoder": CLIPTextModel(config).eval(), "tokenizer": tokenizer}


@cache
def _multimodal() -> tuple[Any, Any]:
    tokenizer = mini_mllm.build_tokenizer(num_questions=200)
    return mini_mllm.build(tokenizer).eval(), mini_mllm.build_processor(tokenizer)


def multimodal_parts(kind: str = "mlp") -> dict[str, Any]:
    mllm, processor = _multimodal()
    torch.manual_seed(4)
    connector = Connector(
        input_dim=mllm.config.text_config.hidden_size,
        output_dim=WIDTH,
        kind=kind,
        num_queries=6,
        num_heads=2,
    )
    return {"mllm": mllm, "processor": processor, "connector": connector.eval()}


def picture(seed: int = 0, size: tuple[int, int] = (32, 32)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
