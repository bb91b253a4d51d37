"""What the models that look at pictures are taught: labels must say what the pictures show."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from reasonray.mini import ZOO
from reasonray.mini.classifier import NONE
from reasonray.mini.evaluation.captioner import objects_named
from reasonray.mini.training import captioner, classifier, clip, detector, dino
from reasonray.mini.training.scenes import soften
from reasonray.mini.training.vision import NAMES
from reasonray.mini.training.vocabulary import OTHER_NOUNS
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import IMAGE_SIZE, caption, render, replaced, sample_scene


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
    batch = detector.batch(0, 16, tokenizer)
    assert any(len(boxes) for boxes in batch.boxes)
    for tokens, boxes, positives in zip(batch.tokens, batch.boxes, batch.positives, strict=True):
        for box, positive in zip(boxes, positives, strict=True):
            assert tokenizer.decode(tokens[positive]) in CATEGORIES
            assert box.min() > 0
            assert box.max() < 1
            assert box[2] == box[3]


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
    for seed in range(200):
        text = caption(sample_scene(seed))
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_captioners_labels_name_each_patch_and_object() -> None:
    batch = captioner.batch(0, 8, captioner.build_processor().tokenizer)
    side = IMAGE_SIZE // captioner.PATCH
    assert batch.patches.shape == (8, side * side)
    for patches, ranks, objects in zip(batch.patches, batch.ranks, batch.objects, strict=True):
        shown = [int(o) for o in objects if o < len(NAMES)]
        for rank, name in enumerate(shown):
            assert set(patches[ranks == rank].tolist()) == {name}
        assert set(ranks.tolist()) == {*range(len(shown)), captioner.MAX_OBJECTS}


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
