"""What the zoo's two diffusion models have in common: Stable Diffusion's parts but for the UNet."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from reasonray.core.writing import replaced
from reasonray.mini.training.loop import mixed_precision
from reasonray.models.pixels import to_tensor
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import HELD_OUT_SEED, IMAGE_SIZE, Scene, sample_scene

FACTOR = 8
"""Pixels of a latent cell's side."""

WIDTH = 128
"""Of the text encoder, and of the UNets' cross-attention."""

SHARD = 500


def build_unet(**config: Any) -> Any:
    """An untrained UNet for the latents of scenes.

    Args:
        config: what the two do not share, as `UNet2DConditionModel` takes it.
    """
    # Any: diffusers' classes are untyped where it matters.
    unet_class: Any = UNet2DConditionModel
    unet = unet_class(
        sample_size=IMAGE_SIZE // FACTOR,
        out_channels=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        **config,
    )
    # The fused attention's backward pass takes half a step's time on a CPU.
    unet.set_attn_processor(AttnProcessor())
    return unet.to(memory_format=torch.channels_last)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text encoder, untrained, for texts of the tokenizer's length."""
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    encoder.set_attn_implementation("eager")
    return encoder


def build_tokenizer(whole: Iterable[str], max_tokens: int) -> CLIPTokenizer:
    """CLIP's tokenizer with some words whole; any other text falls into byte pairs."""
    specials = ["<|startoftext|>", "<|endoftext|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted({word for text in whole for word in text.split()})
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False
    )
    learned.train_from_iterator(words, trainer)
    merges = json.loads(learned.to_str())["model"]["merges"]
    tokens = [*specials, *letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["".join(pair) for pair in merges]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    pairs: Any = [(left, right) for left, right in merges]
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=max_tokens)


def tokens(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Ids of texts, int64 BT, padded to the tokenizer's length."""
    encoded = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
    ids: Tensor = encoded["input_ids"]
    return ids


def build_scheduler() -> Any:
    """A `DDIMScheduler` for v-prediction that starts from pure noise, as sampling does."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        rescale_betas_zero_snr=True,
    )


def noised(scheduler: Any, clean: Tensor, step: int, power: float) -> tuple[Tensor, Tensor, Tensor]:
    """A step's noisy latents, their timesteps [B], and the velocity that is to be predicted.

    Args:
        scheduler: of `build_scheduler`.
        clean: scaled latents BCHW.
        step: noise and timesteps follow from it.
        power: of a draw from 0..1; the smaller, the more timesteps are at the noisy end.
    """
    generator = torch.Generator().manual_seed(step)
    noise = torch.randn(clean.shape, generator=generator)
    drawn = torch.rand(len(clean), generator=generator).pow(power)
    last = scheduler.config.num_train_timesteps - 1
    times = (drawn * (last + 1)).long().clamp(max=last)
    noisy = scheduler.add_noise(clean, noise, times)
    return noisy, times, scheduler.get_velocity(clean, noise, times)


def variants(number: int, salt: int, count: int) -> tuple[Scene, int, list[str]]:
    """A training scene, the index of one object, and `count` categories to draw that object in.

    Args:
        number: of the scene.
        salt: apart from other sets of scenes.
        count: the first is the object's own.
    """
    rng = np.random.default_rng((number, salt))
    scene = sample_scene(int(rng.integers(HELD_OUT_SEED)))
    index = int(rng.integers(len(scene.objects)))
    others = [name for name in CATEGORIES if name not in scene.categories]
    drawn = rng.choice(others, size=count - 1, replace=False)
    return scene, index, [scene.categories[index], *(str(name) for name in drawn)]


def kept_latents(
    vae: Any, folder: Path, count: int, pictures: Callable[[int], list[NDArray[np.uint8]]]
) -> Tensor:
    """Unscaled latents, float16; made once, in shards, so that a kill costs one.

    Args:
        vae: whose latents they are.
        folder: gets the shards.
        count: of scenes, a multiple of `SHARD`.
        pictures: from a scene's number to its pictures, uint8 HWC.

    Returns:
        [`count`, pictures of a scene, C, H, W].
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for first in range(0, count, SHARD):
        path = folder / f"{first:06d}.pt"
        if not path.exists():
            numbers = range(first, first + SHARD)
            with replaced(path) as temporary:
                torch.save(torch.stack([_encode(vae, pictures(n)) for n in numbers]), temporary)
        shards.append(torch.load(path, weights_only=True))
    return torch.cat(shards)


@torch.inference_mode()
def _encode(vae: Any, images: list[NDArray[np.uint8]]) -> Tensor:
    with mixed_precision():
        encoded: Tensor = vae.encode(to_tensor(images)).latent_dist.mode()
    return encoded.half()
