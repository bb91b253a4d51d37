"""How many actors each pool gets, so that none waits for another."""

import bisect
from collections.abc import Callable, Sequence
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


def balance(
    needs: Sequence[Need], budget: float, fits: Callable[[list[int]], bool] = lambda actors: True
) -> list[int] | None:
    """Actors of each pool that give the most rows a second.

    One more goes to the slowest pool as long as there is room for it; that is the best there is,
    for a pool that is not the slowest does not need one.

    Args:
        needs: the pools that share the budget.
        budget: GPUs or cores.
        fits: whether so many actors of each find their places; fewer do where more do.

    Returns:
        None where the least does not fit.
    """
    actors = [need.min_actors for need in needs]
    free = budget - sum(need.share * count for need, count in zip(needs, actors, strict=True))
    if free < -1e-6 or not fits(actors):
        return None
    turns: list[int] = []
    while needs:
        slowest = min(range(len(needs)), key=lambda i: rate(needs[i], actors[i]))
        need = needs[slowest]
        # A pool that takes nothing of the budget is not bounded by it.
        if not need.seconds or not need.share or need.share > free + 1e-6:
            break
        actors[slowest] += 1
        free -= need.share
        turns.append(slowest)

    def after(number: int) -> list[int]:
        return [need.min_actors + turns[:number].count(i) for i, need in enumerate(needs)]

    return after(
        bisect.bisect_left(range(len(turns)), True, key=lambda number: not fits(after(number + 1)))
    )


def rate(need: Need, actors: int) -> float:
    """Rows of the run a second; infinite for a pool without work."""
    return actors / need.seconds if need.seconds else float("inf")
