"""What a study's picks say: shares of editors with intervals, and how far workers agree."""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from reasonray.evaluation.study.questions import in_order
from reasonray.evaluation.study.store import Pick, Store

LEVEL = 0.95
"""How often such an interval holds the true share."""


@dataclass(frozen=True)
class Share:
    """How often an editor's picture was the best.

    Attributes:
        picks: answers that chose it.
        share: of the answers, 0..1; None: there are none.
        interval: Wilson's, of `LEVEL`, with the number of items that were answered as n.
    """

    picks: int
    share: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Agreement:
    """How far workers chose alike who were asked the same.

    Attributes:
        num_items: answered by two workers or more.
        num_pairs: of answers to one item.
        share: of these pairs that chose the same editor, 0..1; None: there are none.
        alpha: Krippendorff's, nominal: 1 where all agree, 0 as by chance; None: not defined.
    """

    num_items: int
    num_pairs: int
    share: float | None
    alpha: float | None


@dataclass(frozen=True)
class KindFigures:
    """One kind of instruction.

    Attributes:
        num_items: in the study.
        num_answered_items: of them, by one worker or more.
        num_tasks: answers that are awaited in all.
        num_answers: that have come, the last of each worker to each item.
        editors: in the study's order.
        agreement: between workers.
    """

    num_items: int
    num_answered_items: int
    num_tasks: int
    num_answers: int
    editors: Mapping[str, Share]
    agreement: Agreement


@dataclass(frozen=True)
class Figures:
    """All that a report shows.

    Attributes:
        kinds: by kind of instruction.
        places: picks by place on the page, from the first.
        workers: of each, questions that are answered, and all.
        num_replaced: answers that a later one of the same worker has replaced.
    """

    kinds: Mapping[str, KindFigures]
    places: Sequence[int]
    workers: Sequence[tuple[int, int]]
    num_replaced: int


def measured(store: Store) -> Figures:
    """The figures as they stand; a study that goes on has some answers only."""
    picks, editors, num_asked = store.picks(), store.editors(), store.num_asked()
    kinds = {
        kind: _of_kind(
            [pick for pick in picks if pick.question.kind == kind], editors, *num_asked[kind]
        )
        for kind in in_order(set(num_asked))
    }
    places = Counter(pick.place for pick in picks)
    return Figures(
        kinds=kinds,
        places=[places[place] for place in range(1, len(editors) + 1)],
        workers=[(worker.num_answered, worker.num_tasks) for worker in store.workers()],
        num_replaced=store.num_replaced(),
    )


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share.

    Args:
        share: observed, 0..1.
        n: independent observations, more than 0.
        level: how often such an interval holds the true share.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def agreement(answers: Iterable[Sequence[Hashable]]) -> Agreement:
    """How far answers to the same items agree.

    Krippendorff (2004), Content Analysis, section 11.3.3: items may have different numbers of
    answers; those with one count nothing.

    Args:
        answers: to each item, one of each worker who was asked.
    """
    units = [Counter(each) for each in answers if len(each) > 1]
    totals = sum(units, Counter())
    n = totals.total()
    num_pairs = sum(math.comb(unit.total(), 2) for unit in units)
    num_alike = sum(math.comb(number, 2) for unit in units for number in unit.values())
    observed = sum(
        sum(number * (unit.total() - number) for number in unit.values()) / (unit.total() - 1)
        for unit in units
    )
    expected = sum(number * (n - number) for number in totals.values())
    return Agreement(
        num_items=len(units),
        num_pairs=num_pairs,
        share=num_alike / num_pairs if num_pairs else None,
        # Where all answers are one there is no chance to be held against.
        alpha=1 - (n - 1) * observed / expected if expected else None,
    )


def _of_kind(
    picks: Sequence[Pick], editors: Sequence[str], num_items: int, num_tasks: int
) -> KindFigures:
    items: defaultdict[str, list[str]] = defaultdict(list)
    for pick in picks:
        items[pick.question.item].append(pick.editor)
    numbers = Counter(pick.editor for pick in picks)
    shares = {}
    for editor in editors:
        share = numbers[editor] / len(picks) if picks else None
        # Answers to one item are not independent; to count the items alone errs to the wide side.
        interval = None if share is None else wilson(share, len(items))
        shares[editor] = Share(numbers[editor], share, interval)
    return KindFigures(
        num_items=num_items,
        num_answered_items=len(items),
        num_tasks=num_tasks,
        num_answers=len(picks),
        editors=shares,
        agreement=agreement(items.values()),
    )
