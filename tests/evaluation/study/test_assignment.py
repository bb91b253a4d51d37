from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonray.core.errors import UserError
from reasonray.evaluation.study.assignment import arranged, assigned, drawn, quota_of

EDITORS = ["a", "b", "c", "d"]


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    num_workers=st.integers(1, 7),
    more=st.integers(0, 4),
    seed=st.integers(0, 5),
)
def test_every_item_comes_to_as_many_workers_as_any_other(
    sizes: list[int], num_workers: int, more: int, seed: int
) -> None:
    kinds = {f"k{i}": [f"k{i}/{n}" for n in range(size)] for i, size in enumerate(sizes)}
    quotas = {
        kind: min(len(ids), quota_of(kind, len(ids), num_workers, None) + more)
        for kind, ids in kinds.items()
    }
    lists = assigned(kinds, quotas, num_workers, seed)
    assert len(lists) == num_workers
    for items in lists:
        assert len(set(items)) == len(items) == sum(quotas.values())
        for kind, ids in kinds.items():
            assert len(set(items) & set(ids)) == quotas[kind]
    for ids in kinds.values():
        shown = Counter(item for items in lists for item in items if item in ids)
        numbers = [shown[item] for item in ids]
        assert max(numbers) - min(numbers) <= 1
        assert min(numbers) >= 1
    assert lists == assigned(kinds, quotas, num_workers, seed)


def test_the_papers_protocol_is_five_workers_of_twenty() -> None:
    assert quota_of("direct", 100, 5, None) == 20
    assert quota_of("direct", 101, 5, None) == 21
    assert quota_of("direct", 12, 5, 20) == 12
    with pytest.raises(UserError, match="5 workers would see 50 of 100 direct items; raise"):
        quota_of("direct", 100, 5, 10)


def test_items_are_drawn_whatever_their_order() -> None:
    ids = [str(number) for number in range(50)]
    assert drawn(ids, 1) == drawn(ids[::-1], 1)
    assert drawn(ids, 1) != drawn(ids, 2)
    assert sorted(drawn(ids, 1)) == sorted(ids)
    # One item more moves no other.
    assert [each for each in drawn([*ids, "new"], 1) if each != "new"] == drawn(ids, 1)


def test_each_editor_stands_everywhere_about_as_often() -> None:
    orders = [arranged(EDITORS, worker, str(item), 3) for worker in (1, 2) for item in range(500)]
    for place in range(4):
        numbers = Counter(order[place] for order in orders)
        # 250 each by chance; the standard deviation is 14.
        assert all(190 < numbers[editor] < 310 for editor in EDITORS)
    assert arranged(EDITORS, 1, "x", 3) == arranged(EDITORS, 1, "x", 3)
    assert any(arranged(EDITORS, 1, str(i), 3) != arranged(EDITORS, 2, str(i), 3) for i in range(5))
