import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_editor
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffusers import EulerDiscreteScheduler, StableDiffusionInstructPix2PixPipeline
from tiny_editor import picture

from reasonray.editor.pipeline import ReasonEditPipeline


def editor(kind: str = "mlp", **options: Any) -> Any:
    pipe: Any = ReasonEditPipeline(
        vae=tiny_editor.vae(),
        unet=tiny_editor.unet(),
        scheduler=tiny_editor.scheduler(),
        **tiny_editor.multimodal_parts(kind),
        **options,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edited(pipe: Any, images: Any, said: Any, seeds: list[int]) -> Any:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(images, said, num_inference_steps=3, generator=generators, output_type="np").images


def test_with_clip_s_text_it_is_diffusers_instructpix2pix() -> None:
    shared: dict[str, Any] = {
        "vae": tiny_editor.vae(),
        "unet": tiny_editor.unet(),
        "scheduler": tiny_editor.scheduler(),
        **tiny_editor.text_parts(),
    }
    theirs: Any = StableDiffusionInstructPix2PixPipeline(
        **shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    ours: Any = ReasonEditPipeline(**shared)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    settings: dict[str, Any] = {
        "num_inference_steps": 8,
        "guidance_scale": 5.0,
        "image_guidance_scale": 1.4,
        "latents": noise,
        "output_type": "np",
    }
    said = "Turn the bee into some honey"
    expected = theirs(said, picture(), **settings).images
    got = ours(picture(), said, **settings).images
    assert expected.std() > 0.05
    assert np.abs(got - expected).mean() < 1 / 255
    other = ours(picture(), "Turn the cow into a car", **settings).images
    assert np.abs(other - expected).max() > 1e-5


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
def test_the_first_noise_is_the_schedule_s_of_this_call() -> None:
    """Euler's initial sigma depends on the number of steps."""
    shared: dict[str, Any] = {
        "vae": tiny_editor.vae(), "unet": tiny_editor.unet(), **tiny_editor.text_parts(),
    }  # fmt: skip
    config = {**tiny_editor.scheduler().config, "timestep_spacing": "leading"}
    theirs: Any = StableDiffusionInstructPix2PixPipeline(
        **shared, scheduler=EulerDiscreteScheduler.from_config(config), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    ours: Any = ReasonEditPipeline(**shared, scheduler=EulerDiscreteScheduler.from_config(config))
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    settings: dict[str, Any] = {"num_inference_steps": 4, "latents": noise, "output_type": "np"}
    expected = theirs("Turn the bee into some honey", picture(), **settings).images
    for _ in range(2):
        got = ours(picture(), "Turn the bee into some honey", **settings).images
        assert np.abs(got - expected).mean() < 1 / 255


def test_an_offloaded_model_is_called_where_the_libraries_wait_for_it() -> None:
    pipe = editor(tokens="text")
    expected = edited(pipe, picture(), "Show what it makes.", [5])
    called = []

    class Watching(ModelHook):  # type: ignore[misc]
        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            called.append(type(module).__name__)
            return args, kwargs

    parts = ("mllm", "connector", "unet")
    for name in parts:
        add_hook_to_module(getattr(pipe, name), Watching())
    try:
        got = edited(pipe, picture(), "Show what it makes.", [5])
    finally:
        for name in parts:
            remove_hook_from_module(getattr(pipe, name))
    assert {type(getattr(pipe, name)).__name__ for name in parts} == set(called)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("size", [(75, 25), (26, 70)])
def test_a_long_picture_is_edited_whole(size: tuple[int, int]) -> None:
    """Its ends reach the multimodal model, and the edit has its shape."""
    pipe = editor(tokens="last")
    plain = picture(0, size)
    changed = plain.copy()
    changed.paste((255, 0, 0), (0, 0, 12, 12))
    height, width = edited(pipe, plain, "Show what it makes.", [5]).shape[1:3]
    assert (width, height) == (size[0] // 2 * 2, size[1] // 2 * 2)
    states = [pipe.conditions([each], ["Show what it makes."])[0][0] for each in (plain, changed)]
    assert (states[0] - states[1]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["mlp", "resampler"])
@pytest.mark.parametrize("tokens", ["all", "text", "last"])
def test_batch_mates_change_nothing(kind: str, tokens: str) -> None:
    pipe = editor(kind, tokens=tokens)
    images = [picture(seed) for seed in range(3)]
    said = ["Short.", "Show what it makes instead, and do not forget the golden pot.", "A car"]
    together = edited(pipe, images, said, [1, 2, 3])
    for i in range(3):
        alone = edited(pipe, images[i], said[i], [i + 1])
        assert np.abs(together[i] - alone[0]).max() < 1 / 255


@pytest.mark.parametrize("kind", ["mlp", "resampler"])
def test_a_saved_editor_edits_as_before(kind: str, tmp_path: Path) -> None:
    pipe = editor(kind, tokens="text")
    pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    assert json.loads((tmp_path / "model_index.json").read_text())["tokens"] == "text"
    loaded: Any = ReasonEditPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    before = edited(pipe, picture(), "Show what it makes.", [5])
    assert np.abs(edited(loaded, picture(), "Show what it makes.", [5]) - before).max() < 1e-5


@pytest.mark.parametrize(
    ("images", "said", "match"),
    [
        ([picture(), picture()], ["one"], "2 pictures, but 1 instructions"),
        ([], "one", "no picture"),
        ([picture(), picture(size=(48, 32))], "one", "one size"),
    ],
)
def test_what_does_not_fit_together_is_refused(images: Any, said: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        editor()(images, said)


def test_half_an_mllm_or_no_condition_at_all_is_refused() -> None:
    parts = tiny_editor.multimodal_parts()
    common: dict[str, Any] = {
        "vae": tiny_editor.vae(),
        "unet": tiny_editor.unet(),
        "scheduler": tiny_editor.scheduler(),
    }
    with pytest.raises(ValueError, match="belong together"):
        ReasonEditPipeline(**common, mllm=parts["mllm"])
    with pytest.raises(ValueError, match="either"):
        ReasonEditPipeline(**common)
    with pytest.raises(ValueError, match="takes 4 channels"):
        ReasonEditPipeline(**{**common, "unet": tiny_editor.unet(4)}, **parts)
