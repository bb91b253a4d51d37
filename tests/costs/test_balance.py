import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonray.costs.balance import Need, balance, rate

needs = st.builds(
    Need,
    seconds=st.floats(0.01, 100),
    share=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    min_actors=st.integers(1, 2),
)


def test_pools_get_actors_in_proportion_to_their_work() -> None:
    assert balance([Need(1.0, 1), Need(3.0, 1)], 8) == [2, 6]
    assert balance([Need(1.0, 0.5), Need(3.0, 0.5)], 4) == [2, 6]


def test_a_pool_without_work_keeps_its_least() -> None:
    assert balance([Need(0.0, 1), Need(1.0, 1)], 5) == [1, 4]
    assert balance([Need(0.0, 1, min_actors=2)], 5) == [2]
    assert balance([], 5) == []


def test_what_does_not_fit_has_no_balance() -> None:
    assert balance([Need(1.0, 1), Need(1.0, 1)], 1) is None
    assert balance([Need(1.0, 0.5)], 1, lambda actors: False) is None


def test_no_actor_is_added_that_finds_no_place() -> None:
    assert balance([Need(1.0, 0.6)], 3, lambda actors: actors[0] <= 3) == [3]


@pytest.mark.timeout(10)
def test_a_pool_that_takes_nothing_is_not_added_to_without_end() -> None:
    assert balance([Need(1.0, 0), Need(0.5, 1)], 4) == [1, 1]


@given(st.lists(needs, min_size=1, max_size=5), st.floats(1, 20))
def test_the_balance_fits_and_the_slowest_pool_has_no_room_left(
    pools: list[Need], budget: float
) -> None:
    actors = balance(pools, budget)
    least = sum(need.share * need.min_actors for need in pools)
    if actors is None:
        assert least > budget
        return
    taken = sum(need.share * number for need, number in zip(pools, actors, strict=True))
    assert taken <= budget + 1e-6
    assert all(n >= need.min_actors for n, need in zip(actors, pools, strict=True))
    rates = [rate(need, number) for need, number in zip(pools, actors, strict=True)]
    slowest = rates.index(min(rates))
    assert taken + pools[slowest].share > budget - 1e-6


def test_the_rate_is_of_all_actors_together() -> None:
    assert rate(Need(0.5, 1), 3) == pytest.approx(6)
    assert rate(Need(0.0, 1), 1) == float("inf")
