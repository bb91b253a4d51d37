import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_editor
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionInstructPix2PixPipeline
from PIL import Image

from reasonray.editor.conditioning import multimodal_states, null_states
from reasonray.editor.connector import Connector
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.editor.unet import with_image_channels


def picture(seed: int = 0, size: tuple[int, int] = (32, 32)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def editor(kind: str = "mlp", **options: Any) -> ReasonEditPipeline:
    pipe = ReasonEditPipeline(
        vae=tiny_editor.vae(),
        unet=tiny_editor.unet(),
        scheduler=tiny_editor.scheduler(),
        **tiny_editor.multimodal_parts(kind),
        **options,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edited(pipe: ReasonEditPipeline, images: Any, said: Any, seeds: list[int]) -> Any:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(images, said, num_inference_steps=3, generator=generators, output_type="np").images


def test_with_clip_s_text_it_is_diffusers_instructpix2pix() -> None:
    shared: dict[str, Any] = {
        "vae": tiny_editor.vae(),
        "unet": tiny_editor.unet(),
        "scheduler": tiny_editor.scheduler(),
        **tiny_editor.text_parts(),
    }
    theirs = StableDiffusionInstructPix2PixPipeline(
        **shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    ours = ReasonEditPipeline(**shared)
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
    theirs = StableDiffusionInstructPix2PixPipeline(
        **shared, scheduler=EulerDiscreteScheduler.from_config(config), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    ours = ReasonEditPipeline(**shared, scheduler=EulerDiscreteScheduler.from_config(config))
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    settings: dict[str, Any] = {"num_inference_steps": 4, "latents": noise, "output_type": "np"}
    expected = theirs("Turn the bee into some honey", picture(), **settings).images
    for _ in range(2):
        got = ours(picture(), "Turn the bee into some honey", **settings).images
        assert np.abs(got - expected).mean() < 1 / 255


def test_an_offloaded_model_is_called_where_the_libraries_wait_for_it() -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    pipe = editor(tokens="text")
    expected = edited(pipe, picture(), "Show what it makes.", [5])
    called = []

    class Watching(hooks.ModelHook):  # type: ignore[misc, name-defined]
        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            called.append(type(module).__name__)
            return args, kwargs

    parts = ("mllm", "connector", "unet")
    for name in parts:
        hooks.add_hook_to_module(getattr(pipe, name), Watching())
    try:
        got = edited(pipe, picture(), "Show what it makes.", [5])
    finally:
        for name in parts:
            hooks.remove_hook_from_module(getattr(pipe, name))
    assert {type(getattr(pipe, name)).__name__ for name in parts} == set(called)
    assert np.array_equal(got, expected)


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


@pytest.mark.parametrize("kind", ["mlp", "resampler"])
def test_a_saved_editor_edits_as_before(kind: str, tmp_path: Path) -> None:
    pipe = editor(kind, tokens="text")
    pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    assert json.loads((tmp_path / "model_index.json").read_text())["tokens"] == "text"
    loaded = ReasonEditPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    before = edited(pipe, picture(), "Show what it makes.", [5])
    assert np.abs(edited(loaded, picture(), "Show what it makes.", [5]) - before).max() < 1e-5


def test_an_mlp_maps_each_token_alone_and_a_resampler_gives_a_fixed_length() -> None:
    torch.manual_seed(0)
    states, mask = torch.randn(2, 9, 12), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    mlp = Connector(12, 16)
    given, given_mask = mlp(states, mask)
    assert given.shape == (2, 9, 16)
    assert torch.equal(given_mask, mask)
    assert torch.allclose(mlp(states[:, 3:4], mask[:, 3:4])[0], given[:, 3:4], atol=1e-6)
    resampler = Connector(12, 16, kind="resampler", num_queries=5, num_heads=2)
    read, read_mask = resampler(states, mask)
    assert read.shape == (2, 5, 16)
    assert read_mask.all()
    states[1, 6:] = 9.0
    assert torch.allclose(resampler(states, mask)[0], read, atol=1e-6)


def test_new_image_channels_start_silent() -> None:
    plain = tiny_editor.unet(in_channels=4)
    noisy, source = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)
    text = torch.randn(2, 3, tiny_editor.WIDTH)
    with torch.no_grad():
        expected = plain(noisy, 10, encoder_hidden_states=text).sample
        wide = with_image_channels(plain, 4)
        got = wide(torch.cat([noisy, source], 1), 10, encoder_hidden_states=text).sample
    assert wide.config.in_channels == 8
    assert torch.allclose(got, expected, atol=1e-6)
    assert with_image_channels(wide, 4) is wide
    with pytest.raises(ValueError, match="9 channels"):
        with_image_channels(tiny_editor.unet(in_channels=9), 4)


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
