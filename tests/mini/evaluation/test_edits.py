"""The edits that editors are measured on: each has one right answer, and the scene shows it."""

import pytest

from reasonray.mini.evaluation.edits import KINDS, edits
from reasonray.mini.knowledge import knowledge
from reasonray.mini.training.questions import object_apart, rests_on_apart
from reasonray.prompts.words import mentions, naming
from reasonray.sources.mini.catalogue import RELATIONS

pytestmark = pytest.mark.slow

COUNT = 60


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_changes_one_object_into_what_was_not_there(kind: str) -> None:
    found = edits(kind, COUNT)
    assert found == edits(kind, COUNT)
    for edit in found:
        assert edit.target not in edit.scene.categories
        assert edit.truth.categories[edit.index] == edit.target
        changed = [a != b for a, b in zip(edit.scene.objects, edit.truth.objects, strict=True)]
        assert changed == [place == edit.index for place in range(len(changed))]


def test_direct_instructions_name_both_and_indirect_ones_neither() -> None:
    for edit in edits("direct", COUNT):
        assert mentions(edit.instruction, edit.scene.categories[edit.index])
        assert mentions(edit.instruction, edit.target)
    for kind in ("reasoning", "relational", "unheard"):
        for edit in edits(kind, COUNT):
            names = [edit.scene.categories[edit.index], edit.target]
            assert naming(edit.instruction, names) is None


def test_reasoning_rests_on_what_was_kept_apart() -> None:
    for edit in edits("reasoning", COUNT):
        assert rests_on_apart(edit.instruction, edit.scene.categories[edit.index], edit.target)


@pytest.mark.parametrize("kind", ["relational", "unheard"])
def test_it_can_be_one_object_only(kind: str) -> None:
    sentences = {
        sentence.format(s="it", poss="its").lower(): relation
        for relation, known in knowledge()["relations"].items()
        for sentence in known["sentences"]
    }
    for edit in edits(kind, COUNT):
        pairs = RELATIONS[sentences[edit.instruction.lower()]]
        assert [name in pairs for name in edit.scene.categories].count(True) == 1
        assert pairs[edit.scene.categories[edit.index]] == edit.target


def test_one_sentence_has_different_answers() -> None:
    answers: dict[str, set[str]] = {}
    for edit in edits("relational", 400):
        answers.setdefault(edit.instruction, set()).add(edit.target)
    assert sum(len(targets) > 1 for targets in answers.values()) > 0.8 * len(answers)


def test_unheard_is_said_of_the_object_that_was_kept_apart() -> None:
    kept = {
        (sentence.format(s="it", poss="its").lower(), object_apart(relation, sentence))
        for relation, known in knowledge()["relations"].items()
        for sentence in known["sentences"]
    }
    for edit in edits("unheard", COUNT):
        assert (edit.instruction.lower(), edit.scene.categories[edit.index]) in kept
