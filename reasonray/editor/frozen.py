"""The frozen models, and what they make of a dataset's records.

Shapes: C latent channels, H x W cells, T tokens, D width of the frozen model's states.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from reasonray.core.errors import RowError, UserError
from reasonray.core.images import decode
from reasonray.core.record import Image as Encoded
from reasonray.core.sections import EditorConfig
from reasonray.editor.conditioning import multimodal_states, null_states, text_states
from reasonray.editor.model import load_text_parts, load_vae
from reasonray.models import weights
from reasonray.models.pixels import to_tensor
from reasonray.models.weights import load_part

IMAGES = ("input_image", "edited_image")
COLUMNS = ("id", "part", "instruction", "direct_instruction", *IMAGES)
"""Of a record, what the frozen models read; `IMAGES` are source and target."""

Array = NDArray[np.float16]


@dataclass(frozen=True)
class Sample:
    """One variant of one record, as training takes it; float16, on the CPU.

    Attributes:
        id: the record's; a flipped variant's has "|flipped" appended.
        source: CHW, the source's latents, unscaled.
        target: CHW, the target's latents, unscaled.
        reasoning, direct: TD, states of the two instructions beside the source picture.
        taught: TD, CLIP's encoding of the direct instruction, which alignment imitates; or None.
    """

    id: str
    source: Array
    target: Array
    reasoning: Array
    direct: Array
    taught: Array | None = None


class Frozen:
    """The frozen models, and what they make of records.

    Args:
        config: which models, which tokens, at what size.

    Raises:
        UserError: a model is not there or not of the kind.
    """

    def __init__(self, config: EditorConfig) -> None:
        self.config = config
        self.vae: Any = load_vae(config)
        self.mllm: Any = None
        self.processor: Any = None
        self.text_encoder: Any = None
        self.tokenizer: Any = None
        if config.condition == "mllm":
            from transformers import AutoProcessor, LlavaForConditionalGeneration

            kind, dtype = LlavaForConditionalGeneration, weights.dtype(config.mllm)
            self.mllm = load_part(kind, config.mllm, dtype=dtype)
            self.mllm.to(weights.device(config.mllm)).eval().requires_grad_(False)
            self.processor = load_part(AutoProcessor, config.mllm)
        if config.condition == "text" or config.alignment_steps:
            self.text_encoder, self.tokenizer = load_text_parts(config)

    @torch.no_grad()
    def samples(self, rows: Sequence[dict[str, Any]]) -> list[Sample]:
        """All variants of some records, in their order.

        Args:
            rows: with `COLUMNS`; images as encoded bytes.

        Raises:
            UserError: a picture cannot be read; names the record.
        """
        ids, sources, targets, instructions, direct = [], [], [], [], []
        for row in rows:
            pair = [_squared(row, key, self.config.image_size) for key in IMAGES]
            for flipped in (False, True) if self.config.flip else (False,):
                source, target = (ImageOps.mirror(each) if flipped else each for each in pair)
                ids.append(f"{row['id']}|flipped" if flipped else row["id"])
                sources.append(source)
                targets.append(target)
                instructions.append(row["instruction"])
                direct.append(row["direct_instruction"])
        frozen = [
            self._latents(sources), self._latents(targets),
            self.states(sources, instructions), self.states(sources, direct),
        ]  # fmt: skip
        taught: list[Array] | list[None] = [None] * len(ids)
        if self.config.condition == "mllm" and self.text_encoder is not None:
            taught = _rows(*text_states(self.text_encoder, self.tokenizer, direct))
        return [Sample(*each) for each in zip(ids, *frozen, taught, strict=True)]

    @torch.no_grad()
    def states(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[Array]:
        """What the editor is conditioned on, TD for each; padding is cut off."""
        if self.config.condition == "text":
            return _rows(*text_states(self.text_encoder, self.tokenizer, texts))
        tokens = self.config.tokens
        return _rows(*multimodal_states(self.mllm, self.processor, images, texts, tokens))

    def null(self) -> Array:
        """TD, the states of the dropped condition."""
        if self.config.condition == "text":
            return self.states([], [""])[0]
        return _rows(*null_states(self.mllm, self.processor, self.config.tokens))[0]

    def revisions(self) -> dict[str, str | None]:
        """The hub's commit that each model was loaded from; None: from a folder."""
        models = {
            "mllm": self.config.mllm if self.mllm is not None else None,
            "vae": self.config.vae,
        }
        commits = {name: weights.revision(model) for name, model in models.items() if model}
        part = "text_encoder" if self.config.vae else "vae"
        commits["base"] = weights.revision(self.config.base, f"{part}/config.json")
        return commits

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """C, H, W of a picture's latents."""
        vae = self.vae.config
        side = self.config.image_size // 2 ** (len(vae.block_out_channels) - 1)
        return vae.latent_channels, side, side

    def _latents(self, images: Sequence[Image.Image]) -> list[Array]:
        pixels_BCHW = to_tensor(images, self.vae.dtype, self.vae.device)
        latents: Tensor = self.vae.encode(pixels_BCHW).latent_dist.mode()
        return list(latents.cpu().half().numpy())


def _squared(row: dict[str, Any], column: str, size: int) -> Image.Image:
    """The picture at the training's size: scaled to cover a square, the middle of it."""
    image = cast(Encoded, row[column] or {"bytes": b"", "path": None})
    try:
        return ImageOps.fit(decode(image), (size, size), Image.Resampling.LANCZOS)
    except RowError as error:
        raise UserError(f"record {row['id']}: {column}: {error}") from error


def _rows(states_BTD: Tensor, mask_BT: Tensor) -> list[Array]:
    """TD float16 of each sample, without its padding."""
    return [
        states_TD[mask_T].cpu().half().numpy()
        for states_TD, mask_T in zip(states_BTD, mask_BT, strict=True)
    ]
