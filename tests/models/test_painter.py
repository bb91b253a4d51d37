import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.pipelines.deprecated.stable_diffusion_gligen import StableDiffusionGLIGENPipeline
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig, PaintConfig
from reasonray.core.window import Window
from reasonray.models.painter import Painter, composite, outside_mask

SIDE = 32
"""Of the random model's pictures; its latents are 8 x 8 x 4."""

CONFIG = PaintConfig(num_inference_steps=5, guidance_scale=3.0, scheduled_sampling_beta=0.6)


def random_parts(scheduler: str = "DDIMScheduler", *, gated: bool = True) -> dict[str, Any]:
    """A GLIGEN inpainter that was never trained, whose every input still shows in its picture."""
    torch.manual_seed(0)
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=0.5,
    )
    unet: Any = UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=9,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
        attention_type="gated" if gated else "default",
    )
    with torch.no_grad():
        # Sampling from the posterior, as diffusers does, becomes taking its mode.
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -30
        vae.decoder.conv_out.weight *= 4
        gates: list[Any] = [m for m in unet.modules() if isinstance(m, GatedSelfAttentionDense)]
        for gate in gates:
            gate.alpha_attn.fill_(3)
            gate.alpha_dense.fill_(3)
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=12
    )
    text = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        intermediate_size=16,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    kinds: dict[str, Any] = {"DDIMScheduler": DDIMScheduler, "PNDMScheduler": PNDMScheduler}
    return {
        "vae": vae.eval(),
        "unet": unet.eval(),
        "text_encoder": CLIPTextModel(text).eval(),
        "tokenizer": tokenizer,
        "scheduler": kinds[scheduler](beta_schedule="scaled_linear"),
    }


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(**random_parts())


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, different everywhere."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def pixels(image: Image.Image | None) -> np.ndarray:
    assert image is not None
    return np.asarray(image).astype(int)


def paint_one(
    painter: Painter,
    image: Image.Image,
    box: tuple[float, ...],
    *,
    phrase: str = "cat",
    prompt: str = "a cat",
    seed: int = 7,
    **settings: object,
) -> Image.Image | None:
    config = CONFIG.model_copy(update={"feather": 0.0, **settings})
    [painted] = painter.paint([image], [box], [phrase], [prompt], [seed], config)
    return painted


@pytest.mark.filterwarnings("ignore:Accessing config attribute:FutureWarning")
@pytest.mark.parametrize(
    ("scheduler", "negative_prompt"),
    [("DDIMScheduler", ""), ("PNDMScheduler", ""), ("DDIMScheduler", "lowres and blurred")],
)
def test_a_square_picture_becomes_what_diffusers_pipeline_makes_of_it(
    scheduler: str, negative_prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, box = picture(SIDE, SIDE), (8, 4, 24, 28)
    parts = random_parts(scheduler)
    ours = paint_one(Painter(**parts), image, box, negative_prompt=negative_prompt)

    theirs: Any = StableDiffusionGLIGENPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    theirs.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(7)
    start = torch.randn(1, 4, SIDE // 4, SIDE // 4, generator=generator)
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape, generator=generator))
    reference = theirs(
        prompt="a cat",
        negative_prompt=negative_prompt,
        gligen_phrases=["cat"],
        gligen_boxes=[[v / SIDE for v in box]],
        gligen_inpaint_image=image,
        latents=start,
        num_inference_steps=CONFIG.num_inference_steps,
        guidance_scale=CONFIG.guidance_scale,
        gligen_scheduled_sampling_beta=CONFIG.scheduled_sampling_beta,
    ).images[0]

    inside = np.s_[4:28, 8:24]
    assert np.abs(pixels(ours)[inside] - pixels(reference)[inside]).mean() < 1
    assert pixels(reference)[inside].std() > 10, "a flat picture would prove nothing"
    assert np.abs(pixels(ours)[inside] - pixels(image)[inside]).mean() > 10


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((48, 32), (30.0, 5.0, 44.0, 20.0)),
        ((30, 70), (3.5, 40.25, 20.0, 60.75)),
        ((90, 40), (2.0, 10.0, 80.0, 30.0)),
        ((50, 33), (-4.0, 20.0, 20.0, 40.0)),
        ((64, 64), (0.0, 0.0, 64.0, 64.0)),
    ],
    ids=["wide", "tall", "longer than the short side", "beyond the edge", "everything"],
)
def test_the_painted_region_of_a_picture_of_any_shape_is_the_box(
    painter: Painter, size: tuple[int, int], box: tuple[float, ...]
) -> None:
    image = picture(*size)
    painted = paint_one(painter, image, box)
    assert painted is not None
    assert painted.size == size
    changed = (pixels(painted) != pixels(image)).any(axis=2)
    centres_x, centres_y = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    inside = ((centres_x > box[0]) & (centres_x < box[2]))[None] & (
        (centres_y > box[1]) & (centres_y < box[3])
    )[:, None]
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.9


def test_a_sample_does_not_depend_on_its_batch_mates(painter: Painter) -> None:
    sizes = [(32, 32), (50, 40), (33, 61), (96, 96), (32, 32), (40, 90), (64, 48), (32, 32)]
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    boxes = [(4.0 + i, 5.0, 20.0 + i, 27.0 - i) for i in range(8)]
    phrases, prompts = [*"abcdefgh"], [f"{word} on a wall" for word in "abcdefgh"]
    seeds = list(range(8))
    together = painter.paint(images, boxes, phrases, prompts, seeds, CONFIG)
    for i in range(8):
        [alone] = painter.paint(
            [images[i]], [boxes[i]], [phrases[i]], [prompts[i]], [seeds[i]], CONFIG
        )
        assert np.abs(pixels(together[i]) - pixels(alone)).max() <= 1


@pytest.mark.parametrize(
    "changed",
    [
        {"phrase": "dog"},
        {"prompt": "a dog"},
        {"seed": 8},
        {"guidance_scale": 1.0},
        {"negative_prompt": "blurred"},
    ],
    ids=["phrase", "prompt", "seed", "guidance", "negative prompt"],
)
def test_each_input_shows_in_the_picture(painter: Painter, changed: dict[str, Any]) -> None:
    image, box = picture(SIDE, SIDE), (8, 4, 24, 28)
    assert paint_one(painter, image, box) == paint_one(painter, image, box)
    assert paint_one(painter, image, box, **changed) != paint_one(painter, image, box)


def test_the_phrase_is_heard_only_in_the_scheduled_part_of_the_steps(painter: Painter) -> None:
    image, box = picture(SIDE, SIDE), (8, 4, 24, 28)
    deaf = [
        paint_one(painter, image, box, phrase=word, scheduled_sampling_beta=0.0)
        for word in ("cat", "dog")
    ]
    assert deaf[0] == deaf[1]


def test_box_and_phrase_are_heard_to_the_last_step_unless_told_otherwise(painter: Painter) -> None:
    # GLIGEN's own demo of inpainting has them on throughout; 0.3 is its generation's.
    painter.paint(
        [picture(SIDE, SIDE)],
        [(8, 4, 24, 28)],
        ["cat"],
        ["a cat"],
        [7],
        PaintConfig(num_inference_steps=4),
    )
    gates = [m for m in painter.unet.modules() if isinstance(m, GatedSelfAttentionDense)]
    assert gates
    assert all(gate.enabled for gate in gates)


def test_a_picture_that_is_not_finite_is_none() -> None:
    parts = random_parts()
    with torch.no_grad():
        parts["vae"].decoder.conv_out.bias[0] = math.inf
    assert paint_one(Painter(**parts), picture(SIDE, SIDE), (8, 4, 24, 28)) is None


def test_a_box_without_area_in_the_picture_is_an_error(painter: Painter) -> None:
    with pytest.raises(ValueError, match="no area in a picture of 32x32"):
        paint_one(painter, picture(SIDE, SIDE), (40, 0, 50, 10))


def test_a_folder_that_is_no_grounded_inpainter_is_the_users_mistake(tmp_path: Path) -> None:
    for name, part in random_parts(gated=False).items():
        part.save_pretrained(tmp_path / name)
    with pytest.raises(UserError, match=r"no GLIGEN inpainter.*attention_type default"):
        Painter.from_config(ModelConfig(name=str(tmp_path)))


def test_a_saved_folder_paints_as_its_parts_do(tmp_path: Path, painter: Painter) -> None:
    for name, part in random_parts().items():
        part.save_pretrained(tmp_path / name)
    loaded = Painter.from_config(ModelConfig(name=str(tmp_path)))
    image, box = picture(SIDE, SIDE), (8, 4, 24, 28)
    assert paint_one(loaded, image, box) == paint_one(painter, image, box)


def test_the_vae_sees_a_few_pictures_at_once_and_they_come_out_the_same(
    painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    decode = painter.vae.decode

    def counted(latents: torch.Tensor) -> Any:
        sizes.append(len(latents))
        return decode(latents)

    monkeypatch.setattr(painter.vae, "decode", counted)
    images = [picture(SIDE, SIDE, seed=i) for i in range(5)]
    arguments: tuple[Any, Any, Any, Any, Any] = (
        images,
        [(8, 4, 24, 28)] * 5,
        [*"abcde"],
        [*"abcde"],
        [*range(5)],
    )
    in_slices = painter.paint(*arguments, CONFIG)
    assert sizes == [4, 1]
    monkeypatch.setattr("reasonray.models.painter.SLICE", 5)
    at_once = painter.paint(*arguments, CONFIG)
    assert sizes == [4, 1, 5]
    for a, b in zip(in_slices, at_once, strict=True):
        assert np.abs(pixels(a) - pixels(b)).max() <= 1


def test_a_small_box_of_a_large_picture_is_repainted_and_nothing_else(painter: Painter) -> None:
    image, box = picture(400, 200), (380.0, 3.0, 398.0, 20.0)
    painted = paint_one(painter, image, box)
    changed = (pixels(painted) != pixels(image)).any(axis=2)
    assert changed[3:20, 380:398].mean() > 0.9
    changed[3:20, 380:398] = False
    assert not changed.any()


SIZES = st.integers(32, 400)


@given(st.data(), SIZES, SIZES, st.integers(120, 300))
def test_a_window_that_nobody_painted_gives_the_picture_back(
    data: st.DataObject, width: int, height: int, side: int
) -> None:
    # So that a part of the picture is in it.
    left = data.draw(st.integers(-50, min(100, width - 2)))
    top = data.draw(st.integers(-50, min(100, height - 2)))
    image, window = picture(width, height), Window(left, top, side)
    box = (
        max(left, 0) + 0.3,
        max(top, 0) + 0.6,
        min(left + side, width) - 0.2,
        min(top + side, height) - 0.5,
    )
    assert box[0] < box[2]
    assert box[1] < box[3]
    back = window.back(window.view(image, side))
    assert composite(image, back, window, box, 0.0) == image


def test_the_mask_covers_every_cell_the_box_touches() -> None:
    boxes = torch.tensor([[0.24, 0.25, 0.51, 0.5], [0.25, 0.25, 0.5, 0.5], [0.9, 0.0, 1.0, 0.01]])
    masks = outside_mask(boxes, (8, 8))
    covered = [[tuple(axis) for axis in np.nonzero(mask[0].numpy() == 0)] for mask in masks]
    spans = [tuple(map(int, (min(x), max(x), min(y), max(y)))) for y, x in covered]
    assert spans == [(1, 4, 2, 3), (2, 3, 2, 3), (7, 7, 0, 0)]


def test_the_edge_is_soft_inside_the_box_and_nothing_shows_outside() -> None:
    black, white = Image.new("RGB", (40, 40)), Image.new("RGB", (40, 40), "white")
    mixed = pixels(composite(black, white, Window(0, 0, 40), (10, 10, 30, 30), 0.25))[..., 0]
    assert mixed[20, 9:16].tolist() == [0, 26, 76, 128, 178, 230, 255]
    assert mixed[20, 15:25].tolist() == [255] * 10
    assert mixed[20, 24:31].tolist() == [255, 230, 178, 128, 76, 26, 0]
    assert not mixed[:10].any()
    assert not mixed[30:].any()


def test_a_box_of_many_pixels_is_taken_over_without_copies_of_it_in_floats() -> None:
    image, painted = Image.new("RGB", (2000, 1500)), Image.new("RGB", (2000, 2000), "white")
    tracemalloc.start()
    edited = composite(image, painted, Window(0, -250, 2000), (10, 10, 1990, 1490), 0.05)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert edited.getpixel((1000, 750)) == (255, 255, 255)
    assert peak < 4 * 2000 * 1500, "numpy's arrays: a byte a pixel and its like"
