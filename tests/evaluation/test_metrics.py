import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel

from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig
from reasonray.evaluation.items import INPUT_METRICS, TRUTH_METRICS
from reasonray.evaluation.metrics import (
    InputMetrics,
    Metrics,
    difference_interval,
    distance,
    mean_interval,
    means,
)
from reasonray.models.embedders import Clip, Dino

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAPTION = "a cat on a mat"


def picture(seed: int, size: tuple[int, int] = (50, 40)) -> PIL.Image.Image:
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise)


IMAGES = [picture(1), picture(2, (60, 90)), picture(3, (64, 64))]


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (4, 2)) -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, colour)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP with 32-pixel pictures and a vocabulary of letters, as the hub lays it out."""
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [
        "<|startoftext|>",
        "<|endoftext|>",
        *letters,
        *(f"{letter}</w>" for letter in letters),
    ]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=12
    )
    torch.manual_seed(3)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "vocab_size": len(tokens), "max_position_embeddings": 12}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "feature_extractor_type": "CLIPFeatureExtractor",
                "do_resize": True,
                "size": 32,
                "resample": 3,
                "do_center_crop": True,
                "crop_size": 32,
                "do_normalize": True,
                "image_mean": MEAN,
                "image_std": STD,
            }
        )
    )
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ViT of 28 pixels, whose files say what those of facebook/dino-vits16 say."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(4)
    config = ViTConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=7,
    )
    ViTModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "feature_extractor_type": "ViTFeatureExtractor",
                "do_resize": True,
                "size": 28,
                "resample": 2,
                "do_normalize": True,
                "image_mean": MEAN,
                "image_std": STD,
            }
        )
    )
    return folder


def prepared(image: PIL.Image.Image, short: int, crop: int) -> torch.Tensor:
    """What torchvision's Resize, CenterCrop, ToTensor and Normalize make of a picture."""
    width, height = image.size
    scale = short / min(width, height)
    size = (int(width * scale), int(height * scale))
    resized = image.resize(size, PIL.Image.Resampling.BICUBIC)
    left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
    cut = np.asarray(resized.crop((left, top, left + crop, top + crop)), np.float32) / 255
    normal = (cut - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(normal).permute(2, 0, 1)[None]


def same_direction(unit: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.allclose(unit, torch.nn.functional.normalize(wanted[0], dim=0), atol=2e-4)


def test_distances_are_means_over_pixels_and_channels_of_0_to_1() -> None:
    l1, l2 = distance(flat((255, 0, 51)), flat((0, 0, 0)))
    assert l1 == pytest.approx((1 + 0 + 0.2) / 3)
    assert l2 == pytest.approx((1 + 0 + 0.04) / 3)


def test_an_output_of_another_size_is_resized_to_the_truths() -> None:
    output = PIL.Image.fromarray(np.array([[[0] * 3, [200] * 3]], np.uint8))
    truth = flat((0, 0, 0), (8, 4))
    values = np.asarray(output.resize((8, 4), PIL.Image.Resampling.BICUBIC)) / 255
    assert distance(output, truth) == pytest.approx((values.mean(), np.square(values).mean()))
    assert distance(flat((9, 9, 9), (3, 3)), flat((9, 9, 9), (8, 4))) == (0, 0)


def test_a_picture_with_transparency_is_compared_without_it() -> None:
    assert distance(PIL.Image.new("RGBA", (2, 2), (7, 7, 7, 0)), flat((7, 7, 7))) == (0, 0)


def test_clips_images_and_texts_are_those_of_the_plain_model(clip_folder: Path) -> None:
    clip = Clip(ModelConfig(name=str(clip_folder)))
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    with torch.no_grad():
        wanted = [model.vision_model(prepared(image, 32, 32)) for image in IMAGES]
        said = [model.text_model(**tokenizer(t, return_tensors="pt")) for t in (CAPTION, "a dog")]
        for row, output in zip(clip.images(IMAGES), wanted, strict=True):
            assert same_direction(row, model.visual_projection(output.pooler_output))
        for row, output in zip(clip.texts([CAPTION, "a dog"]), said, strict=True):
            assert same_direction(row, model.text_projection(output.pooler_output))


def test_a_caption_over_the_limit_is_cut_off(clip_folder: Path) -> None:
    clip = Clip(ModelConfig(name=str(clip_folder)))
    long, cut = clip.texts(["abcdefghijklmnop", "abcdefghijabcdef"])
    assert torch.allclose(long, cut)  # ten letters between start and end
    assert not torch.allclose(long, clip.texts(["abcdefghix"])[0])


def test_dinos_class_tokens_are_those_of_a_picture_prepared_as_its_authors_do(
    dino_folder: Path,
) -> None:
    # The folder's own file would squash it, bilinear: 28 = 224 / 8, so the short side is 256 / 8.
    dino = Dino(ModelConfig(name=str(dino_folder)))
    model = ViTModel.from_pretrained(dino_folder).eval()
    with torch.no_grad():
        wanted = [model(prepared(image, 32, 28)).last_hidden_state[:, 0] for image in IMAGES]
    for row, output in zip(dino.images(IMAGES), wanted, strict=True):
        assert same_direction(row, output)


def test_a_processor_that_crops_is_taken_as_it_is(dino_folder: Path, tmp_path: Path) -> None:
    for file in dino_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    own = json.loads((tmp_path / "preprocessor_config.json").read_text())
    own |= {"feature_extractor_type": "CLIPFeatureExtractor", "resample": 3}
    own |= {"do_center_crop": True, "crop_size": 28}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    dino = Dino(ModelConfig(name=str(tmp_path)))
    model = ViTModel.from_pretrained(dino_folder).eval()
    with torch.no_grad():
        wanted = model(prepared(IMAGES[1], 28, 28)).last_hidden_state[:, 0]
    assert same_direction(dino.images([IMAGES[1]])[0], wanted)


def test_every_pair_has_its_own_value_of_each_metric(
    clip_folder: Path, dino_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonray.evaluation.metrics.BATCH", 2)
    clip, dino = (ModelConfig(name=str(folder)) for folder in (clip_folder, dino_folder))
    metrics = Metrics(clip, dino)
    outputs = [IMAGES[0], IMAGES[1], IMAGES[0]]
    truths = [IMAGES[0], IMAGES[2], IMAGES[1]]
    scores = metrics(outputs, truths, [CAPTION, CAPTION, "a dog"])
    assert tuple(scores) == TRUTH_METRICS
    assert [scores[name][0] for name in TRUTH_METRICS[:4]] == pytest.approx([0, 0, 1, 1], abs=1e-5)
    alone = metrics(outputs[2:], truths[2:], ["a dog"])
    for name in TRUTH_METRICS:
        assert len(scores[name]) == 3
        assert scores[name][2] == pytest.approx(alone[name][0], abs=1e-5)
        assert means(scores)[name] == pytest.approx(sum(scores[name]) / 3)
    seen, read = Clip(clip).images(outputs), Clip(clip).texts([CAPTION, CAPTION, "a dog"])
    assert scores["CLIP-T"] == pytest.approx((seen * read).sum(1).tolist(), abs=1e-5)


def test_beside_the_input_a_step_in_pictures_is_compared_with_that_in_captions(
    clip_folder: Path, dino_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonray.evaluation.metrics.BATCH", 2)
    clip, dino = (ModelConfig(name=str(folder)) for folder in (clip_folder, dino_folder))
    outputs, inputs = [IMAGES[1], IMAGES[2], IMAGES[0]], [IMAGES[0], IMAGES[2], IMAGES[1]]
    told, before = ["a dog", "a dog", CAPTION], [CAPTION] * 3
    scores = InputMetrics(clip, dino)(outputs, inputs, told, before)
    assert tuple(scores) == INPUT_METRICS
    model = Clip(clip)
    seen, given = (model.images(images).double().numpy() for images in (outputs, inputs))
    read, known = (model.texts(texts).double().numpy() for texts in (told, before))
    step, told_step = seen[0] - given[0], read[0] - known[0]
    cosine = step @ told_step / (np.linalg.norm(step) * np.linalg.norm(told_step))
    assert scores["CLIP-dir"][0] == pytest.approx(cosine, abs=1e-5)
    assert scores["CLIP-out"] == pytest.approx((seen * read).sum(1).tolist(), abs=1e-5)
    # Nothing was done to the second picture, nothing is to be done to the third.
    assert scores["CLIP-dir"][1:] == pytest.approx([0, 0], abs=1e-5)
    unchanged = [scores[name][1] for name in ("CLIP-im", "L1", "DINO")]
    assert unchanged == pytest.approx([1, 0, 1], abs=1e-5)
    assert scores["L1"][0] == distance(outputs[0], inputs[0])[0]
    alike = Dino(dino).images([outputs[0], inputs[0]])
    assert scores["DINO"][0] == pytest.approx(float(alike[0] @ alike[1]), abs=1e-5)


def test_an_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        theirs = rng.normal(0.5, 1, 60)  # pairs differ much, editors little
        ours = theirs + rng.normal(0.1, 0.2, 60)
        low, high = difference_interval(
            ours.tolist(), theirs.tolist(), level=0.9, num_resamples=300
        )
        assert high - low < 0.15
        held += low <= 0.1 <= high
    assert 0.8 <= held / 200 <= 0.97


@pytest.mark.parametrize("count", [1, 7, 300])
def test_an_interval_of_a_mean_is_a_plain_loop_s(count: int) -> None:
    values, rng = np.random.default_rng(1).normal(size=count), np.random.default_rng(0)
    drawn = [values[rng.integers(count, size=count)].mean() for _ in range(2_000)]
    interval = mean_interval(values, num_resamples=2_000)
    assert interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12)


def test_values_of_one_picture_are_drawn_together() -> None:
    values, clusters = [1.0, 3.0, 2.0, 9.0, 4.0], ["a", "a", "b", "c", "c"]
    by_cluster = [values[:2], values[2:3], values[3:]]
    rng = np.random.default_rng(0)
    chosen = rng.integers(3, size=(2_000, 3))
    drawn = [np.mean([v for i in row for v in by_cluster[i]]) for row in chosen]
    interval = mean_interval(values, clusters=clusters, num_resamples=2_000)
    assert interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12)


def test_what_was_measured_twice_makes_no_interval_narrower() -> None:
    values = np.random.default_rng(0).normal(size=40)
    once = mean_interval(values)
    twice = np.repeat(values, 2)
    assert mean_interval(twice, clusters=list(np.repeat(range(40), 2))) == pytest.approx(once)
    assert np.diff(mean_interval(twice)) < 0.8 * np.diff(once)


def test_an_interval_follows_from_its_seed() -> None:
    values = [0.1, 0.4, 0.3, 0.9], [0.2, 0.1, 0.35, 0.4]
    first, again, other = (
        difference_interval(*values, num_resamples=20, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([0.1], [0.1, 0.2])])
def test_an_interval_needs_the_same_pairs(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(UserError, match="the same pairs"):
        difference_interval(ours, theirs)
