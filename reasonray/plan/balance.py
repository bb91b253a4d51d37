"""How many actors each pool gets, so that none waits for another."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """Of one pool.

    Attributes:
        seconds: of one of its actors for one row of the run, those that pass it by counted in.
        share: of GPUs (or cores) that an actor takes.
        min_actors: at least.
    """

    seconds: float
    share: float
    min_actors: int = 1


def balance(needs: Sequence[Need], budget: float) -> list[int] | None:
    """Actors of each pool that give the most rows a second.

    One more goes to the slowest pool as long as there is room for it; that is the best there is,
    for a pool that is not the slowest does not need one.

    Args:
        needs: the pools that share the budget.
        budget: GPUs or cores.

    Returns:
        None where the least does not fit.
    """
    actors = [need.min_actors for need in needs]
    free = budget - sum(need.share * count for need, count in zip(needs, actors, strict=True))
    if free < -1e-6:
        return None
    while needs:
        slowest = min(range(len(needs)), key=lambda i: rate(needs[i], actors[i]))
        if not needs[slowest].seconds or needs[slowest].share > free + 1e-6:
            break
        actors[slowest] += 1
        free -= needs[slowest].share
    return actors


def rate(need: Need, actors: int) -> float:
    """Rows of the run a second; infinite for a pool without work."""
    return actors / need.seconds if need.seconds else float("inf")
