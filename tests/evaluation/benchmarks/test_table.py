from reasonray.evaluation.benchmarks.table import both, means, single, without_stopped
from reasonray.evaluation.items import Figure, Item, Scored


def scored(group: str, value: float | None, *, missing: bool = False) -> Scored:
    item = Item(group, group, "en", (), "Draw.", fields={"value": value})
    return Scored(item, None if missing else {"a": 1})


def figures(rows: list[Scored]) -> list[Figure]:
    return means(
        rows,
        lambda each: single({"score": each.item.fields["value"]}),
        lambda item: ("", item.group),
    )


def test_a_mean_is_over_what_is_there_and_says_what_is_not() -> None:
    rows = [scored("a", 4), scored("a", 2), scored("a", None), scored("b", None, missing=True)]
    assert figures(rows) == [
        Figure("score", "", 3, 4, 1, 1),
        Figure("score", "a", 3, 3, 0, 1),
        Figure("score", "b", None, 1, 1, 0),
    ]


def test_an_item_without_a_measure_is_not_counted_for_it() -> None:
    rows = means(
        [scored("a", 4), scored("b", 2)],
        lambda each: single({"x": 1.0} if each.item.group == "a" else {"y": None}),
        lambda item: ("",),
    )
    assert rows == [Figure("x", "", 1, 1, 0, 0), Figure("y", "", None, 1, 0, 1)]


def test_several_values_of_an_item_count_each() -> None:
    rows = means(
        [scored("a", None), scored("b", None)],
        lambda each: {"all": (1.0, 2.0, 3.0) if each.item.group == "a" else (4.0, None)},
        lambda item: ("",),
    )
    assert rows == [Figure("all", "", 2.5, 2, 0, 1)]


def test_both_names_stand_side_by_side() -> None:
    assert list(both({"s": 1.0, "t": 2.0}, {"s": 3.0, "t": None}).items()) == [
        ("s, as published", 1.0),
        ("s, as intended", 3.0),
        ("t, as published", 2.0),
        ("t, as intended", None),
    ]


def test_a_script_that_stops_has_no_figures_while_the_intended_stay() -> None:
    rows = [Figure("s, as published", "", 1, 2, 0, 0), Figure("s, as intended", "", 1, 2, 0, 0)]
    assert without_stopped(rows, [scored("a", 1)]) == rows
    stopped = without_stopped(rows, [scored("a", 1), scored("a", 1, missing=True)])
    assert [each.value for each in stopped] == [None, 1]
