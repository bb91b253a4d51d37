"""What the models that look at pictures are taught: labels must say what the pictures show."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from reasonray.mini import ZOO
from reasonray.mini.classifier import NONE
from reasonray.mini.evaluation.captioner import objects_named
from reasonray.mini.training import captioner, classifier, clip, detector, dino
from reasonray.mini.training.scenes import soften
from reasonray.mini.training.vision import (
    KIND_NAMES,
    NAMES,
    NO_MENTION,
    NO_OBJECT,
    patch_labels,
)
from reasonray.mini.training.vocabulary import OTHER_NOUNS
from reasonray.sources.mini.catalogue import CATEGORIES, KINDS
from reasonray.sources.mini.world import (
    IMAGE_SIZE,
    REAL,
    SceneObject,
    caption,
    plainly_said,
    render,
    replaced,
    sample_scene,
)

REAL_SCENES = [plainly_said(sample_scene(seed, scenery=REAL)) for seed in range(200)]


def test_softening_leaves_the_original_and_its_shape_alone() -> None:
    for seed in range(20):
        scene = sample_scene(seed)
        image = render(scene)
        before = image.copy()
        soft = soften(image, scene, np.random.default_rng(seed), chance=1)
        assert (image == before).all()
        assert soft.shape == image.shape
        assert soft.dtype == np.uint8
        assert np.abs(soft.astype(int) - image).mean() < 12


def test_other_nouns_are_in_no_scene() -> None:
    assert not set(OTHER_NOUNS) & set(CATEGORIES)


def test_a_batch_follows_from_its_step_alone() -> None:
    tokenizer = detector.build_processor().tokenizer
    first, again, other = (detector.batch(step, 4, tokenizer) for step in (3, 3, 4))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.pixels, other.pixels)


def test_a_detectors_targets_are_the_tokens_and_boxes_of_its_phrases() -> None:
    tokenizer = detector.build_processor().tokenizer
    shapes, repeated = set(), 0
    for step in range(12):
        batch = detector.batch(step, 4, tokenizer)
        height, width = batch.pixels.shape[-2:]
        shapes.add((height, width))
        for tokens, boxes, positives in zip(
            batch.tokens, batch.boxes, batch.positives, strict=True
        ):
            phrases = [tokenizer.decode(tokens[positive]) for positive in positives]
            assert set(phrases) <= set(KINDS)
            repeated += len(set(phrases)) < len(phrases)
            assert not len(boxes) or (boxes.min() > 0 and boxes.max() <= 1)
            corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
            assert not len(boxes) or (corners.min() > -1e-6 and corners.max() < 1 + 1e-6)
    assert (IMAGE_SIZE, IMAGE_SIZE) in shapes
    assert len(shapes) > 5
    assert all(min(shape) <= IMAGE_SIZE and max(shape) <= 2 * IMAGE_SIZE for shape in shapes)
    assert repeated > 2


@pytest.mark.parametrize("size", [(96, 96), (64, 192), (107, 96), (192, 64), (96, 133)])
def test_a_detectors_levels_are_its_feature_maps(size: tuple[int, int]) -> None:
    backbone = detector.build().model.backbone.conv_encoder.model
    maps = backbone(torch.zeros(1, 3, *size)).feature_maps
    levels = [detector.level(stride, size) for stride in detector.STRIDES]
    assert [tuple(each.shape[-2:]) for each in maps] == levels


def test_a_detectors_prompts_are_what_its_tokenizer_makes_of_the_text() -> None:
    tokenizer = detector.build_processor().tokenizer
    batch = detector.batch(1, 8, tokenizer)
    for tokens, mask in zip(batch.tokens, batch.mask, strict=True):
        text = tokenizer.decode(tokens[mask], skip_special_tokens=True)
        assert tokenizer(text)["input_ids"] == tokens[mask].tolist()


def test_the_librarys_phrase_boundaries_keep_their_token_ids() -> None:
    tokenizer = detector.build_processor().tokenizer
    assert tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]", ".", "?"]) == [101, 102, 1012, 1029]


def test_a_captioners_tokens_give_every_caption_back() -> None:
    tokenizer = captioner.build_processor().tokenizer
    for scene in (*map(sample_scene, range(200)), *REAL_SCENES):
        text = caption(scene)
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_captioners_labels_name_each_patch_and_object() -> None:
    tokenizer = captioner.build_processor().tokenizer
    batch = captioner.batch(0, 24, tokenizer)
    side = IMAGE_SIZE // captioner.PATCH
    assert batch.patches.shape == (24, side * side)
    assert batch.counts.max() > 1
    for i, objects in enumerate(batch.objects):
        shown = [int(o) for o in objects if o < NO_OBJECT]
        for rank, name in enumerate(shown):
            # A small object may cover no patch's centre.
            assert set(batch.patches[i][batch.ranks[i] == rank].tolist()) <= {name}
        assert set(batch.ranks[i].tolist()) <= {*range(len(shown)), NO_MENTION}
        text = tokenizer.decode(batch.labels[i][batch.labels[i] >= 0], skip_special_tokens=True)
        counted = zip(shown, batch.counts[i].tolist(), strict=False)
        named = [KIND_NAMES[kind] for kind, count in counted for _ in range(count)]
        assert objects_named(text) == sorted(named)


def test_patches_of_a_real_scene_are_labelled_as_it_is_squeezed() -> None:
    sky = replace(sample_scene(0), width=288, height=96)
    table = SceneObject("table", 144, 0, 96)
    cup = SceneObject("cup", 156, 12, 36, holder=0)
    names, ranks = patch_labels(replace(sky, objects=(table, cup)), 12)
    assert KIND_NAMES[int(names.view(8, 8)[1, 4])] == "cup"
    assert set(names.view(8, 8)[4:, 4:6].flatten().tolist()) == {KIND_NAMES.index("table")}
    assert set(names.view(8, 8)[:, :4].flatten().tolist()) == {NO_OBJECT}
    # "a cup on a table"
    assert ranks.view(8, 8)[1, 4] == 0
    assert ranks.view(8, 8)[6, 5] == 1


def test_training_further_begins_with_the_saved_weights(tmp_path: Path) -> None:
    course = captioner.course(tmp_path, tmp_path)
    further = course.further(ZOO / "captioner", 10)
    assert further.schedule.num_steps == 10
    with torch.no_grad():
        plain = [sample_scene(seed) for seed in range(6)]
        model: Any = further.module.captioner
        model.eval()
        processor = captioner.build_processor()
        encoded = processor(images=[render(scene) for scene in plain], return_tensors="pt")
        texts = processor.batch_decode(model.generate(**encoded, max_new_tokens=30))
    right = [caption(scene) in text for scene, text in zip(plain, texts, strict=True)]
    assert sum(right) >= 5
    steps: list[int] = []

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        steps.append(step)
        return course.loss(step)

    stepping = replace(course, loss=loss)
    stepping.further(ZOO / "captioner", 10).loss(0)
    assert steps == [course.schedule.num_steps]


@pytest.mark.parametrize("step", [0, 1])
def test_a_classifiers_lessons_hold_objects_and_empty_boxes(step: int) -> None:
    crops, labels = classifier.batch(step, 8)
    empty = classifier.LABELS.index(NONE)
    assert len(crops) == len(labels)
    assert (labels == empty).sum() >= 8
    assert (labels != empty).sum() >= 8
    assert crops.abs().max() <= 1


def test_a_clips_batch_holds_each_scene_with_and_without_one_edit() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(ZOO / "painter" / "tokenizer")
    batch = clip.batch(0, 6, tokenizer)
    texts = tokenizer.batch_decode(batch.tokens, skip_special_tokens=True)
    for before, after in zip(range(6), range(6, 12), strict=True):
        shown, new = (set(batch.present[i].nonzero().flatten().tolist()) for i in (before, after))
        assert len(shown) == len(new) == len(shown & new) + 1
        assert (batch.patches[before] != batch.patches[after]).any()
        for number, text in ((before, texts[before]), (after, texts[after])):
            assert {NAMES[int(i)] for i in batch.present[number].nonzero()} == {
                name for name in NAMES if name in objects_named(text)
            }


def test_scenes_are_as_alike_as_what_they_hold() -> None:
    scene = next(s for s in map(sample_scene, range(50)) if len(s.objects) == 2)
    fresh = [name for name in CATEGORIES if name not in scene.categories]
    moved = replace(scene.objects[0], left=(scene.objects[0].left + 48) % 56)
    others = {
        "moved": replace(scene, objects=(moved, scene.objects[1])),
        "one replaced": replaced(scene, 0, fresh[0]),
        "both replaced": replaced(replaced(scene, 0, fresh[0]), 1, fresh[1]),
    }
    alike = {
        name: torch.cosine_similarity(dino.contents(scene), dino.contents(other), dim=0).item()
        for name, other in others.items()
    }
    assert 1 > alike["moved"] > alike["one replaced"] > alike["both replaced"] > 0


def test_a_softened_edit_counts_as_the_edit() -> None:
    batch = dino.batch(0, 4)
    sharp, soft = slice(8, 12), slice(12, 16)
    assert torch.allclose(batch.alike[sharp, soft].diagonal(), torch.ones(4))
    assert (batch.pixels[sharp] != batch.pixels[soft]).any()
    assert (batch.alike[:4, sharp].diagonal() < 0.8).all()
