"""The zoo's judge, asked as any other, of edits whose truth the world knows."""

import pytest

from reasonray.evaluation.judge import Judge
from reasonray.mini.evaluation.edits import KINDS
from reasonray.mini.evaluation.judge import agrees, cases, judged, zoo_judge
from reasonray.sources.mini.world import HELD_OUT_SEED, sample_scene

pytestmark = pytest.mark.zoo

COUNT = 24


def test_cases_are_the_first_ones_of_more_and_of_all_kinds() -> None:
    few, more = cases(8), cases(13)
    assert [case.kind for case in few] == [kind for kind in KINDS for _ in range(2)]
    assert len(more) == 13
    texts = [(case.kind, case.instruction, case.edit) for case in more]
    assert all((case.kind, case.instruction, case.edit) in texts for case in few)


def test_no_case_shows_a_scene_of_training() -> None:
    seen = {sample_scene(seed) for seed in range(300)}
    assert not seen & {case.edit.scene for case in cases(12)}
    assert all(case.edit.seed > HELD_OUT_SEED for case in cases(12))


@pytest.mark.parametrize("with_caption", [True, False])
def test_the_judge_agrees_with_the_truth(with_caption: bool) -> None:
    labelled = cases(COUNT)
    judgements = judged(Judge(zoo_judge(), seed=0), labelled, with_caption=with_caption)
    assert all(judgement.verdicts for judgement in judgements)
    right = [agrees(*pair) for pair in zip(labelled, judgements, strict=True)]
    assert sum(right) >= 21
    # Neither of one mind about all.
    assert {case.edit.is_accepted for case in labelled} == {True, False}
