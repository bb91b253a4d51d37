from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch.nn import functional

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor import features, model, objective
from reasonray.editor.batches import Batches


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_that_of_diffusers_scripts(
    config: EditorConfig, samples: features.Features, kind: str, gamma: float | None
) -> None:
    """`train_instruct_pix2pix.py`, and `train_text_to_image.py` for what it lacks."""
    scale = 0.37
    scheduler: Any = DDPMScheduler(beta_schedule="scaled_linear", prediction_type=kind)
    weighted = config.model_copy(update={"min_snr_gamma": gamma})
    editor, _ = model.load_editor(weighted, 128, seed=0)
    batch = Batches(samples, range(0, 20, 3), weighted, seed=2).part(0, range(4))
    ours = objective.Objective(scheduler, weighted, scale)
    with torch.no_grad():
        found = ours.editing(editor, batch, torch.device("cpu"))
        latents = batch.target.float() * scale
        timesteps = (batch.times * 1000).long()
        noisy = scheduler.add_noise(latents, batch.noise, timesteps)
        states, mask = editor.connector(batch.states.float(), batch.mask)
        predicted = editor.unet(
            torch.cat([noisy, batch.source.float()], dim=1), timesteps, states,
            encoder_attention_mask=mask,
        ).sample  # fmt: skip
    velocity = scheduler.get_velocity(latents, batch.noise, timesteps)
    target = {"epsilon": batch.noise, "v_prediction": velocity, "sample": latents}[kind]
    loss = functional.mse_loss(predicted, target, reduction="none").mean(dim=(1, 2, 3))
    if gamma is not None:
        snr = scheduler.alphas_cumprod[timesteps] / (1 - scheduler.alphas_cumprod[timesteps])
        weights = torch.stack([snr, gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
        loss = loss * weights / {"epsilon": snr, "v_prediction": snr + 1, "sample": 1}[kind]
    assert torch.allclose(found, loss.sum(), rtol=1e-4)
    assert len(set(loss.tolist())) == 4
