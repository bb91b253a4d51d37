"""The batched grounded inpainter (GLIGEN): repaints a box of each picture with what a phrase says.

The sampler of diffusers' `StableDiffusionGLIGENPipeline`, for a batch whose samples each have
their own picture, box, phrase, prompt and seed. Pictures may have any size and shape: each is
painted in a square window around its box, enlarged to the model's own size where the box is small,
and only the box is taken over, with a soft edge inside it.

Shapes: B samples, C latent channels, H x W latent cells, T text tokens, D text width.
Pictures are RGB; inside, pixels are -1..1 and latents scaled to unit variance.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from reasonray.core.boxes import Box, area, clipped, whole
from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig, PaintConfig
from reasonray.core.window import Window, square_window
from reasonray.models.pixels import to_images, to_tensor
from reasonray.models.weights import load_config, load_model, load_part

MAX_OBJECTS = 30
"""Grounding tokens of a picture; GLIGEN is trained with this many, null ones included."""

SLICE = 4
"""Pictures that the VAE sees at once: its layers of full resolution need more memory than all else,
and a few pictures keep a GPU as busy as many."""


class Painter:
    """A GLIGEN inpainting model and its sampler.

    Args:
        vae, unet, text_encoder, tokenizer, scheduler: `AutoencoderKL`, `UNet2DConditionModel`,
            `CLIPTextModel`, `CLIPTokenizer` and any diffusers scheduler; the UNet gated, its
            input the noisy latents, the masked latents and the mask.

    Raises:
        ValueError: the UNet is not such a one.
    """

    # Any: the libraries' classes are untyped where it matters (configs, lazily made attributes).
    def __init__(
        self, vae: Any, unet: Any, text_encoder: Any, tokenizer: Any, scheduler: Any
    ) -> None:
        self.vae, self.unet, self.text_encoder = vae.eval(), unet.eval(), text_encoder.eval()
        self.tokenizer, self.scheduler = tokenizer, scheduler
        kind = self.unet.config.attention_type
        channels = self.unet.conv_in.in_channels
        expected = 2 * self.vae.config.latent_channels + 1
        if kind != "gated" or channels != expected:
            raise ValueError(
                f"the UNet is no GLIGEN inpainter: attention_type {kind} (gated is needed), "
                f"{channels} input channels ({expected} are needed)"
            )
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_size: int = self.unet.config.sample_size * factor
        """Side of the square picture the model paints, pixels."""

    @classmethod
    def from_config(cls, config: ModelConfig) -> "Painter":
        """Load a GLIGEN inpainting model, diffusers layout.

        Raises:
            UserError: the model is not there or of another kind.
        """
        # Any scheduler class reads the file, which says what class it should be.
        schedule = load_config(DDIMScheduler, config, "scheduler")
        sampler = getattr(diffusers, schedule.get("_class_name", ""), None)
        if sampler is None:
            raise UserError(
                f"model {config.name}/scheduler: diffusers {diffusers.__version__} has no "
                f"{schedule.get('_class_name')}"
            )
        try:
            return cls(
                vae=load_model(AutoencoderKL, config, "vae"),
                unet=load_model(UNet2DConditionModel, config, "unet"),
                text_encoder=load_model(CLIPTextModel, config, "text_encoder"),
                tokenizer=load_part(CLIPTokenizer, config, "tokenizer"),
                scheduler=sampler.from_config(schedule),
            )
        except ValueError as error:
            raise UserError(f"model {config.name}: {error}") from error

    @torch.inference_mode()
    def paint(
        self,
        images: Sequence[Image.Image],
        boxes: Sequence[Sequence[float]],
        phrases: Sequence[str],
        prompts: Sequence[str],
        seeds: Sequence[int],
        config: PaintConfig,
    ) -> list[Image.Image | None]:
        """Repaint one box of each picture; all sequences have one item a sample.

        A sample's result follows from its own items alone, up to the rounding of batched sums.

        Args:
            images: RGB, of any sizes.
            boxes: xyxy in pixels of its picture; what lies outside the picture is cut off.
            phrases: what is painted into the box, e.g. "an egg".
            prompts: caption of the whole picture after the edit.
            seeds: of all noise of the sample, 0..2^63-1.
            config: the sampler's settings; its model and margin are not looked at.

        Returns:
            RGB pictures of the inputs' sizes, equal to them outside the boxes; None where the
            model gave no finite picture (float16 overflow).

        Raises:
            ValueError: a box has no area within its picture.
        """
        inside = [_within(box, image.size) for box, image in zip(boxes, images, strict=True)]
        windows = [
            square_window(image.size, box, config.window)
            for image, box in zip(images, inside, strict=True)
        ]
        views = (w.view(i, self.image_size) for w, i in zip(windows, images, strict=True))
        relative = [square.normalised(box) for square, box in zip(windows, inside, strict=True)]
        decoded = self._sample(
            to_tensor(views),
            torch.tensor(relative),
            phrases,
            prompts,
            [torch.Generator().manual_seed(seed) for seed in seeds],
            config,
        )
        return [
            composite(image, square.back(painted), square, box, config.feather)
            if bool(pixels.isfinite().all())
            else None
            for image, painted, pixels, square, box in zip(
                images, to_images(decoded), decoded, windows, inside, strict=True
            )
        ]

    def _sample(
        self,
        pixels_B3XX: Tensor,
        boxes_B4: Tensor,
        phrases: Sequence[str],
        prompts: Sequence[str],
        generators: list[torch.Generator],
        config: PaintConfig,
    ) -> Tensor:
        """The denoising loop: float32 pictures on the CPU, B3XX, -1..1; boxes are 0..1."""
        device, dtype = self.unet.device, self.unet.dtype
        guided = config.guidance_scale > 1
        source_BCHW = torch.cat(
            [self._encode(part.to(device, dtype)) for part in pixels_B3XX.split(SLICE)]
        )
        keep_B1HW = outside_mask(boxes_B4, source_BCHW.shape[-2:]).to(device, dtype)
        extra_BCHW = torch.cat([source_BCHW * keep_B1HW, keep_B1HW], dim=1)
        prompt_BTD = self._tokens(prompts)
        grounding = self._grounding(boxes_B4.to(device, dtype), phrases)
        if guided:
            # The unconditional half comes first, and sees neither prompt nor grounding.
            extra_BCHW = torch.cat([extra_BCHW] * 2)
            away_1TD = self._tokens([config.negative_prompt])
            prompt_BTD = torch.cat([away_1TD.expand_as(prompt_BTD), prompt_BTD])
            nothing = torch.zeros_like(grounding["masks"])
            grounding = {name: torch.cat([value] * 2) for name, value in grounding.items()}
            grounding["masks"][: len(nothing)] = nothing

        def noise() -> Tensor:
            drawn = [torch.randn(source_BCHW.shape[1:], generator=g) for g in generators]
            return torch.stack(drawn).to(device, dtype)

        self.scheduler.set_timesteps(config.num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps
        step_options: dict[str, Any] = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            step_options["generator"] = generators
        num_grounding_steps = int(config.scheduled_sampling_beta * len(timesteps))
        latents_BCHW = noise() * self.scheduler.init_noise_sigma
        for index, timestep in enumerate(timesteps):
            self._set_grounding(index < num_grounding_steps)
            # Around the box stands the source at this step's noise level, drawn anew each time.
            around = self.scheduler.add_noise(source_BCHW, noise(), timestep[None])
            latents_BCHW = around * keep_B1HW + latents_BCHW * (1 - keep_B1HW)
            noisy = torch.cat([latents_BCHW] * 2) if guided else latents_BCHW
            noisy = self.scheduler.scale_model_input(noisy, timestep)
            predicted = self.unet(
                torch.cat([noisy, extra_BCHW], dim=1),
                timestep,
                encoder_hidden_states=prompt_BTD,
                cross_attention_kwargs={"gligen": dict(grounding)},
            ).sample
            if guided:
                free, conditioned = predicted.chunk(2)
                predicted = free + config.guidance_scale * (conditioned - free)
            latents_BCHW = self.scheduler.step(
                predicted, timestep, latents_BCHW, **step_options
            ).prev_sample
        scaled = latents_BCHW / self.vae.config.scaling_factor
        return torch.cat(
            [self.vae.decode(part).sample.float().cpu() for part in scaled.split(SLICE)]
        )

    def _encode(self, pixels_B3XX: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(pixels_B3XX).latent_dist.mode()
        scale: float = self.vae.config.scaling_factor
        return latents * scale

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        """Hidden states of the text encoder, BTD, of texts padded to its full length."""
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt"
        )
        ids = tokens.input_ids.to(self.text_encoder.device)
        hidden: Tensor = self.text_encoder(ids).last_hidden_state
        return hidden.to(self.unet.dtype)

    def _grounding(self, boxes_B4: Tensor, phrases: Sequence[str]) -> dict[str, Tensor]:
        """One grounding token a sample, the others null: boxes, phrase embeddings, masks."""
        tokens = self.tokenizer(list(phrases), padding=True, truncation=True, return_tensors="pt")
        embedded_BD = self.text_encoder(**tokens.to(self.text_encoder.device)).pooler_output
        size, width = embedded_BD.shape
        boxes = boxes_B4.new_zeros(size, MAX_OBJECTS, 4)
        embeddings = boxes_B4.new_zeros(size, MAX_OBJECTS, width)
        masks = boxes_B4.new_zeros(size, MAX_OBJECTS)
        boxes[:, 0], embeddings[:, 0], masks[:, 0] = boxes_B4, embedded_BD.to(boxes.dtype), 1
        return {"boxes": boxes, "positive_embeddings": embeddings, "masks": masks}

    def _set_grounding(self, enabled: bool) -> None:
        for module in self.unet.modules():
            if isinstance(module, GatedSelfAttentionDense):
                module.enabled = enabled


def outside_mask(boxes_B4: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """1 for latent cells that keep the source, 0 for those the box touches; float32 B1HW.

    Args:
        boxes_B4: xyxy, 0..1.
        size: latent height and width.
    """
    height, width = size
    mask = torch.ones(len(boxes_B4), 1, height, width)
    for sample, box in zip(mask, boxes_B4.double().tolist(), strict=True):
        # A box that ends on a cell's border must not take the next cell by a rounding error.
        left, top = (
            math.floor(v * n + 1e-4) for v, n in zip(box[:2], (width, height), strict=True)
        )
        right, bottom = (
            math.ceil(v * n - 1e-4) for v, n in zip(box[2:], (width, height), strict=True)
        )
        sample[:, max(top, 0) : bottom, max(left, 0) : right] = 0
    return mask


def composite(
    image: Image.Image, painted: Image.Image, window: Window, box: Box, feather: float
) -> Image.Image:
    """The picture with the box taken from its painted window.

    Args:
        image: RGB.
        painted: the window at its own size, RGB.
        window, box: in pixels of `image`; the box lies within both.
        feather: width of the ramp inside the box's edge, a fraction of the box's shorter side.
    """
    left, top, right, bottom = box
    x0, y0, x1, y1 = whole(box, image.size)
    ramp = feather * min(right - left, bottom - top)
    opacity = np.minimum(
        _ramp(x0, x1, left, right, ramp)[None], _ramp(y0, y1, top, bottom, ramp)[:, None]
    )
    offset = (x0 - window.left, y0 - window.top, x1 - window.left, y1 - window.top)
    edited = image.copy()
    edited.paste(painted.crop(offset), (x0, y0), Image.fromarray(opacity))
    return edited


def _ramp(start: int, stop: int, low: float, high: float, width: float) -> NDArray[np.uint8]:
    """Opacity 0..255 of the pixels start..stop-1 of an interval: 0 outside, 255 from `width` on."""
    centres = np.arange(start, stop) + 0.5
    depth = np.minimum(centres - low, high - centres)
    opacity: NDArray[np.uint8] = np.rint(np.clip(depth / max(width, 1e-6), 0, 1) * 255).astype("u1")
    return opacity


def _within(box: Sequence[float], size: tuple[int, int]) -> Box:
    inside = clipped(box, size)
    if not area(inside):
        raise ValueError(f"box {list(box)} has no area in a picture of {size[0]}x{size[1]} pixels")
    return inside
