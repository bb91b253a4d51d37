"""Who is asked what, and in which order the candidates stand: drawn by the study's seed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from reasonray.core.errors import UserError
from reasonray.core.record import sample_seed

_STAGE = "study"


def drawn(item_ids: Sequence[str], seed: int) -> list[str]:
    """Items in the order in which a study takes them, whatever order they were listed in."""
    return sorted(item_ids, key=lambda item_id: (sample_seed(seed, item_id, _STAGE), item_id))


def quota_of(kind: str, num_items: int, num_workers: int, quota: int | None) -> int:
    """How many items of a kind each worker is asked about.

    Args:
        kind: for messages.
        num_items: of the kind.
        num_workers: who share them.
        quota: as the user set it, at most all; None: as few as leave no item out.

    Raises:
        UserError: some items would be shown to nobody.
    """
    if quota is None:
        return -(-num_items // num_workers)
    if quota * num_workers < num_items:
        raise UserError(
            f"--quota {quota}: {num_workers} workers would see {quota * num_workers} of "
            f"{num_items} {kind} items; raise --quota or --workers, or lower --count"
        )
    return min(quota, num_items)


def assigned(
    kinds: Mapping[str, Sequence[str]], quotas: Mapping[str, int], num_workers: int, seed: int
) -> list[list[str]]:
    """The items that each worker is asked about, kinds mixed, in a random order.

    Each item comes to as many workers as any other of its kind, or to one more; no worker gets
    one twice, and which workers share an item is random.

    Args:
        kinds: kind -> ids of its items.
        quotas: kind -> how many of them a worker gets, at most all.
        num_workers: how many lists to make.
        seed: of the study.
    """
    lists: list[list[str]] = []
    num_shown: Counter[str] = Counter()
    for worker in range(num_workers):
        random = Random(sample_seed(seed, str(worker), _STAGE))
        items: list[str] = []
        for kind, ids in kinds.items():
            rank = {item_id: (num_shown[item_id], random.random()) for item_id in ids}
            items += sorted(ids, key=rank.__getitem__)[: quotas[kind]]
        num_shown.update(items)
        random.shuffle(items)
        lists.append(items)
    return lists


def arranged(editors: Sequence[str], worker: int, item_id: str, seed: int) -> list[str]:
    """The editors in the order in which a worker sees their pictures of an item."""
    order = list(editors)
    Random(sample_seed(seed, f"{worker}/{item_id}", _STAGE)).shuffle(order)
    return order
