"""The editor as a diffusers pipeline: x_out = M(x_input, h) (Eq. 9).

InstructPix2Pix's sampler, conditioned on a multimodal language model through a connector (ours), or
on CLIP's text encoder (InstructPix2Pix itself). Shapes: B samples, C latent channels, H x W cells.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from PIL import Image
from torch import Tensor

from reasonray.core.copies import local
from reasonray.core.place import place
from reasonray.core.uris import is_local
from reasonray.editor.conditioning import multimodal_states, null_states, text_states
from reasonray.editor.connector import Connector
from reasonray.editor.sampling import (
    Condition,
    Generators,
    denoise,
    initial_noise,
    three_passes,
)

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
"""The name under which diffusers looks for adapters."""


class ReasonEditPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """Edits pictures as instructions say, reading both together.

    Args:
        vae: `AutoencoderKL`.
        unet: `UNet2DConditionModel` with twice the VAE's latent channels.
        scheduler: any diffusers scheduler.
        mllm, processor, connector: `LlavaForConditionalGeneration`, its processor, `Connector`;
            none of them for InstructPix2Pix.
        text_encoder, tokenizer: CLIP's, for InstructPix2Pix; not used beside an mllm.
        tokens: which of the mllm's states the connector reads: "all", "text" or "last".
        lora_weights: the file of the UNet's adapters in the folder, if they are kept apart; set by
            `save_pretrained`.

    Raises:
        ValueError: parts are missing, or the UNet's channels do not fit.
    """

    model_cpu_offload_seq = "mllm->connector->text_encoder->unet->vae"
    _optional_components = ["mllm", "processor", "connector", "text_encoder", "tokenizer"]

    # Any: the libraries' classes are untyped where it matters; so is what the base class sets.
    vae: Any
    unet: Any
    scheduler: Any
    mllm: Any
    processor: Any
    connector: Any
    text_encoder: Any
    tokenizer: Any
    progress_bar: Any
    register_modules: Any
    register_to_config: Any
    maybe_free_model_hooks: Any
    components: Any
    config: Any
    _execution_device: torch.device

    def __init__(
        self,
        vae: Any,
        unet: Any,
        scheduler: Any,
        mllm: Any = None,
        processor: Any = None,
        connector: Connector | None = None,
        text_encoder: Any = None,
        tokenizer: Any = None,
        tokens: str = "all",
        lora_weights: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        multimodal = [part is not None for part in (mllm, processor, connector)]
        if any(multimodal) != all(multimodal):
            raise ValueError("mllm, processor and connector belong together: give all or none")
        if not any(multimodal) and (text_encoder is None or tokenizer is None):
            raise ValueError("either mllm, processor and connector, or text_encoder and tokenizer")
        expected = 2 * vae.config.latent_channels
        if unet.config.in_channels != expected:
            raise ValueError(
                f"the UNet takes {unet.config.in_channels} channels, InstructPix2Pix's takes "
                f"{expected}: noisy latents and the source's"
            )
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            mllm=mllm,
            processor=processor,
            connector=connector,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.register_to_config(tokens=tokens, lora_weights=lora_weights)
        self.vae_scale_factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> Self:
        """As diffusers'; the UNet's adapters that are kept apart are loaded, too.

        A URI of an object store (s3://, gs://, az://) is a folder's name, too.
        """
        folder = pretrained_model_name_or_path
        if not is_local(str(folder)):
            folder = local(place(str(folder), "editor"), "editor")
        load: Any = super().from_pretrained
        pipe = load(folder, **options)
        if pipe.config.lora_weights:
            where = {"weight_name": pipe.config.lora_weights, "revision": options.get("revision")}
            pipe.unet.load_lora_adapter(folder, prefix="unet", **where)
            pipe.register_to_config(lora_weights=None)  # of that folder, not of the next
        return pipe  # type: ignore[no-any-return]

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """As diffusers'; an adapter on the UNet goes to a file that its LoRA loaders read.

        Raises:
            ValueError: the UNet has several adapters: fuse them before.
        """
        adapters: dict[str, Any] = getattr(self.unet, "peft_config", {})
        if not adapters:
            super().save_pretrained(save_directory, **options)  # type: ignore[misc]
            return
        if len(adapters) > 1:
            raise ValueError(f"the UNet has the adapters {', '.join(adapters)}: fuse them first")
        from peft.utils import get_peft_model_state_dict

        [(name, settings)] = adapters.items()
        self.save_lora_weights(
            save_directory,
            unet_lora_layers=get_peft_model_state_dict(self.unet, adapter_name=name),
            unet_lora_adapter_metadata=settings.to_dict(),
        )
        unet = copy.deepcopy(self.unet)
        unet.unload_lora()
        parts = {**self.components, "unet": unet, "tokens": self.config.tokens}
        type(self)(**parts, lora_weights=LORA_WEIGHTS).save_pretrained(save_directory, **options)

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | Sequence[Image.Image],
        instruction: str | Sequence[str],
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        image_guidance_scale: float = 1.5,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Edit one picture or a batch.

        Args:
            image: PIL pictures of any shape; those of a batch have one size. UNet and mllm see
                them whole: resized to the next smaller multiples of the VAE's factor, and padded
                to a square.
            instruction: one, or one for each picture; a single one goes with every picture.
            num_inference_steps: denoising steps.
            guidance_scale: how much the instruction counts (s_T of InstructPix2Pix).
            image_guidance_scale: how much the source picture counts (s_I).
            generator: one, from which the samples draw in turn, or one for each sample: then a
                sample's result does not depend on its batch.
            latents: the noise to start from, BCHW of unit variance, in place of drawn one.
            output_type: "pil", "np" or "pt", as in diffusers.
            return_dict: False gives a tuple.

        Raises:
            ValueError: the numbers of pictures, instructions and generators, or the pictures'
                sizes differ.
        """
        images, instructions = _paired(image, instruction)
        size = len(images)
        if isinstance(generator, Sequence) and len(generator) != size:
            raise ValueError(f"{len(generator)} generators for {size} pictures")
        conditions = self.conditions(images, instructions)
        device, dtype = self._execution_device, self.unet.dtype
        source = self.encode_source(images)
        if latents is None:
            latents = initial_noise(source.shape, generator, device, dtype)
        latents = denoise(
            self.unet,
            self.scheduler,
            source,
            conditions,
            latents.to(device, dtype),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            generator=generator,
            progress=self.progress_bar,
        )
        edited = self.decode(latents, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=edited) if return_dict else (edited,)

    def conditions(self, images: Sequence[Image.Image], instructions: Sequence[str]) -> Condition:
        """States 3B,L,D for the three passes (instruction, none, none), and their mask or None."""
        if self.mllm is None:
            texts = [*instructions, *[""] * (2 * len(images))]
            return self._text_condition(texts)
        instructed = self.instructed_condition(images, instructions)
        return three_passes(instructed, self.null_condition(), self.unet.dtype)

    def instructed_condition(
        self, images: Sequence[Image.Image], instructions: Sequence[str]
    ) -> Condition:
        """States BLD of the first pass alone, and their mask or None."""
        if self.mllm is None:
            return self._text_condition(instructions)
        parts, tokens = (self.mllm, self.processor), self.config.tokens
        device = self._execution_device
        instructed: Condition = self.connector(
            *multimodal_states(*parts, images, instructions, tokens, device)
        )
        return instructed

    def null_condition(self) -> Condition:
        """States 1LD of the passes without an instruction: the same for every picture."""
        if self.mllm is None:
            return self._text_condition([""])
        parts, tokens = (self.mllm, self.processor), self.config.tokens
        null: Condition = self.connector(*null_states(*parts, tokens, self._execution_device))
        return null

    def _text_condition(self, texts: Sequence[str]) -> Condition:
        parts = self.text_encoder, self.tokenizer
        states, _ = text_states(*parts, texts, self._execution_device)
        return states.to(self.unet.dtype), None

    def encode_source(self, images: Sequence[Image.Image]) -> Tensor:
        """The pictures' latents BCHW: the distribution's mode, unscaled, as InstructPix2Pix's."""
        pixels = self.image_processor.preprocess(list(images))
        pixels = pixels.to(self._execution_device, self.vae.dtype)
        latents: Tensor = self.vae.encode(pixels).latent_dist.mode()
        return latents.to(self.unet.dtype)

    def decode(self, latents: Tensor, output_type: str = "pil") -> Any:
        """Pictures of scaled latents BCHW, as `output_type` of the pipeline's call has them."""
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        decoded = self.vae.decode(latents, return_dict=False)[0]
        return self.image_processor.postprocess(decoded, output_type=output_type)


def _paired(
    image: Image.Image | Sequence[Image.Image], instruction: str | Sequence[str]
) -> tuple[list[Image.Image], list[str]]:
    images = [image] if isinstance(image, Image.Image) else list(image)
    instructions = (
        [instruction] * len(images) if isinstance(instruction, str) else list(instruction)
    )
    if len(images) != len(instructions):
        raise ValueError(f"{len(images)} pictures, but {len(instructions)} instructions")
    if not images:
        raise ValueError("no picture")
    sizes = {picture.size for picture in images}
    if len(sizes) > 1:
        raise ValueError(f"the pictures of a batch must have one size, these have {sorted(sizes)}")
    return [picture.convert("RGB") for picture in images], instructions
