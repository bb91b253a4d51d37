import random

import pytest

from reasonray.core.record import REASONING_TYPES
from reasonray.mini.knowledge import (
    facts,
    knowledge,
    reasoning_candidate,
    relation_rationales,
    targets,
)
from reasonray.prompts.words import introduced, naming
from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS


def test_every_category_has_facts_of_every_kind_and_ways_to_speak_of_it() -> None:
    assert set(knowledge()["categories"]) == set(CATEGORIES)
    for name in CATEGORIES:
        assert len(facts(name)) >= 12
        assert {kind for kind, _ in facts(name)} == set(REASONING_TYPES)
        assert len(knowledge()["categories"][name]["refs"]) >= 4


@pytest.mark.parametrize("name", sorted(CATEGORIES))
def test_no_fact_and_no_reference_names_its_category(name: str) -> None:
    telling = [name, *introduced("a background", f"{CATEGORIES[name].phrase} on a background")]
    for text in (*(fact for _, fact in facts(name)), *knowledge()["categories"][name]["refs"]):
        assert naming(text, telling) is None, text


def test_a_fact_stands_for_one_category_only() -> None:
    every = [fact for name in CATEGORIES for _, fact in facts(name)]
    assert len(set(every)) == len(every)


def test_every_relation_has_sentences_and_a_rationale() -> None:
    assert set(knowledge()["relations"]) == set(RELATIONS)
    for known in knowledge()["relations"].values():
        assert len(known["sentences"]) >= 8
        assert known["type"] in REASONING_TYPES
        assert known["rationale"]


def test_instructions_name_neither_category_and_hardly_repeat() -> None:
    rng = random.Random(0)
    said = []
    for _ in range(1000):
        selected, target = rng.sample(sorted(CATEGORIES), 2)
        if rng.random() < 0.5:
            target = rng.choice(targets(selected))
        candidate = reasoning_candidate(selected, target, rng)
        assert naming(candidate.instruction, [selected, target]) is None
        assert candidate.instruction[0].isupper()
        assert candidate.instruction[-1] in ".?"
        assert "{" not in candidate.instruction + candidate.rationale
        said.append(candidate.instruction)
    assert len(set(said)) >= 700


def test_it_is_said_only_where_one_object_can_be_meant() -> None:
    references = knowledge()["categories"]["bee"]["refs"]
    for seed in range(300):
        rng = random.Random(seed)
        said = reasoning_candidate("bee", "honey", rng, others=["cow"], relational=1.0).instruction
        assert any(reference in said for reference in references)


def test_a_relation_is_explained_by_naming_both_ends() -> None:
    assert "A bee makes honey." in relation_rationales("bee", "honey")
    assert relation_rationales("bee", "car") == []
