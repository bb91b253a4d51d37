"""InstructPix2Pix's sampling with both guidances: what a pipeline's call and an engine share.

Shapes: B samples, C latent channels, H x W cells, L tokens, D their width.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None

Condition = tuple[Tensor, Tensor | None]
"""States BLD that the UNet attends to, and their bool mask BL; None: nothing is masked."""

Predictions = tuple[Tensor, Tensor, Tensor]
"""BCHW each: of instruction and picture, of the picture alone, of neither."""


def denoise(
    unet: Any,
    scheduler: Any,
    source: Tensor,
    conditions: Condition,
    noise: Tensor,
    *,
    num_inference_steps: int,
    guidance_scale: float,
    image_guidance_scale: float,
    generator: Generators = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Tensor:
    """From noise to the edit, the three UNet passes of a step in one batch.

    Args:
        unet, scheduler: of the pipeline.
        source: BCHW, the source's latents, unscaled.
        conditions: of 3B passes, as `three_passes` gives them.
        noise: BCHW, unit variance.
        num_inference_steps, guidance_scale, image_guidance_scale: as the pipeline's.
        generator: for schedulers that draw.
        progress: shows the steps.

    Returns:
        Latents BCHW, scaled.
    """
    scheduler.set_timesteps(num_inference_steps, device=noise.device)
    # Only now: some schedulers' sigma is that of their first timestep.
    latents: Tensor = noise * scheduler.init_noise_sigma
    drawing = draws(scheduler, generator)
    for time in progress(scheduler.timesteps):
        noisy = scheduler.scale_model_input(latents, time)
        predicted = predictions(unet, noisy, time, source, conditions)
        prediction = guided(predicted, guidance_scale, image_guidance_scale)
        latents = scheduler.step(prediction, time, latents, **drawing, return_dict=False)[0]
    return latents


def initial_noise(
    shape: torch.Size, generator: Generators, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Noise BCHW of unit variance; each of several generators draws one sample's."""
    # Drawn on the CPU, so that a seed means the same on every device.
    if isinstance(generator, Sequence):
        one = torch.Size((1, *shape[1:]))
        return torch.cat([initial_noise(one, each, device, dtype) for each in generator])
    on = generator.device if generator is not None else torch.device("cpu")
    return torch.randn(shape, generator=generator, device=on, dtype=dtype).to(device)


def draws(scheduler: Any, generator: Generators) -> dict[str, Any]:
    """What a scheduler's `step` is given beside the sample: the generator, if it takes one."""
    takes = inspect.signature(scheduler.step).parameters
    return {"generator": generator} if "generator" in takes else {}


def predictions(
    unet: Any, noisy: Tensor, times: Tensor, source: Tensor, conditions: Condition
) -> Predictions:
    """The UNet's predictions of the three passes, computed in one batch.

    Args:
        unet: with twice the latents' channels.
        noisy: BCHW, latents as the scheduler scales them for the model.
        times: timestep of all samples (no dimension) or of each (B).
        source: BCHW, the source's latents, unscaled.
        conditions: of 3B passes.
    """
    states, mask = conditions
    sources = torch.cat([source, source, torch.zeros_like(source)])
    predicted = unet(
        torch.cat([torch.cat([noisy] * 3), sources], dim=1),
        times.repeat(3) if times.ndim else times,
        encoder_hidden_states=states,
        encoder_attention_mask=mask,
        return_dict=False,
    )[0]
    with_both, with_image, with_neither = predicted.chunk(3)
    return with_both, with_image, with_neither


def guided(predicted: Predictions, guidance_scale: float, image_guidance_scale: float) -> Tensor:
    """One prediction of three (Eq. 3 of InstructPix2Pix), BCHW."""
    with_both, with_image, with_neither = predicted
    return (
        with_neither
        + guidance_scale * (with_both - with_image)
        + image_guidance_scale * (with_image - with_neither)
    )


def predicted_original(scheduler: Any, noisy: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
    """The clean latents BCHW, scaled, that a prediction amounts to.

    Not from the scheduler's own step: some do not say. What the model is given has the variance of
    its training, whatever space the scheduler works in, so that this holds for all of them.

    Args:
        scheduler: with the training's `alphas_cumprod`.
        noisy: BCHW, as the model was given it.
        prediction: BCHW, guided: of the noise, the velocity or the sample, as is configured.
        time: timestep; some schedulers' lie between two of the training's.
    """
    alphas: Tensor = scheduler.alphas_cumprod
    place = float(time)
    below = min(int(place), len(alphas) - 1)
    above = min(below + 1, len(alphas) - 1)
    alpha = float(alphas[below].lerp(alphas[above], place - below))
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return prediction
    if kind == "v_prediction":
        return signal * noisy - noise * prediction
    return (noisy - noise * prediction) / max(signal, 1e-4)


def three_passes(instructed: Condition, null: Condition, dtype: torch.dtype) -> Condition:
    """Conditions of B samples in one length: B with instruction, B and B with the null's.

    Args:
        instructed: of B samples.
        null: of one.
        dtype: the UNet's.
    """
    (states, mask), (null_state, null_mask) = instructed, null
    length = max(states.shape[1], null_state.shape[1])
    passes = torch.cat(
        [lengthened(states, length)] + [lengthened(null_state, length)] * (2 * len(states))
    ).to(dtype)
    if mask is None or null_mask is None:
        return passes, None
    masks = [lengthened(mask, length)] + [lengthened(null_mask, length)] * (2 * len(states))
    return passes, torch.cat(masks)


def lengthened(values: Tensor, length: int) -> Tensor:
    """Zeros (False) appended along dimension 1."""
    filler = values.new_zeros(values.shape[0], length - values.shape[1], *values.shape[2:])
    return torch.cat([values, filler], dim=1)
