import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_base
import tiny_editor
import torch
from diffusers import DPMSolverMultistepScheduler

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig
from reasonray.editor import finished, frozen, model

PARTS = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "scheduler": "DDIMScheduler",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
}


@pytest.fixture
def config(tmp_path: Path) -> EditorConfig:
    return EditorConfig.model_validate(tiny_base.editor_settings(tmp_path))


def load(config: EditorConfig) -> None:
    """All that a training loads."""
    frozen.Frozen(config)
    model.load_editor(config, 128, seed=0)


def refused(config: EditorConfig, act: Callable[[EditorConfig], object] = load) -> str:
    with pytest.raises(UserError) as caught:
        act(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_base_and_mllm_load(config: EditorConfig) -> None:
    load(config)


@pytest.mark.parametrize("part", PARTS)
def test_a_base_without_a_part_is_said(config: EditorConfig, part: str) -> None:
    shutil.rmtree(Path(config.base.name) / part)
    said = refused(config)
    assert said.startswith(f"model {config.base.name}/{part}: no {PARTS[part]} can be loaded: ")


def test_what_does_not_fit_is_found_from_the_config_alone(
    config: EditorConfig, tmp_path: Path
) -> None:
    model.check(config)
    unet = Path(config.base.name) / "unet"
    for path in unet.glob("*.safetensors"):
        path.unlink()
    model.check(config)
    heads = config.connector.model_copy(update={"kind": "resampler", "num_heads": 7})
    said = refused(config.model_copy(update={"connector": heads}), model.check)
    assert "editor.connector.num_heads 7: must divide 64" in said
    content = json.loads((unet / "config.json").read_text())
    (unet / "config.json").write_text(json.dumps({**content, "in_channels": 9}))
    assert "the UNet takes 9 channels; 4 (text to image) or 8" in refused(config, model.check)


def test_a_base_that_takes_a_picture_is_told_from_one_that_does_not(
    config: EditorConfig, tmp_path: Path
) -> None:
    assert model.sees_pictures(config)
    tiny_editor.unet(in_channels=4).save_pretrained(tmp_path / "plain" / "unet")
    plain = config.model_copy(update={"base": ModelConfig(name=str(tmp_path / "plain"))})
    assert not model.sees_pictures(plain)


def test_another_scheduler_s_config_leaves_latents_whole(config: EditorConfig) -> None:
    shutil.rmtree(Path(config.base.name) / "scheduler")
    scheduler: Any = DPMSolverMultistepScheduler(beta_schedule="scaled_linear")
    scheduler.save_pretrained(Path(config.base.name) / "scheduler")
    found = model.load_scheduler(config)
    assert found.config.beta_schedule == "scaled_linear"
    assert not found.config.clip_sample
    assert not found.config.set_alpha_to_one


def test_what_draws_samples_says_it_too(config: EditorConfig, tmp_path: Path) -> None:
    shutil.rmtree(Path(config.base.name) / "vae")
    nothing: Any = None
    device = torch.device("cpu")
    said = refused(config, lambda given: finished.Artist(given, nothing, [], tmp_path, device))
    assert f"model {config.base.name}/vae: no AutoencoderKL can be loaded" in said
