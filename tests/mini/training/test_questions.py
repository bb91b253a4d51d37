import functools
import random
import re

import pytest

from reasonray.mini.knowledge import facts, knowledge
from reasonray.mini.training.questions import (
    KINDS,
    RELATION_PHRASES,
    RELATION_QUESTIONS,
    WAYS,
    Question,
    apart,
    object_apart,
    question,
    question_apart,
    rests_on_apart,
)
from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS
from reasonray.sources.mini.world import HELD_OUT_SEED, Scene, caption, sample_scene

SEEDS = range(HELD_OUT_SEED + 740_000, HELD_OUT_SEED + 740_600)
SENTENCES = [
    (relation, sentence)
    for relation, known in knowledge()["relations"].items()
    for sentence in known["sentences"]
]


@functools.cache
def asked(kind: str) -> list[tuple[Scene, Question]]:
    scenes = [sample_scene(seed) for seed in SEEDS]
    return [(scene, question(scene, random.Random(i), kind)) for i, scene in enumerate(scenes)]


def is_of(sentence: str, text: str) -> bool:
    """Whether a text is a relation's sentence with something in its gaps."""
    pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(sentence))
    return re.fullmatch(pattern, text, re.IGNORECASE) is not None


def heard_apart(said: Question) -> bool:
    """Whether a sentence is said of the object that it is kept apart from."""
    return any(object_apart(r, s) == said.subject and is_of(s, said.text) for r, s in SENTENCES)


def test_about_a_fifth_is_kept_apart() -> None:
    every = [fact for name in CATEGORIES for _, fact in facts(name)]
    for texts in (every, [sentence for _, sentence in SENTENCES]):
        assert 0.1 < sum(map(apart, texts)) / len(texts) < 0.3


def test_no_instruction_of_the_training_tells_what_is_kept_apart() -> None:
    hidden = [fact.lower() for name in CATEGORIES for _, fact in facts(name) if apart(fact)]
    for _, said in asked("instruction"):
        assert not any(fact in said.text.lower() for fact in hidden), said
        assert not heard_apart(said), said


def test_an_instruction_for_the_evaluation_does() -> None:
    told = heard = 0
    for seed in SEEDS[:200]:
        said = question_apart(sample_scene(seed), random.Random(seed))
        assert said.target
        assert said.subject
        assert rests_on_apart(said.text, said.subject, said.target)
        told += any(apart(f) and f.lower() in said.text.lower() for _, f in facts(said.target))
        heard += heard_apart(said)
        assert said.answer == f"the {said.subject} becomes {CATEGORIES[said.target].phrase}"
    assert told > 50
    assert heard > 0
    assert told + heard >= 200


def test_it_is_said_only_where_one_object_can_be_meant() -> None:
    said_it = 0
    for scene, said in asked("relation"):
        for relation, texts in RELATION_QUESTIONS.items():
            if said.text in [text.format(s="it") for text in texts]:
                said_it += 1
                able = [name for name in scene.categories if name in RELATIONS[relation]]
                assert able == [said.subject]
    assert said_it > 20


def test_a_relation_leads_from_the_subject_to_the_answer() -> None:
    for scene, said in asked("relation"):
        assert said.subject in scene.categories
        if said.target is not None:  # else nothing in the picture is related to anything
            assert said.target in [pairs.get(said.subject) for pairs in RELATIONS.values()]
            assert said.answer == CATEGORIES[said.target].phrase


def test_places_are_told_from_left_to_right() -> None:
    for scene, said in asked("where"):
        assert said.subject in scene.categories
        place = said.answer if said.text.startswith("Where") else said.text[len("What is ") : -1]
        number = scene.categories.index(said.subject)
        if place == "in the middle":
            assert 2 * number == len(scene.categories) - 1
        else:
            assert number == (0 if place == "on the left" else len(scene.categories) - 1)
            assert len(scene.categories) > 1


def test_an_edits_target_is_not_in_the_picture_yet() -> None:
    for scene, said in asked("instruction"):
        assert said.subject in scene.categories
        assert said.target not in scene.categories


def test_an_instruction_s_way_is_the_relation_that_its_sentence_speaks_of() -> None:
    ways = {said.way for _, said in asked("instruction")}
    assert ways == set(WAYS) - {"none"}
    for _, said in asked("instruction"):
        spoken = [relation for relation, sentence in SENTENCES if is_of(sentence, said.text)]
        spoken += [
            relation
            for relation, phrases in RELATION_PHRASES.items()
            if any(phrase in said.text for phrase in phrases)
        ]
        assert said.subject
        assert said.target
        if said.way in RELATIONS:
            assert said.way in spoken
            assert RELATIONS[said.way][said.subject] == said.target
        else:
            assert not spoken
            assert (said.way == "direct") == (said.subject in said.text.lower())


def test_relations_are_spelled_out_of_objects_that_a_sentence_is_kept_apart_from_too() -> None:
    spelled = {
        (said.way, said.subject)
        for _, said in asked("instruction")
        if any(phrase in said.text for phrase in RELATION_PHRASES.get(said.way, ()))
    }
    kept_apart = {(relation, object_apart(relation, sentence)) for relation, sentence in SENTENCES}
    kept_apart = {pair for pair in kept_apart if pair[1]}
    assert len(spelled & kept_apart) > 0.5 * len(kept_apart)


def test_instructions_begin_as_people_type_too() -> None:
    for way in ("direct", "fact", "makes"):
        begins = [said.text[0].isupper() for _, said in asked("instruction") if said.way == way]
        assert 0 < sum(begins) < len(begins)


def test_a_caption_is_the_true_one() -> None:
    assert all(said.answer == caption(scene) for scene, said in asked("caption"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_follows_from_its_scene_and_its_seed(kind: str) -> None:
    scene = sample_scene(SEEDS[0])
    assert question(scene, random.Random(1), kind) == question(scene, random.Random(1), kind)
