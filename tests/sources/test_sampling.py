import itertools
import random
from collections import Counter
from collections.abc import Iterator

from reasonray.sources.sampling import order, sample


def inputs(**strata: int) -> list[tuple[str, str, str]]:
    return [
        (name, f"{name}/{number}", f"{name}/{number}")
        for name, count in strata.items()
        for number in range(count)
    ]


def drawn(listed: list[tuple[str, str, str]], size: int, seed: int = 0) -> list[str]:
    return sample(listed, size, seed)


def test_each_stratum_has_its_share_to_one_input() -> None:
    listed = inputs(a=600, b=300, c=100)
    for size in (1, 7, 10, 101, 999, 1000):
        counts = Counter(name[0] for name in drawn(listed, size))
        assert counts.total() == size
        for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
            assert abs(counts[name] - share * size) <= 1


def test_a_larger_sample_has_the_smaller_one_within_it() -> None:
    listed = inputs(a=50, b=31)
    samples = [set(drawn(listed, size)) for size in range(1, 82)]
    for smaller, larger in itertools.pairwise(samples):
        assert smaller < larger
    assert drawn(listed, 500) == [each for *_, each in listed]


def test_every_beginning_of_the_order_is_a_sample() -> None:
    listed = inputs(a=50, b=31, c=2)
    ids = [each for *_, each in listed]
    whole = [ids[index] for index in order([each[:2] for each in listed], 0)]
    assert sorted(whole) == sorted(ids)
    for size in (1, 2, 30, 83):
        assert set(whole[:size]) == set(drawn(listed, size))


def test_the_listing_s_order_decides_nothing_and_the_seed_all() -> None:
    listed = inputs(a=200, b=100)
    shuffled = random.Random(0).sample(listed, len(listed))
    assert sorted(drawn(shuffled, 40)) == sorted(drawn(listed, 40))
    assert drawn(shuffled, 40) == [each for *_, each in shuffled if each in drawn(listed, 40)]
    others = set(drawn(listed, 40, seed=1))
    assert len(others & set(drawn(listed, 40))) < 20


def test_it_is_spread_over_a_sorted_stratum() -> None:
    numbers = [int(each.partition("/")[2]) for each in drawn(inputs(a=3000), 300)]
    tenths = Counter(number // 300 for number in numbers)
    assert all(12 <= tenths[tenth] <= 54 for tenth in range(10))


def test_no_more_are_held_than_are_drawn() -> None:
    alive: list[int] = []

    class Heavy:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def stream() -> Iterator[tuple[str, str, Heavy]]:
        for number in range(5000):
            assert len(alive) <= 12
            yield "a", str(number), Heavy()

    assert len(sample(stream(), 10, 0)) == 10
