import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_base
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    AutoProcessor,
    CLIPTextModel,
    LlavaForConditionalGeneration,
    OwlViTConfig,
    OwlViTForObjectDetection,
)

import reasonray.mini
from reasonray.core.errors import UserError
from reasonray.core.sections import LanguageModelConfig, ModelConfig
from reasonray.models.captioner import Captioner
from reasonray.models.detector import Detector
from reasonray.models.embedders import Clip, Dino
from reasonray.models.painter import Painter
from reasonray.models.transformers_model import TransformersModel
from reasonray.models.weights import load_part

ZOO = Path(reasonray.mini.__file__).parent / "zoo"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

PACKAGE = "package:reasonray/mini/zoo/"

SCRIPT = """
import sys
from reasonray.core.recipe import load
from reasonray.stages import build

for argument in sys.argv[1:]:
    prefix, revision = argument.split("@")
    sections = {
        "stages.caption": "captioner",
        "stages.ground": "detector",
        "stages.paint": "painter",
        "stages.quality": "detector",
        "language_model": "language_model",
    }
    settings = [f"{place}.model.name={prefix}{name}" for place, name in sections.items()]
    settings += [f"{place}.model.revision={revision}" for place in sections]
    settings += [f"stages.quality.clip={{name: {prefix}clip, revision: {revision}}}"]
    recipe = load("mini", settings)
    for name in ("caption", "ground", "paint", "quality", "propose"):
        print(*[model["revision"] for model in build(name, recipe).models])
"""


@pytest.mark.slow
def test_rows_say_which_commit_of_the_hub_was_loaded(tmp_path: Path) -> None:
    recorded = {"me/@null": COMMIT, "me/@main": "main", f"{PACKAGE}@null": "None"}
    for model in ("captioner", "detector", "painter", "language_model", "clip"):
        cached = tmp_path / f"hub/models--me--{model}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs/main").write_text(COMMIT)
        (cached / "snapshots").mkdir()
        (cached / "snapshots" / COMMIT).symlink_to(ZOO / model)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *recorded],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [commit for commit in recorded.values() for _ in range(6)]


def language_model(config: ModelConfig) -> TransformersModel:
    return TransformersModel(LanguageModelConfig(backend="transformers", model=config))


# Named as in the zoo.
LOADERS: dict[str, Callable[[ModelConfig], object]] = {
    "captioner": Captioner,
    "detector": Detector,
    "painter": Painter.from_config,
    "language_model": language_model,
    "clip": Clip,
    "dino": Dino,
}


def refused(load: Callable[[ModelConfig], object], name: Path | str) -> str:
    """The one line, without the model's name before it."""
    with pytest.raises(UserError) as caught:
        load(ModelConfig(name=str(name)))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 800
    assert text.startswith(f"model {name}")
    return text.removeprefix(f"model {name}")


def copied(model: str, folder: Path) -> Path:
    return Path(shutil.copytree(ZOO / model, folder / model))


@pytest.mark.parametrize(
    ("model", "other", "complaint"),
    [
        ("captioner", "mllm", ": no Blip2ForConditionalGeneration can be loaded"),
        ("detector", "captioner", ": no AutoModelForZeroShotObjectDetection can be loaded"),
        ("painter", "clip", "/scheduler: no DDIMScheduler can be loaded"),
        ("painter", "instructpix2pix", "/vae: no AutoencoderKL can be loaded"),
        ("language_model", "dino", ": no AutoTokenizer can be loaded"),
        ("clip", "captioner", ": no CLIPModel can be loaded"),
        ("dino", "classifier", ": no ViTModel can be loaded"),
    ],
)
def test_a_model_of_another_kind_is_one_line(model: str, other: str, complaint: str) -> None:
    name = f"package:reasonray/mini/zoo/{other}"
    assert refused(LOADERS[model], name).startswith(complaint)


@pytest.mark.parametrize("model", LOADERS)
def test_a_folder_that_is_not_there_is_one_line(model: str, tmp_path: Path) -> None:
    assert "can be loaded: " in refused(LOADERS[model], tmp_path / "gone")
    name = "package:reasonray/mini/zoo/gone"
    assert refused(LOADERS[model], name).startswith(": no folder mini/zoo/gone in an installed")


@pytest.mark.parametrize("model", LOADERS)
def test_weights_that_are_cut_off_are_one_line(model: str, tmp_path: Path) -> None:
    folder = copied(model, tmp_path)
    path = next(folder.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:1000])
    place = f"/{path.parent.name}" if path.parent != folder else ""
    assert refused(LOADERS[model], folder).startswith(f"{place}: no ")


@pytest.mark.parametrize("model", ["captioner", "detector", "painter", "language_model", "clip"])
def test_a_model_without_its_vocabulary_is_one_line(model: str, tmp_path: Path) -> None:
    folder = copied(model, tmp_path)
    for path in folder.rglob("tokenizer*.json"):
        path.unlink()
    place = "/tokenizer" if model == "painter" else ""
    assert refused(LOADERS[model], folder).startswith(f"{place}: no ")


def test_a_detector_that_is_no_grounding_dino_is_one_line(tmp_path: Path) -> None:
    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    tiny["num_attention_heads"] = 2
    config = OwlViTConfig(text_config=tiny, vision_config={**tiny, "image_size": 32})
    OwlViTForObjectDetection(config).save_pretrained(tmp_path)
    assert refused(Detector, tmp_path).startswith(": a detector of another kind (owlvit)")


def test_a_scheduler_that_diffusers_does_not_know_is_one_line(tmp_path: Path) -> None:
    folder = copied("painter", tmp_path)
    (folder / "scheduler/scheduler_config.json").write_text('{"_class_name": "Fast"}')
    assert "/scheduler: diffusers" in refused(Painter.from_config, folder)


KINDS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
}


@pytest.mark.parametrize("part", KINDS)
def test_a_part_that_is_cut_off_is_named(part: str, tmp_path: Path) -> None:
    base = tiny_base.base(tmp_path)
    [path] = (base / part).glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    complaint = refused(lambda model: load_part(KINDS[part], model, part), base)
    assert complaint.startswith(f"/{part}: no {KINDS[part].__name__} can be loaded")


@pytest.mark.parametrize(
    ("part", "other", "complaint"),
    [
        ("unet", "vae", "of AutoencoderKL, not of UNet2DConditionModel"),
        ("vae", "unet", "of UNet2DConditionModel, not of AutoencoderKL"),
        ("text_encoder", "unet", "no config.json that says what model it is"),
    ],
)
def test_a_part_in_another_s_place_is_named(
    part: str, other: str, complaint: str, tmp_path: Path
) -> None:
    base = tiny_base.base(tmp_path)
    shutil.rmtree(base / part)
    shutil.copytree(base / other, base / part)
    assert complaint in refused(lambda model: load_part(KINDS[part], model, part), base)


def llava(model: ModelConfig) -> None:
    load_part(LlavaForConditionalGeneration, model)
    load_part(AutoProcessor, model)


def test_an_mllm_that_is_no_llava_is_one_line(tmp_path: Path) -> None:
    base = tiny_base.base(tmp_path)
    complaint = refused(llava, base / "text_encoder")
    assert complaint.startswith(": no LlavaForConditionalGeneration")
    assert "of clip_text_model, not of llava" in complaint
    assert "config.json" in refused(llava, base)


def test_an_mllm_without_its_processor_or_vocabulary_is_one_line(tmp_path: Path) -> None:
    folder = tiny_base.mllm(tmp_path)
    for path in folder.glob("tokenizer*.json"):
        path.unlink()
    assert refused(llava, folder).startswith(": no AutoProcessor can be loaded")
    (folder / "processor_config.json").unlink()
    assert refused(llava, folder).startswith(": no AutoProcessor can be loaded")
