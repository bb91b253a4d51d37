"""Tiny editors to be served, edits that differ in all they can, and a UNet that can be held."""

import threading
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import PIL.Image
import tiny_editor
import torch
from diffusers import DDIMScheduler
from tiny_editor import picture

from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.serving.engine import Edit

INSTRUCTIONS = (
    "Short.",
    "Show what it makes instead, and do not forget the golden pot.",
    "A car",
    "",
)


def pipeline(condition: str = "text", scheduler: Any = DDIMScheduler, **options: Any) -> Any:
    """An untrained editor; its condition is text, text+lora or a connector's kind."""
    if condition.startswith("text"):
        parts = tiny_editor.text_parts()
    else:
        parts = tiny_editor.multimodal_parts(condition)
    pipe: Any = ReasonEditPipeline(
        vae=tiny_editor.vae(),
        unet=tiny_editor.unet(),
        scheduler=scheduler.from_config(tiny_editor.scheduler().config),
        **parts,
        **options,
    )
    if condition.endswith("+lora"):
        from peft import LoraConfig

        pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edit(number: int = 0, **changes: Any) -> Edit:
    """The edit of a number, with changes."""
    values: dict[str, Any] = {
        "image": picture(number),
        "instruction": INSTRUCTIONS[number % len(INSTRUCTIONS)],
        "seed": 10 + number,
        "num_inference_steps": 3 + number % 3,
        "guidance_scale": 3.0 + number,
        "image_guidance_scale": 1.2 + 0.1 * number,
    }
    return Edit(**{**values, **changes})


def alone(pipe: Any, edit: Edit) -> np.ndarray:
    """Of the pipeline's own call, HWC 0..255."""
    [image] = pipe(
        edit.image,
        edit.instruction,
        num_inference_steps=edit.num_inference_steps,
        guidance_scale=edit.guidance_scale,
        image_guidance_scale=edit.image_guidance_scale,
        generator=torch.Generator().manual_seed(edit.seed),
    ).images
    return pixels(image)


def pixels(image: PIL.Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


class Paced:
    """A UNet whose calls wait until they are let.

    Attributes:
        batches: edits of each call that was done.
        check: called with the input before each call.
    """

    def __init__(self, unet: Any) -> None:
        self.unet, self.config = unet, unet.config
        self.dtype, self.device = unet.dtype, unet.device
        self.batches: list[int] = []
        self.check: Callable[[torch.Tensor], None] = lambda noisy: None
        self._widths: list[int] = []
        self._num_begun = 0
        self._permits = threading.Semaphore(0)

    def __call__(self, noisy: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        self._num_begun += 1
        assert self._permits.acquire(timeout=100)
        self.check(noisy)
        predicted = self.unet(noisy, *arguments, **options)
        self.batches.append(len(noisy) // 3)
        self._widths.append(noisy.shape[-1])
        return predicted

    def let(self, count: int) -> None:
        """So many more calls may be done."""
        for _ in range(count):
            self._permits.release()

    def drain(self) -> None:
        """What was let and not done is let no more."""
        while self._permits.acquire(blocking=False):
            pass

    def wait_to_begin(self) -> None:
        """Until a call waits."""
        _until(lambda: self._num_begun > len(self.batches))

    def wait_for(self, count: int) -> None:
        """Until so many are done."""
        _until(lambda: len(self.batches) >= count)

    def runs(self) -> list[int]:
        """The latents' width, once for each run of calls that have it."""
        return [width for width, _ in groupby(self._widths)]


def paced(pipe: Any, num_calls: int = 0) -> Paced:
    """The pipeline's UNet from now on."""
    unet = Paced(pipe.unet)
    del pipe.unet
    pipe.unet = unet
    unet.let(num_calls)
    return unet


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
