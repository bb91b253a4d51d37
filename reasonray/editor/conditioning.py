"""What the editor is conditioned on: h = F(x, I) of a multimodal model, or CLIP's text encoding.

Shapes: B samples, T tokens, D width. All functions give float states BTD and a bool mask BT
(False on padding, which is on the right, so that a sample does not depend on its batch-mates).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

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
    """The last hidden states of a LLaVA that is shown a picture and told an instruction.

    Args:
        mllm, processor: `LlavaForConditionalGeneration` or a model with its interface.
        images: RGB, any size: the processor resizes.
        instructions: as many.
        tokens: what is kept. The picture comes first, so that only the tokens after it know the
            instruction.
        device: of the inputs; the model's by default, which is not where one that is offloaded
            computes.

    Returns:
        States after the final norm, in the model's dtype, and the mask.
    """
    texts = [_asked(processor, instruction) for instruction in instructions]
    inputs = processor(
        images=list(images),
        text=texts,
        padding=True,
        padding_side="right",
        return_tensors="pt",
    ).to(device or mllm.device)
    inputs["pixel_values"] = inputs["pixel_values"].to(mllm.dtype)
    states_BTD, mask_BT = _last_states(mllm, inputs), inputs["attention_mask"].bool()
    if tokens == "all":
        return states_BTD, mask_BT
    if tokens == "last":
        ends_B = mask_BT.sum(1) - 1
        last_BTD = states_BTD[torch.arange(len(ends_B), device=ends_B.device), ends_B][:, None]
        return last_BTD, mask_BT[:, :1]
    image_BT = inputs["input_ids"] == mllm.config.image_token_id
    # One picture: the same number of tokens stands up to its end in every sample.
    start = int(image_BT[0].nonzero().max()) + 1
    return states_BTD[:, start:], mask_BT[:, start:]


def _last_states(mllm: Any, inputs: Any) -> Tensor:
    # The whole model is called, not its `model`: libraries that offload it wait for that. Asked
    # for `hidden_states` it would keep those of every layer.
    states: list[Tensor] = []
    watch = mllm.model.register_forward_hook(
        lambda module, arguments, output: states.append(output.last_hidden_state)
    )
    try:
        mllm(**inputs, use_cache=False, logits_to_keep=1)
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
