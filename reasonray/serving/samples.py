"""An edit in the model's terms: encoded, taken through its steps beside others, decoded.

Shapes: C latent channels, H x W cells; one sample, so that B is 1 unless several are joined.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.editor.sampling import (
    Condition,
    Predictions,
    draws,
    guided,
    initial_noise,
    lengthened,
    predicted_original,
    predictions,
    three_passes,
)
from reasonray.serving.jobs import Edit


@dataclass
class Sample:
    """What an edit has of its own: nothing in it is shared with those of the same batch.

    Attributes:
        edit: what is asked.
        condition: of its instruction, L tokens of one sample.
        source: 1CHW, the source's latents, unscaled.
        noise: 1CHW, what it starts from, of unit variance.
        scheduler: with its own timesteps and memory of earlier steps.
        drawing: the generator, for schedulers that draw.
        latents: 1CHW, in the scheduler's space.
        changing: bool 11HW, the cells that the mask lets change; None: all.
        num_steps: that are done.
        heading: 1CHW, scaled: the clean latents that the last step headed for, where a partial
            picture is wanted of them; else None.
    """

    edit: Edit
    condition: Condition
    source: Tensor
    noise: Tensor
    scheduler: Any
    drawing: dict[str, Any]
    latents: Tensor
    changing: Tensor | None
    num_steps: int = 0
    heading: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, pipeline: ReasonEditPipeline, edit: Edit) -> "Sample":
        """Encode picture and instruction, and draw the noise."""
        condition = pipeline.instructed_condition([edit.image], [edit.instruction])
        source = pipeline.encode_source([edit.image])
        # It remembers earlier steps: shared with others it would mix them up.
        scheduler = copy.deepcopy(pipeline.scheduler)
        # On the CPU, where its tables are: to look a step up must not wait for the GPU.
        scheduler.set_timesteps(edit.num_inference_steps, device="cpu")
        generator = torch.Generator().manual_seed(edit.seed)
        noise = initial_noise(source.shape, generator, source.device, source.dtype)
        return cls(
            edit=edit,
            condition=condition,
            source=source,
            noise=noise,
            scheduler=scheduler,
            drawing=draws(scheduler, generator),
            latents=noise * scheduler.init_noise_sigma,
            changing=None if edit.mask is None else cells(edit.mask, source),
        )

    @property
    def total_steps(self) -> int:
        """That it takes: of some schedulers more than are asked for."""
        return len(self.scheduler.timesteps)

    @property
    def is_done(self) -> bool:
        """Whether no step is left."""
        return self.num_steps == self.total_steps

    @property
    def num_shown(self) -> int:
        """Partial pictures that were wanted so far; of fewer steps there are fewer."""
        count, total = self.edit.num_partials, self.total_steps
        places = {round(total * (i + 1) / (count + 1)) for i in range(count)} - {0, total}
        return sum(place <= self.num_steps for place in places)

    @property
    def time(self) -> Tensor:
        """The next step's timestep, without dimension."""
        time: Tensor = self.scheduler.timesteps[self.num_steps]
        return time

    def noisy(self, scaling_factor: float) -> Tensor:
        """The model's next input, 1CHW; outside the mask it is the source as noisy as that."""
        if self.changing is not None:
            around = self.scheduler.add_noise(
                self.source * scaling_factor, self.noise, self.time[None]
            )
            self.latents = torch.where(self.changing, self.latents, around)
        noisy: Tensor = self.scheduler.scale_model_input(self.latents, self.time)
        return noisy

    def advance(self, noisy: Tensor, predicted: Predictions, scaling_factor: float) -> None:
        """Do a step, from what `predict` gives."""
        time, num_shown = self.time, self.num_shown
        prediction = guided(predicted, self.edit.guidance_scale, self.edit.image_guidance_scale)
        self.latents = self.scheduler.step(
            prediction, time, self.latents, **self.drawing, return_dict=False
        )[0]
        self.num_steps += 1
        self.heading = None
        if self.num_shown > num_shown:
            self.heading = predicted_original(self.scheduler, noisy, prediction, time)
        if self.changing is not None and self.is_done:
            around = self.source * scaling_factor
            self.latents = torch.where(self.changing, self.latents, around)


def predict(
    pipeline: ReasonEditPipeline, samples: Sequence[Sample], null: Condition
) -> list[tuple[Tensor, Predictions]]:
    """For each sample the model's input, 1CHW, and its three predictions, all in one call."""
    factor = pipeline.vae.config.scaling_factor
    noisy = [sample.noisy(factor) for sample in samples]
    source = torch.cat([sample.source for sample in samples])
    times = torch.stack([sample.time for sample in samples]).to(source.device)
    instructed = _joined([sample.condition for sample in samples])
    conditions = three_passes(instructed, null, pipeline.unet.dtype)
    predicted = predictions(pipeline.unet, torch.cat(noisy), times, source, conditions)
    own = zip(*(each.split(1) for each in predicted), strict=True)
    return list(zip(noisy, own, strict=True))


def _joined(conditions: Sequence[Condition]) -> Condition:
    """In one length, B samples."""
    length = max(states.shape[1] for states, _ in conditions)
    states = torch.cat([lengthened(states, length) for states, _ in conditions])
    masks = [lengthened(mask, length) for _, mask in conditions if mask is not None]
    return states, torch.cat(masks) if masks else None


def decoded(pipeline: ReasonEditPipeline, sample: Sample) -> PIL.Image.Image:
    """The edit, or what it heads for; outside the mask it is the source's, bit for bit."""
    edit = sample.edit
    [image] = pipeline.decode(sample.latents if sample.heading is None else sample.heading)
    if edit.mask is None:
        picture: PIL.Image.Image = image
        return picture
    return PIL.Image.composite(
        image, edit.image, PIL.Image.fromarray(edit.mask.astype(np.uint8) * 255)
    )


def cells(mask: NDArray[np.bool_], source: Tensor) -> Tensor:
    """Bool 11HW: the cells of latents like `source` in which some pixel may change."""
    height, width = source.shape[-2:]
    factor = mask.shape[0] // height
    blocks = mask.reshape(height, factor, width, factor)
    return torch.from_numpy(blocks.any(axis=(1, 3)))[None, None].to(source.device)
