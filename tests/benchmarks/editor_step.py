"""Samples a CPU second of our training against the loop of diffusers' `train_instruct_pix2pix.py`.

    python tests/benchmarks/editor_step.py

The same UNet of 4 M parameters, CLIP's text encoder, the same batch, float32; CPU time of one
thread. Ours reads cached features; theirs encodes both pictures and the text in each step, as the
script does, its pictures decoded and resized beforehand. Pairs of runs in turn, and the median of
their ratios, so that other work on the machine favours neither.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import tiny_training
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from tiny_training import BATCH, STEPS
from torch import Tensor
from torch.nn import functional

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor.model import load_text_parts
from reasonray.models.weights import load_part

ROUNDS = 9


def script(config: EditorConfig) -> Callable[[], float]:
    """CPU time of one of its steps; the models are loaded once."""
    vae: Any = load_part(AutoencoderKL, config.base, "vae").requires_grad_(False)
    unet: Any = load_part(UNet2DConditionModel, config.base, "unet").train()
    schedule: Any = load_part(DDPMScheduler, config.base, "scheduler")
    text_encoder, tokenizer = load_text_parts(config)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=config.learning_rate)
    rate = get_scheduler("constant", optimizer)
    average = EMAModel(unet.parameters(), decay=config.ema_decay)
    before, after = torch.rand(2, BATCH, 3, config.image_size, config.image_size) * 2 - 1

    def tokens(texts: list[str]) -> Tensor:
        length = tokenizer.model_max_length
        found: Tensor = tokenizer(
            texts, max_length=length, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return found

    ids = tokens(["Turn the bee into some honey"] * BATCH)

    def step() -> None:
        latents = vae.encode(after).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        times = torch.randint(0, schedule.config.num_train_timesteps, (BATCH,))
        noisy = schedule.add_noise(latents, noise, times)
        states = text_encoder(ids)[0]
        source = vae.encode(before).latent_dist.mode()
        drop, part = torch.rand(BATCH), config.dropout
        null = text_encoder(tokens([""]))[0]
        states = torch.where((drop < 2 * part)[:, None, None], null, states)
        kept = ~((drop >= part) & (drop < 3 * part))
        source = source * kept[:, None, None, None]
        wanted = noise
        if schedule.config.prediction_type == "v_prediction":
            wanted = schedule.get_velocity(latents, noise, times)
        predicted = unet(torch.cat([noisy, source], 1), times, states, return_dict=False)[0]
        functional.mse_loss(predicted.float(), wanted.float()).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), config.max_grad_norm)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(unet.parameters())

    def seconds() -> float:
        started = time.process_time()
        for _ in range(STEPS):
            step()
        return (time.process_time() - started) / STEPS

    return seconds


def main() -> None:
    """Print the ratio."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = tiny_training.config(folder, condition="text")
        data = tiny_training.data(folder / "data")
        samples = tiny_training.cached(config, data, folder / "features")
        theirs = script(config)
        theirs(), tiny_training.seconds(config, samples)  # warm up
        ratios = []
        for number in range(ROUNDS):
            slow, fast = theirs(), tiny_training.seconds(config, samples)
            ratios.append(slow / fast)
            print(f"{number + 1}: theirs {BATCH / slow:.1f} samples a CPU second, "
                  f"ours {BATCH / fast:.1f}: {ratios[-1]:.2f} times", flush=True)  # fmt: skip
    print(f"ours: {median(ratios):.2f} times the samples a CPU second")


if __name__ == "__main__":
    main()
