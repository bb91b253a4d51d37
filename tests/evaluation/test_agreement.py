"""Agreement against SciPy, against pairs counted one by one, and against cases by hand."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import kendalltau

from reasonray.core.errors import UserError
from reasonray.evaluation.agreement import Agreement, compare, compare_with_preferences
from reasonray.evaluation.score_files import Key, Preference, Preferences, Scores


def scores(values: Sequence[float], editors: Sequence[str] = ("",), axis: str = "fit") -> Scores:
    """Of item 0 by each editor, of item 1 by each …"""
    keys = [Key(str(i // len(editors)), editors[i % len(editors)]) for i in range(len(values))]
    return Scores("file", {axis: dict(zip(keys, values, strict=True))}, len(values), 0)


def only(results: list[Agreement]) -> Agreement:
    [result] = results
    return result


@pytest.mark.parametrize(("levels", "count"), [(5, 200), (None, 120), (2, 50)])
def test_tau_is_scipy_s_whether_scores_are_whole_or_not(levels: int | None, count: int) -> None:
    rng = np.random.default_rng(count)
    truth = rng.normal(size=count)
    a, b = (truth + rng.normal(size=count) for _ in range(2))
    if levels:
        edges = np.linspace(-1, 1, levels - 1)
        a, b = (np.digitize(x, edges).astype(np.float64) for x in (a, b))
    result = only(compare(scores(a.tolist()), scores(b.tolist())))
    assert result.tau is not None
    assert result.tau.value == pytest.approx(kendalltau(a, b).statistic, abs=1e-9)


def test_accuracy_is_that_of_pairs_counted_one_by_one() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(1, 6, (2, 40)).astype(float)
    points = [
        1.0 if (a[i] - a[j]) * (b[i] - b[j]) > 0 else 0.5 if a[i] == a[j] else 0.0
        for i, j in itertools.combinations(range(40), 2)
        if b[i] != b[j]
    ]
    result = only(compare(scores(a.tolist()), scores(b.tolist())))
    assert result.accuracy.value == pytest.approx(np.mean(points))
    assert (result.num_pairs, result.are_within_items) == (len(points), False)


def test_where_there_are_several_editors_pairs_are_of_one_item() -> None:
    # Right on item 0, wrong on 1, a tie of the first's on 2, one of the second's on 3.
    ours = scores([5, 1, 5, 1, 3, 3, 2, 4], ("x", "y"))
    theirs = scores([4, 2, 1, 2, 3, 5, 3, 3], ("x", "y"))
    result = only(compare(ours, theirs))
    assert (result.accuracy.value, result.num_pairs, result.are_within_items) == (0.5, 3, True)


def test_perfect_and_reversed_agreement_have_the_known_ends() -> None:
    values = [1, 2, 3, 4, 5] * 6
    same = only(compare(scores(values), scores(values)))
    turned = only(compare(scores(values), scores([6 - value for value in values])))
    assert same.tau is not None
    assert turned.tau is not None
    assert (same.tau.value, same.accuracy.value) == (1, 1)
    assert (turned.tau.value, turned.accuracy.value) == (-1, 0)
    assert (same.tau.low, same.tau.high) == (1, 1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    correlation = 0.6
    true_tau = 2 / np.pi * np.arcsin(correlation)
    num_held = 0
    for _ in range(60):
        a, b = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 80).T
        tau = only(compare(scores(a.tolist()), scores(b.tolist()))).tau
        assert tau is not None
        assert tau.low is not None
        assert tau.high is not None
        num_held += tau.low <= true_tau <= tau.high
    assert 51 <= num_held <= 60


def test_pictures_of_one_item_are_drawn_together() -> None:
    """Ten equal copies of each picture say no more than one does."""
    rng = np.random.default_rng(4)
    a, b = rng.integers(1, 6, (2, 30)).astype(float)
    editors = [f"e{i}" for i in range(10)]
    alone = only(compare(scores(a.tolist()), scores(b.tolist())))
    copied = only(
        compare(
            scores(np.repeat(a, 10).tolist(), editors), scores(np.repeat(b, 10).tolist(), editors)
        )
    )
    assert alone.difference == copied.difference
    assert alone.tau is not None
    assert copied.tau is not None
    assert copied.tau.low == pytest.approx(alone.tau.low)


def test_the_difference_says_which_of_the_two_is_milder() -> None:
    result = only(compare(scores([4, 5, 4, 5]), scores([3, 4, 2, 5])))
    assert result.difference is not None
    assert result.difference.value == 1
    assert result.difference.low is not None
    assert result.difference.low < 1


def test_the_confusion_counts_whole_scores_and_rounds_means() -> None:
    result = only(compare(scores([1, 1, 5, 4.6]), scores([1, 2, 5, 5])))
    assert result.confusion == {(1, 1): 1, (1, 2): 1, (5, 5): 2}
    assert only(compare(scores([0.1, 0.9]), scores([0.2, 0.3]))).confusion == {}


def test_pictures_that_only_one_has_scored_are_counted() -> None:
    result = only(compare(scores([1, 2, 3, 4, 5]), scores([1, 2, 3])))
    assert (result.num_pictures, result.num_only_first, result.num_only_second) == (3, 2, 0)


def test_where_all_scores_are_equal_there_is_no_tau() -> None:
    result = only(compare(scores([3, 3, 3]), scores([1, 2, 3])))
    assert result.tau is not None
    assert result.tau.value is None
    assert result.accuracy.value == 0.5


def test_axes_of_other_names_are_paired_as_asked() -> None:
    ours, theirs = scores([1, 2, 3]), scores([1, 2, 3], axis="instruction_score")
    [result] = compare(ours, theirs, {"fit": "instruction_score"})
    assert result.axis == "fit = instruction_score"
    with pytest.raises(UserError, match="--axis"):
        compare(ours, theirs)
    with pytest.raises(UserError, match="no column colour"):
        compare(ours, theirs, {"colour": "instruction_score"})


def test_files_of_other_pictures_are_told_with_an_example_of_each() -> None:
    theirs = Scores("b", {"fit": {Key("x", "ours"): 1.0}}, 1, 0)
    with pytest.raises(UserError, match=r"id '0', b e.g. id 'x' of editor 'ours'"):
        compare(scores([1]), theirs)


def test_people_s_choices_are_compared_with_the_scores_of_both_pictures() -> None:
    ours = scores([5, 1, 2, 4, 3, 3], ("x", "y"))
    chosen = [("0", "x", "y"), ("1", "x", "y"), ("2", "y", "x"), ("9", "x", "y")]
    preferences = Preferences("people", [Preference(*each) for each in chosen])
    result = only(compare_with_preferences(ours, preferences))
    assert (result.accuracy.value, result.num_pairs) == (0.5, 3)
    assert (result.tau, result.num_only_second) == (None, 1)
    with pytest.raises(UserError, match="not one preference"):
        compare_with_preferences(ours, Preferences("people", preferences.pairs[3:]))
