"""The frozen models, and what they make of pairs.

Shapes: C latent channels, H x W cells, T tokens, D width of the frozen model's states.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor.conditioning import null_states, states_of_several, text_states
from reasonray.editor.model import load_text_parts, load_vae
from reasonray.editor.pairs import Pair
from reasonray.models import weights
from reasonray.models.pixels import to_tensor
from reasonray.models.weights import load_part
from reasonray.prompts.direct import in_one_wording

Array = NDArray[np.float16]


@dataclass(frozen=True)
class Sample:
    """One variant of one record, as training takes it; float16, on the CPU.

    Attributes:
        id: the record's.
        source: CHW, the source's latents, unscaled.
        target: CHW, the target's latents, unscaled.
        picture: TD, states up to the source picture's end, which no instruction changes; no tokens
            where the recipe does not read them.
        reasoning, direct: TD, states of the two instructions beside the source picture.
        taught: TD, which alignment imitates: CLIP's encoding of the direct instruction, said in one
            wording (`prompts.direct.in_one_wording`); or None.
    """

    id: str
    source: Array
    target: Array
    picture: Array
    reasoning: Array
    direct: Array
    taught: Array | None = None

    def condition(self, reasoning: bool) -> tuple[Array, Array]:
        """The states of one instruction, in two pieces that follow one another."""
        return self.picture, self.reasoning if reasoning else self.direct


class Frozen:
    """The frozen models, and what they make of pairs.

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
    def samples(self, pairs: Sequence[Pair]) -> list[Sample]:
        """What the models make of some pairs, in their order."""
        asked = [[pair.instruction for pair in pairs], [pair.direct_instruction for pair in pairs]]
        taught: list[Array] | list[None] = [None] * len(pairs)
        if self.config.condition == "text":
            reasoning, direct = (self._encodings(texts) for texts in asked)
            picture = [each[:0] for each in direct]
        else:
            seen, tokens = [pair.seen for pair in pairs], self.config.tokens
            parts = self.mllm, self.processor
            before_BTD, after = states_of_several(*parts, seen, asked, tokens)
            picture = list(before_BTD.cpu().half().numpy())
            reasoning, direct = (_rows(*each) for each in after)
            if self.text_encoder is not None:
                # States of a whole instruction hold what it says, hardly in which words: of as many
                # encodings as there are wordings the connector would learn the mean.
                taught = self._encodings([in_one_wording(text) for text in asked[1]])
        return [
            Sample(*each)
            for each in zip(
                [pair.id for pair in pairs],
                self._latents([pair.source for pair in pairs]),
                self._latents([pair.target for pair in pairs]),
                picture, reasoning, direct, taught,
                strict=True,
            )
        ]  # fmt: skip

    def null(self) -> Array:
        """TD, the states of the dropped condition."""
        if self.config.condition == "text":
            return self._encodings([""])[0]
        return _rows(*null_states(self.mllm, self.processor, self.config.tokens))[0]

    def _encodings(self, texts: Sequence[str]) -> list[Array]:
        return _rows(*text_states(self.text_encoder, self.tokenizer, texts))

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

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """C, H, W of the latents of a picture of so many pixels across and down."""
        vae = self.vae.config
        cell = 2 ** (len(vae.block_out_channels) - 1)
        return vae.latent_channels, size[1] // cell, size[0] // cell

    def _latents(self, images: Sequence[Image.Image]) -> list[Array]:
        latents: dict[int, Array] = {}
        for places in alike([image.size for image in images]):
            same = [images[place] for place in places]
            pixels_BCHW = to_tensor(same, self.vae.dtype, self.vae.device)
            encoded: Tensor = self.vae.encode(pixels_BCHW).latent_dist.mode()
            latents.update(zip(places, encoded.cpu().half().numpy(), strict=True))
        return [latents[place] for place in range(len(images))]


def alike(values: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal values, together: what can be stacked."""
    places = defaultdict(list)
    for place, value in enumerate(values):
        places[value].append(place)
    return list(places.values())


def _rows(states_BTD: Tensor, mask_BT: Tensor) -> list[Array]:
    """TD float16 of each sample, without its padding."""
    return [
        states_TD[mask_T].cpu().half().numpy()
        for states_TD, mask_T in zip(states_BTD, mask_BT, strict=True)
    ]
