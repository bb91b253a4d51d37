"""What the models that look at pictures are taught: labels must say what the pictures show."""

import numpy as np
import pytest
import torch

from reasonray.mini.catalogue import CATEGORIES
from reasonray.mini.training import captioner, classifier, detector
from reasonray.mini.training.softening import soften
from reasonray.mini.training.vocabulary import OTHER_NOUNS
from reasonray.mini.world import IMAGE_SIZE, caption, render, sample_scene


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
        shown = [int(o) for o in objects if o < len(captioner.NAMES)]
        for rank, name in enumerate(shown):
            assert set(patches[ranks == rank].tolist()) == {name}
        assert set(ranks.tolist()) == {*range(len(shown)), captioner.MAX_OBJECTS}


@pytest.mark.parametrize("step", [0, 1])
def test_a_judges_lessons_hold_objects_and_empty_boxes(step: int) -> None:
    crops, labels = classifier.batch(step, 8)
    empty = classifier.LABELS.index(classifier.NONE)
    assert len(crops) == len(labels)
    assert (labels == empty).sum() >= 8
    assert (labels != empty).sum() >= 8
    assert crops.abs().max() <= 1
