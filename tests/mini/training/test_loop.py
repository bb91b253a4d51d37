from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

from reasonray.mini import ZOO
from reasonray.mini.training.loop import name_as_on_the_hub


def test_a_llava_is_saved_with_the_hub_s_names_which_transformers_reads_as_its_own(
    tmp_path: Path,
) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(ZOO / "mllm", dtype=torch.float32)
    model.save_pretrained(tmp_path)
    name_as_on_the_hub(tmp_path / "model.safetensors")
    assert load_file(tmp_path / "model.safetensors").keys() == (
        load_file(ZOO / "mllm/model.safetensors").keys()
    )
    assert "vision_tower.vision_model.pre_layrnorm.weight" in (
        load_file(tmp_path / "model.safetensors")
    )
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    for (name, ours), theirs in zip(
        model.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_other_weights_keep_their_names_and_their_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"vision_model.weight": torch.ones(2)}, path)
    before = path.read_bytes()
    name_as_on_the_hub(path)
    name_as_on_the_hub(tmp_path / "none.safetensors")
    assert path.read_bytes() == before
