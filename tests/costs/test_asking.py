import pytest

from reasonray.core.recipe import load
from reasonray.costs.asking import asking, tokens

PRICES = ["language_model.server.prompt_price=0.15", "language_model.server.completion_price=0.6"]


def test_a_row_is_asked_about_in_each_stage_of_its_part() -> None:
    ahead = asking(load("paper"), {"I": 10, "II": 3, "III": 4})
    assert ahead.requests == 2 * 10 + 7  # rewrite and select; propose
    each = {name: tokens(name, load("paper")) for name in ("rewrite", "select", "propose")}
    pairs, edits = 10, 7
    for place, total in enumerate((ahead.prompt_tokens, ahead.completion_tokens)):
        of_pairs = each["rewrite"][place] + each["select"][place]
        assert total == pairs * of_pairs + edits * each["propose"][place]


def test_dollars_are_told_where_there_are_prices() -> None:
    assert asking(load("paper"), {"I": 1}).dollars is None
    ahead = asking(load("paper", PRICES), {"I": 1000})
    dollars = (ahead.prompt_tokens * 0.15 + ahead.completion_tokens * 0.6) / 1e6
    assert ahead.dollars == pytest.approx(dollars)
    assert 0.1 < dollars < 2  # of a thousand pairs


def test_what_no_part_needs_is_not_asked() -> None:
    assert asking(load("paper"), {}).requests == 0
