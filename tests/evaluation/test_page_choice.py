"""Which items a page shows: by disagreement, by the worst and the best, by draw; group by group."""

import math

import numpy as np
import pytest

from reasonray.evaluation.items import Item, Scored
from reasonray.evaluation.page.choice import chosen, columns, mean_ranks, orders, ranks, spread
from reasonray.evaluation.results import EditorScores

NAN = math.nan


def scores(l1: list[float], dino: list[float], groups: list[str] | None = None) -> EditorScores:
    count = len(l1)
    reasons = ["late" if math.isnan(value) else None for value in l1]
    items = [
        Item(str(number), group, "en", (), "go")
        for number, group in enumerate(groups or ["direct"] * count)
    ]
    scored = [Scored(item, None if math.isnan(value) else {"L1": value})
              for item, value in zip(items, l1, strict=True)]  # fmt: skip
    values = {"L1": l1, "DINO": dino}
    nothing: list[str | None] = [None] * count
    return EditorScores(scored, values, reasons, nothing, nothing, [], [{}] * count)


def test_ranks_are_shares_of_what_is_below_and_equals_share_theirs() -> None:
    ranked = ranks(np.array([3.0, 1.0, NAN, 1.0, 2.0]))
    assert ranked[[0, 1, 3, 4]].tolist() == [0.875, 0.25, 0.25, 0.625]
    assert math.isnan(ranked[2])


def test_mean_ranks_take_what_an_item_has() -> None:
    ranked = mean_ranks([np.array([1.0, 2.0, NAN]), np.array([5.0, NAN, NAN])], 3)
    assert ranked[:2].tolist() == [(0.25 + 0.5) / 2, 0.75]
    assert math.isnan(ranked[2])


def test_a_spread_needs_two_editors() -> None:
    lead = spread([np.array([1.0, 2.0, NAN]), np.array([4.0, NAN, NAN]), np.array([2.0, NAN, NAN])])
    assert lead[0] == 3
    assert np.isnan(lead[1:]).all()


def test_axes_that_are_no_measures_can_be_sorted_by() -> None:
    own = scores([0.1, NAN], [0.5, NAN])
    own.scored[0] = Scored(own.scored[0].item, {"L1": 0.1, "following": 4})
    names = columns(own)
    assert list(names) == ["L1", "DINO", "following"]
    assert names["following"][0] == 4
    assert math.isnan(names["following"][1])


def test_orders_are_disagreements_then_each_editors_measures_then_the_benchmarks() -> None:
    by_editor = {"a": scores([0.1], [1.0]), "b": scores([0.2], [0.5]), "t": scores([0.0], [1.0])}
    listed = orders(by_editor, ["a", "b"])
    assert [(each.heading, each.label) for each in listed[1:]] == [
        ("Disagreement between editors", "disagreement: L1"),
        ("Disagreement between editors", "disagreement: DINO"),
        *((editor, f"{editor}: {measure}") for editor in "abt" for measure in ("L1", "DINO")),
        ("Benchmark", "place in the benchmark"),
    ]
    assert listed[1].keys[0] == pytest.approx(0.1)
    assert [each.heading for each in orders({"a": by_editor["a"]}, ["a"])] == [
        "a",
        "a",
        "Benchmark",
    ]


def test_failures_disagreement_worst_and_best_are_shown_before_others() -> None:
    count = 40
    l1 = [0.5 + 0.001 * number for number in range(count)]
    other, own = list(l1), list(l1)
    own[7] = 0.01  # the best
    other[7] = 0.02
    own[11] = 0.99  # the worst
    other[11] = 0.98
    other[20] = 0.9  # where they disagree most
    own[30] = NAN
    by_editor = {
        "other": scores(other, [1 - value for value in other]),
        "own": scores(own, [1 - value for value in own]),
    }
    assert set(chosen(by_editor, ["other", "own"], "own", 4)) == {7, 11, 20, 30}
    more = chosen(by_editor, ["other", "own"], "own", 12)
    assert {7, 11, 20, 30} < set(more)
    assert more == sorted(more)
    assert chosen(by_editor, ["other", "own"], "own", 100) == list(range(count))


def test_groups_have_equal_shares_as_far_as_they_go() -> None:
    groups = ["big"] * 30 + ["small"] * 2 + ["middle"] * 8
    own = scores([0.1] * 40, [0.2] * 40, groups)
    places = chosen({"own": own}, ["own"], "own", 12)
    shown = [groups[place] for place in places]
    assert [shown.count(group) for group in ("big", "middle", "small")] == [5, 5, 2]
