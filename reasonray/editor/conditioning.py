"""What the editor is conditioned on: h = F(x, I) of a multimodal model, or CLIP's text encoding.

Shapes: B samples, T tokens, D width. All functions give float states BTD and a bool mask BT
(False on padding, which is on the right, so that a sample does not depend on its batch-mates).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from reasonray.models.pixels import padded_to_square

Tokens = Literal["all", "text", "last"]
"""Which tokens' states are kept: all, those after the picture's, or the last one's, which alone has
seen picture and instruction whole."""

NULL_COLOUR = (127, 127, 127)


@torch.no_grad()
def multimodal_states(
    mllm: Any,
    processor: Any,
    images: Sequence[Image.Image],
    instructions: Sequence[str],
    tokens: Tokens = "all",
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """The last hidden states of a LLaVA that is shown a picture, whole, and told an instruction.

    Args:
        mllm, processor: `LlavaForConditionalGeneration` or a model with its interface.
        images: RGB, any size: padded to squares here, resized by the processor.
        instructions: as many.
        tokens: what is kept. The picture comes first, so that only the tokens after it know the
            instruction.
        device: of the inputs; the model's by default, which is not where one that is offloaded
            computes.

    Returns:
        States after the final norm, in the model's dtype, and the mask.
    """
    inputs, start = _inputs(mllm, processor, images, instructions, device)
    states_BTD, mask_BT = _last_states(mllm, inputs), inputs["attention_mask"].bool()
    return _chosen(states_BTD, mask_BT, start, tokens)


@torch.no_grad()
def states_of_several(
    mllm: Any,
    processor: Any,
    images: Sequence[Image.Image],
    instructions: Sequence[Sequence[str]],
    tokens: Tokens = "all",
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The states of several instructions beside each picture, which is read once.

    A language model's state knows nothing of what comes after it: up to the picture's end the
    states are the same for every instruction, and so are the keys and values that these attend to.

    Args:
        mllm, processor, images: as for `multimodal_states`.
        instructions: lists of as many as there are pictures, one list after another.
        tokens: what is kept.

    Returns:
        States BTD up to the picture's end, none of them unless `tokens` is "all", and for each
        list of instructions the states after it with their mask: together what
        `multimodal_states` gives.
    """
    inputs, start = _inputs(mllm, processor, images, instructions[0], None)
    num_image_tokens = int((inputs["input_ids"][0] == mllm.config.image_token_id).sum())
    shared = {name: inputs[name][:, :start] for name in ("input_ids", "attention_mask")}
    cache = DynamicCache()
    before_BTD = _last_states(mllm, {**shared, "pixel_values": inputs["pixel_values"]}, cache)
    after = []
    for texts in instructions:
        asked = [_asked(processor, text) for text in texts]
        token = processor.image_token
        words = processor.tokenizer(
            [text.replace(token, token * num_image_tokens) for text in asked],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        ).to(mllm.device)
        mask_BT = words["attention_mask"]
        rest = {"input_ids": words["input_ids"][:, start:], "attention_mask": mask_BT}
        states_BTD = _last_states(mllm, rest, cache)
        # What this instruction has added makes room for the next one's.
        cache.crop(start - mask_BT.shape[1])
        after.append(_chosen(states_BTD, mask_BT[:, start:].bool(), 0, tokens))
    return before_BTD if tokens == "all" else before_BTD[:, :0], after


def _inputs(
    mllm: Any,
    processor: Any,
    images: Sequence[Image.Image],
    instructions: Sequence[str],
    device: torch.device | None,
) -> tuple[Any, int]:
    """A batch for the model, padded on the right, and where in it the text after a picture starts.

    One picture: the same number of tokens stands up to its end in every sample.
    """
    inputs = processor(
        images=[padded_to_square(image, processor) for image in images],
        text=[_asked(processor, instruction) for instruction in instructions],
        padding=True,
        padding_side="right",
        return_tensors="pt",
    ).to(device or mllm.device)
    inputs["pixel_values"] = inputs["pixel_values"].to(mllm.dtype)
    image_T = inputs["input_ids"][0] == mllm.config.image_token_id
    return inputs, int(image_T.nonzero().max()) + 1


def _chosen(
    states_BTD: Tensor, mask_BT: Tensor, start: int, tokens: Tokens
) -> tuple[Tensor, Tensor]:
    if tokens == "last":
        ends_B = mask_BT.sum(1) - 1
        last_BTD = states_BTD[torch.arange(len(ends_B), device=ends_B.device), ends_B][:, None]
        return last_BTD, mask_BT[:, :1]
    if tokens == "text":
        return states_BTD[:, start:], mask_BT[:, start:]
    return states_BTD, mask_BT


def _last_states(mllm: Any, inputs: Any, cache: Any = None) -> Tensor:
    # The whole model is called, not its `model`: libraries that offload it wait for that. Asked
    # for `hidden_states` it would keep those of every layer.
    states: list[Tensor] = []
    watch = mllm.model.register_forward_hook(
        lambda module, arguments, output: states.append(output.last_hidden_state)
    )
    try:
        mllm(**inputs, past_key_values=cache, use_cache=cache is not None, logits_to_keep=1)
    finally:
        watch.remove()
    return states[0]


def null_states(
    mllm: Any, processor: Any, tokens: Tokens = "all", device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """States (B = 1) of the dropped condition: nothing said about a grey picture.

    The same for every sample, so that it is computed once; InstructPix2Pix's is "" likewise.
    """
    grey = Image.new("RGB", (64, 64), NULL_COLOUR)
    return multimodal_states(mllm, processor, [grey], [""], tokens, device)


@torch.no_grad()
def text_states(
    text_encoder: Any, tokenizer: Any, texts: Sequence[str], device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """CLIP's text encoding, padded to its length as Stable Diffusion has it (nothing is masked)."""
    ids = tokenizer(
        list(texts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids.to(device or text_encoder.device)
    states_BTD: Tensor = text_encoder(ids).last_hidden_state
    return states_BTD, ids.new_ones(ids.shape, dtype=torch.bool)


def _asked(processor: Any, instruction: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": instruction}]
    message = [{"role": "user", "content": content}]
    text: str = processor.apply_chat_template(message, add_generation_prompt=True)
    return text
