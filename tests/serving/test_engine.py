"""The engine on the zoo's editor: what comes out, whatever else it is asked for meanwhile."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tiny_editor
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from tiny_editor import picture

from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.serving.engine import (
    Edit,
    Engine,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Of diffusers' schedulers."""

SCHEDULERS = (
    DDIMScheduler,
    EulerDiscreteScheduler,
    EulerAncestralDiscreteScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
)
SAID = ("Short.", "Show what it makes instead, and do not forget the golden pot.", "A car", "")


def pipeline(condition: str = "text", scheduler: Any = DDIMScheduler, **options: Any) -> Any:
    parts = (
        tiny_editor.text_parts() if condition == "text" else tiny_editor.multimodal_parts(condition)
    )
    pipe: Any = ReasonEditPipeline(
        vae=tiny_editor.vae(),
        unet=tiny_editor.unet(),
        scheduler=scheduler.from_config(tiny_editor.scheduler().config),
        **parts,
        **options,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edit(number: int = 0, **changes: Any) -> Edit:
    """Edits that differ in all they can."""
    values: dict[str, Any] = {
        "image": picture(number, (32, 32)),
        "instruction": SAID[number % len(SAID)],
        "seed": 10 + number,
        "num_inference_steps": 3 + number % 3,
        "guidance_scale": 3.0 + number,
        "image_guidance_scale": 1.2 + 0.1 * number,
    }
    return Edit(**{**values, **changes})


def alone(pipe: Any, edit: Edit) -> np.ndarray:
    [image] = pipe(
        edit.image,
        edit.instruction,
        num_inference_steps=edit.num_inference_steps,
        guidance_scale=edit.guidance_scale,
        image_guidance_scale=edit.image_guidance_scale,
        generator=torch.Generator().manual_seed(edit.seed),
    ).images
    return np.asarray(image).astype(int)


def pixels(image: PIL.Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


class Paced:
    """A UNet that waits before each call until it is let; what it was called with is kept."""

    def __init__(self, unet: Any) -> None:
        self.unet, self.config, self.dtype = unet, unet.config, unet.dtype
        self.batches: list[int] = []
        self.permits = threading.Semaphore(0)

    def __call__(self, noisy: Any, *arguments: Any, **options: Any) -> Any:
        assert self.permits.acquire(timeout=60)
        self.batches.append(len(noisy) // 3)
        return self.unet(noisy, *arguments, **options)

    def let(self, count: int) -> None:
        self.permits.release(count)


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    opened: list[Engine] = []
    yield opened
    for engine in opened:
        if isinstance(engine.pipeline.unet, Paced):
            engine.pipeline.unet.let(1000)
        engine.close()


def paced(pipe: Any) -> Paced:
    stepping = Paced(pipe.unet)
    del pipe.unet
    pipe.unet = stepping
    return stepping


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("condition", ["text", "mlp"])
def test_whatever_joins_or_leaves_an_edit_comes_out_as_alone(
    scheduler: Any, condition: str, engines: list[Engine]
) -> None:
    pipe = pipeline(condition, scheduler)
    expected = [alone(pipe, edit(number)) for number in range(5)]
    stepping = paced(pipe)
    engine = Engine(pipe, max_batch=3)
    engines.append(engine)
    jobs = [engine.submit(edit(0))]
    for number in (1, 2, 3, 4):
        stepping.let(1)
        jobs.append(engine.submit(edit(number)))
    stepping.let(1000)
    for job, alike in zip(jobs, expected, strict=True):
        assert np.abs(pixels(job.result(60)) - alike).max() <= 1
    assert max(stepping.batches) == 3
