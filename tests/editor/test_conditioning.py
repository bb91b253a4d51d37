from typing import Any

import tiny_editor
import torch
from tiny_editor import picture

from reasonray.editor.conditioning import multimodal_states, null_states


def test_picture_and_instruction_both_reach_the_condition() -> None:
    parts = tiny_editor.multimodal_parts()
    mllm, processor = parts["mllm"], parts["processor"]

    def states(seed: int, said: str) -> Any:
        return multimodal_states(mllm, processor, [picture(seed)], [said], "text")[0][:, -1]

    base = states(0, "Show what it makes.")
    assert not torch.allclose(base, states(1, "Show what it makes."), atol=1e-4)
    assert not torch.allclose(base, states(0, "Show what it wants."), atol=1e-4)


def test_text_tokens_are_the_last_of_all_tokens() -> None:
    parts = tiny_editor.multimodal_parts()
    asked = (parts["mllm"], parts["processor"], [picture(0), picture(1)], ["Go.", "Go on, please."])
    every, every_mask = multimodal_states(*asked, "all")
    text, text_mask = multimodal_states(*asked, "text")
    length = text.shape[1]
    assert torch.equal(every[:, -length:], text)
    assert torch.equal(every_mask[:, -length:], text_mask)
    places = parts["mllm"].config.image_seq_length
    assert every.shape[1] - length >= places
    assert not text_mask[0].all()
    assert text_mask[1].all()
    last, last_mask = multimodal_states(*asked, "last")
    assert torch.equal(last[:, 0], torch.stack([text[0, text_mask[0]][-1], text[1, -1]]))
    assert last_mask.shape == (2, 1)
    assert last_mask.all()


def test_the_null_condition_has_no_picture_of_its_own() -> None:
    parts = tiny_editor.multimodal_parts()
    states, mask = null_states(parts["mllm"], parts["processor"], "text")
    assert states.shape[0] == 1
    assert mask.all()
