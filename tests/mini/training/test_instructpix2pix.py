"""The editor's base: what its heads are taught, and what a training leaves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.sections import ModelConfig
from reasonray.editor.model import load_editor, load_scheduler, load_text_parts
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.mini import ZOO
from reasonray.mini.training import instructpix2pix, stable_diffusion, zoo
from reasonray.mini.training.instructpix2pix import NAMES
from reasonray.mini.training.loop import Schedule
from reasonray.sources.mini.world import render, sample_scene

pytestmark = pytest.mark.slow

NUM_SCENES = 4


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUM_SCENES", "BATCH"):
        monkeypatch.setattr(instructpix2pix, name, NUM_SCENES)
    monkeypatch.setattr(stable_diffusion, "SHARD", NUM_SCENES)


@pytest.fixture
def vae() -> Any:
    return AutoencoderKL.from_pretrained(ZOO / "painter" / "vae", torch_dtype=torch.float32)


@pytest.mark.usefixtures("few_scenes")
def test_labels_say_what_the_latents_and_the_text_show(tmp_path: Path, vae: Any) -> None:
    latents = instructpix2pix.kept_looks(vae, tmp_path / "latents")
    scale, tokenizer = vae.config.scaling_factor, instructpix2pix.load_tokenizer(tmp_path)
    batch = instructpix2pix.batch(0, 64, latents, scale, tokenizer)
    both = batch.with_picture & batch.with_text
    assert 0 < (~batch.with_picture).sum() < 20
    assert not batch.source[~batch.with_picture].any()
    change = (batch.target / scale - batch.source).abs().mean(1)
    for place in both.nonzero().flatten().tolist():
        meant = batch.meant[place] > 0
        assert change[place][meant].mean() > 3 * change[place][~meant].mean()
        gone, come = (NAMES[i] for i in batch.edits[place].tolist())
        assert set(batch.covered[place][meant].tolist()) == {NAMES.index(gone)}
        text = tokenizer.decode(batch.tokens[place], skip_special_tokens=True)
        assert gone in text
        assert come in text


@pytest.mark.usefixtures("few_scenes")
def test_a_training_leaves_an_editors_base(
    tmp_path: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "painter").symlink_to(ZOO / "painter")
    monkeypatch.setattr(instructpix2pix, "SCHEDULE", Schedule(num_steps=2))
    folder = zoo.train("instructpix2pix", tmp_path / "work", tmp_path)
    config = EditorConfig(
        base=ModelConfig(name=str(folder)),
        vae=ModelConfig(name=str(ZOO / "painter" / "vae")),
        condition="text",
    )
    text_encoder, tokenizer = load_text_parts(config)
    pipe: Any = ReasonEditPipeline(
        vae=vae,
        unet=load_editor(config, input_dim=1, seed=0)[0].unet,
        scheduler=load_scheduler(config),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
    )
    picture = Image.fromarray(render(sample_scene(0)))
    edited = pipe(image=picture, instruction="Turn it into a bee", num_inference_steps=1).images[0]
    assert edited.size == picture.size
