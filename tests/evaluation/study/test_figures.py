from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import choose, study

from reasonray.evaluation.study.figures import agreement, measured, wilson


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    for picks, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
                                (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]:  # fmt: skip
        assert wilson(picks / n, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(1.0, 10)[1] == 1.0


def test_krippendorffs_alpha_is_that_of_his_example() -> None:
    # Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, part C: nominal 0.743.
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[row[unit] for row in table if row[unit] is not None] for unit in range(12)]
    figures = agreement(units)
    assert figures.alpha == pytest.approx(0.743, abs=5e-4)
    assert figures.num_items == 11


def test_agreement_has_its_bounds() -> None:
    assert agreement([["a", "a"], ["b", "b", "b"]]).alpha == 1
    assert agreement([["a", "a"], ["b", "b", "b"]]).share == 1
    assert agreement([["a", "b"], ["b", "a"]]).alpha == pytest.approx(-0.5)
    for nothing in ([], [["a"], ["b"]], [["a", "a"], ["a", "a"]]):
        assert agreement(nothing).alpha is None
    assert agreement([["a"]]).share is None


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=8))
def test_alpha_is_as_by_all_pairs(units: list[list[str]]) -> None:
    paired = [unit for unit in units if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    n = len(values)
    expected = sum(a != b for a in values for b in values)
    if not expected:
        assert agreement(units).alpha is None
        return
    observed = sum(sum(a != b for a in unit for b in unit) / (len(unit) - 1) for unit in paired)
    alpha = agreement(units).alpha
    assert alpha == pytest.approx(1 - (observed / n) / (expected / (n * (n - 1))))


def test_a_study_is_counted_by_kind(tmp_path: Path) -> None:
    store = study(tmp_path, num_items=4, num_workers=3, quota=4)
    for worker in (1, 2, 3):
        for task in store.tasks(worker):
            if task.instruction.startswith("reasoning") or worker == 1:
                choose(store, worker, task.task, "ours")
            elif worker == 2:
                choose(store, worker, task.task, "ours")
                choose(store, worker, task.task, "rival")
    figures = measured(store)
    direct, reasoning = figures.kinds["direct"], figures.kinds["reasoning"]
    assert list(figures.kinds) == ["direct", "reasoning"]
    assert (direct.num_items, direct.num_tasks, direct.num_answers) == (4, 12, 8)
    assert {name: share.picks for name, share in direct.editors.items()} == {
        "ours": 4, "baseline": 0, "rival": 4,
    }  # fmt: skip
    assert direct.editors["ours"].share == 0.5
    assert direct.editors["ours"].interval == wilson(0.5, 4)  # items, not answers
    assert direct.agreement.share == 0
    assert reasoning.editors["ours"].share == 1
    assert reasoning.agreement.share == 1
    assert reasoning.agreement.num_pairs == 12
    assert figures.workers == [(8, 8), (8, 8), (4, 8)]
    assert sum(figures.places) == 20
    assert figures.num_replaced == 4


def test_without_answers_there_are_no_shares(tmp_path: Path) -> None:
    figures = measured(study(tmp_path))
    for kind in figures.kinds.values():
        assert {share.share for share in kind.editors.values()} == {None}
        assert kind.num_answered_items == 0
