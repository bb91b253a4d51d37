from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import UNet2DConditionModel

from reasonray.core.sections import ModelConfig
from reasonray.costs import architectures
from reasonray.costs.architectures import UnknownModelError, parameters
from reasonray.models.weights import resolve

PAINTER = "package:reasonray/mini/zoo/painter"


@pytest.mark.parametrize(
    ("build", "name", "count"),
    [
        # Of the published checkpoints' weights.
        (architectures.unet, "CompVis/stable-diffusion-v1-4", 859_520_964),
        (architectures.vae, "timbrooks/instruct-pix2pix", 83_653_863),
        (architectures.text_encoder, "timbrooks/instruct-pix2pix", 123_060_480),
        # As their authors and the hub round them.
        (architectures.mllm, "llava-hf/llava-1.5-7b-hf", 7.06e9),
        (architectures.captioner, "Salesforce/blip2-opt-2.7b", 3.74e9),
        (architectures.captioner, "Salesforce/blip2-opt-6.7b-coco", 7.75e9),
        (architectures.detector, "IDEA-Research/grounding-dino-tiny", 172e6),
        (architectures.detector, "IDEA-Research/grounding-dino-base", 233e6),
        (architectures.causal_lm, "Qwen/Qwen3-30B-A3B-Instruct-2507", 30.5e9),
    ],
)
def test_a_known_model_has_its_published_number_of_parameters(
    build: Callable[[ModelConfig], Any], name: str, count: float
) -> None:
    tolerance = 0 if isinstance(count, int) else 0.01
    assert parameters(build(ModelConfig(name=name))) == pytest.approx(count, rel=tolerance)


@pytest.mark.parametrize("name", ["timbrooks/instruct-pix2pix", "CompVis/stable-diffusion-v1-4"])
def test_the_editors_unet_takes_eight_channels_and_has_860_million_parameters(name: str) -> None:
    unet = architectures.editor_unet(ModelConfig(name=name))
    assert unet.conv_in.in_channels == 8
    assert parameters(unet) == pytest.approx(860e6, rel=0.01)
    assert {p.device.type for p in unet.parameters()} == {"meta"}


def test_a_folders_own_configuration_is_taken() -> None:
    unet = architectures.unet(ModelConfig(name=PAINTER))
    where = resolve(ModelConfig(name=PAINTER))
    stored = UNet2DConditionModel.from_pretrained(where, subfolder="unet")
    assert parameters(unet) == stored.num_parameters()


def test_a_model_that_is_nowhere_is_told_as_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architectures, "_hub_answers", lambda: False)
    with pytest.raises(UnknownModelError, match="the hub does not answer"):
        architectures.causal_lm(ModelConfig(name="nobody/nothing"))
    with pytest.raises(UnknownModelError, match="no configuration in"):
        architectures.unet(ModelConfig(name=str(tmp_path)))
