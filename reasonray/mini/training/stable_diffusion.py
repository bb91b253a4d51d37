"""What the zoo's two diffusion models have in common: Stable Diffusion's parts but for the UNet."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from reasonray.core.writing import replaced

FACTOR = 8
"""Pixels of a latent cell's side."""

WIDTH = 128
"""Of the text encoder, and of the UNets' cross-attention."""

SHARD = 500


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
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=pairs,
        model_max_length=max_tokens,
    )


def kept_tokenizer(folder: Path, build: Callable[[], CLIPTokenizer]) -> CLIPTokenizer:
    """The tokenizer kept in a folder beside a checkpoint; made when there is none yet.

    Its trainer breaks ties by chance: made anew, "car" and "cat" may have changed places.
    """
    if not (folder / "tokenizer.json").exists():
        build().save_pretrained(folder)
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


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


def kept_latents(folder: Path, count: int, encode: Callable[[int], Tensor]) -> Tensor:
    """Latents of so many scenes; made once, in shards, so that a kill costs one.

    Args:
        folder: gets the shards.
        count: of scenes, a multiple of `SHARD`.
        encode: from a scene's number to its latents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for first in range(0, count, SHARD):
        path = folder / f"{first:06d}.pt"
        if not path.exists():
            latents = torch.stack([encode(number) for number in range(first, first + SHARD)])
            with replaced(path) as temporary:
                torch.save(latents, temporary)
        shards.append(torch.load(path, weights_only=True))
    return torch.cat(shards)
