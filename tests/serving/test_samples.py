"""An edit's own state between the engine's steps."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler
from serving_editor import edit, pipeline
from tiny_editor import picture

from reasonray.serving.samples import Sample, cells, predict

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_a_cell_changes_if_any_of_its_pixels_may() -> None:
    mask = np.zeros((6, 8), bool)
    mask[3, 5] = True
    changing = cells(mask, torch.zeros(1, 4, 3, 4))
    assert changing.shape == (1, 1, 3, 4)
    assert changing[0, 0].nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler]
)
@torch.no_grad()
def test_outside_the_mask_the_model_sees_the_source_as_noisy_as_the_step(scheduler: Any) -> None:
    pipe = pipeline(scheduler=scheduler)
    mask = np.zeros((32, 48), bool)
    mask[:, 30:] = True
    sample = Sample.of(pipe, edit(0, image=picture(3, (48, 32)), mask=mask, num_inference_steps=5))
    null = pipe.null_condition()
    factor = pipe.vae.config.scaling_factor
    source, outside = sample.source * factor, ~sample.changing.expand_as(sample.source)  # type: ignore[union-attr]
    for time in sample.scheduler.timesteps:
        [(noisy, predicted)] = predict(pipe, [sample], null)
        alpha = float(sample.scheduler.alphas_cumprod[round(float(time))])
        expected = alpha**0.5 * source + (1 - alpha) ** 0.5 * sample.noise
        assert (noisy - expected)[outside].abs().max() < 5e-3
        assert (noisy - expected)[~outside].abs().max() > 5e-3 or sample.num_steps == 0
        sample.advance(noisy, predicted, factor)
    assert sample.is_done
    assert torch.equal(sample.latents[outside], source[outside])
    assert not torch.equal(sample.latents[~outside], source[~outside])


@torch.no_grad()
def test_a_step_that_is_tried_again_gives_the_same() -> None:
    """After one that did not fit into the memory."""
    pipe = pipeline(scheduler=EulerAncestralDiscreteScheduler)
    null = pipe.null_condition()
    once, again = (Sample.of(pipe, edit(0)) for _ in range(2))
    predict(pipe, [again], null)
    for sample in (once, again):
        [inputs] = predict(pipe, [sample], null)
        sample.advance(*inputs, pipe.vae.config.scaling_factor)
    assert torch.equal(once.latents, again.latents)
