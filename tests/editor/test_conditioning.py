from typing import Any

import PIL.Image
import pytest
import tiny_editor
import torch
from tiny_editor import picture

from reasonray.editor.conditioning import (
    multimodal_states,
    null_states,
    states_of_several,
)
from reasonray.models.pixels import padded_to_square


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


@pytest.mark.parametrize("tokens", ["all", "text", "last"])
def test_a_picture_is_read_once_for_all_its_instructions(tokens: Any) -> None:
    parts = tiny_editor.multimodal_parts()
    models = parts["mllm"], parts["processor"]
    images = [picture(0), picture(1, (48, 20))]
    lists = [["Go.", "Go on, please."], ["Show what it makes.", "No."]]
    watched = []
    tower = models[0].model.vision_tower
    watch = tower.register_forward_hook(lambda *arguments: watched.append(1))
    before, after = states_of_several(*models, images, lists, tokens)
    watch.remove()
    assert watched == [1]
    for texts, (states, mask) in zip(lists, after, strict=True):
        whole, whole_mask = multimodal_states(*models, images, texts, tokens)
        ours = torch.cat([before, states], 1)
        ours_mask = torch.cat([before.new_ones(before.shape[:2]).bool(), mask], 1)
        assert torch.equal(ours_mask, whole_mask)
        assert torch.allclose(ours[ours_mask], whole[whole_mask], atol=1e-4)


@pytest.mark.parametrize(("size", "spot"), [((96, 32), (0, 8)), ((32, 96), (8, 80))])
def test_what_stands_at_the_border_of_a_long_picture_is_seen(
    size: tuple[int, int], spot: tuple[int, int]
) -> None:
    parts = tiny_editor.multimodal_parts()
    plain = picture(0, size)
    changed = plain.copy()
    changed.paste((255, 0, 0), (*spot, spot[0] + 16, spot[1] + 16))
    states = [
        multimodal_states(parts["mllm"], parts["processor"], [each], ["Go."], "last")[0]
        for each in (plain, changed)
    ]
    assert (states[0] - states[1]).abs().max() > 1e-4


def test_padding_is_llava_s_own() -> None:
    processor = tiny_editor.multimodal_parts()["processor"]
    processor.image_processor.image_mean = [0.48145466, 0.4578275, 0.40821073]
    try:
        square = padded_to_square(PIL.Image.new("RGB", (10, 5), "red"), processor)
        assert padded_to_square(square, processor) is square
    finally:
        processor.image_processor.image_mean = [0.5] * 3
    assert square.size == (10, 10)
    # LLaVA's mm_utils.process_images: tuple(int(x * 255) for x in image_processor.image_mean).
    rows = [square.getpixel((3, y)) for y in range(10)]
    assert rows == [(122, 116, 104)] * 2 + [(255, 0, 0)] * 5 + [(122, 116, 104)] * 3
