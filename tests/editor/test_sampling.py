"""What a pipeline's call and an engine share, against diffusers' schedulers."""

from typing import Any

import pytest
import tiny_editor
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)

from reasonray.editor.sampling import predicted_original, three_passes

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    ("scheduler", "options"),
    [
        (DDIMScheduler, {}),
        (EulerDiscreteScheduler, {}),
        (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
        (EulerAncestralDiscreteScheduler, {}),
        (DPMSolverMultistepScheduler, {}),
    ],
)
def test_where_a_step_heads_for_is_what_its_scheduler_says(
    scheduler: Any, options: Any, kind: str
) -> None:
    if kind == "sample" and scheduler is EulerAncestralDiscreteScheduler:
        return  # it has no such prediction
    config = {**tiny_editor.scheduler().config, "prediction_type": kind, **options}
    schedule: Any = scheduler.from_config(config)
    schedule.set_timesteps(6)
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=draw) * schedule.init_noise_sigma
    for time in schedule.timesteps:
        prediction = torch.randn(latents.shape, generator=draw)
        noisy = schedule.scale_model_input(latents, time)
        heading = predicted_original(schedule, noisy, prediction, time)
        done = schedule.step(prediction, time, latents, generator=draw)
        if scheduler is DPMSolverMultistepScheduler:
            expected = schedule.model_outputs[-1]
        else:
            expected = done.pred_original_sample
        scale = expected.abs().max()
        assert (heading - expected).abs().max() < 2e-3 * scale
        latents = done.prev_sample


def test_shorter_conditions_are_filled_up_and_masked() -> None:
    instructed = torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    null = 2 * torch.ones(1, 5, 4), torch.ones(1, 5, dtype=torch.bool)
    states, mask = three_passes(instructed, null, torch.float16)
    assert states.dtype == torch.float16
    assert states[:, :, 0].tolist() == [[1, 1, 1, 0, 0]] * 2 + [[2] * 5] * 4
    assert mask is not None
    assert mask.tolist() == [[True] * 3 + [False] * 2] * 2 + [[True] * 5] * 4
    assert three_passes((instructed[0], None), (null[0], None), torch.float32)[1] is None
