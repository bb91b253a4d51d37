"""Which of a benchmark's items a page shows, and by what they can be sorted.

Knows nothing of pictures and HTML: works on figures alone.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np
from numpy.typing import NDArray

from reasonray.evaluation.results import LOWER_IS_BETTER, EditorScores

Column = NDArray[np.float64]
"""A value of each item of the benchmark, in its order; NaN where an item has none."""

SEED = 0
"""Of the draw: the same items at every call."""

DISAGREEMENT = "Disagreement between editors"


@dataclass(frozen=True)
class Order:
    """Something to sort by.

    Attributes:
        heading: what it is one of: disagreements, or an editor's measures.
        label: its own name, which says as much without the heading.
        keys: by item.
    """

    heading: str
    label: str
    keys: Column


def columns(own: EditorScores) -> dict[str, Column]:
    """An editor's measures, then those axes of its judge that are none of them."""
    axes = dict.fromkeys(axis for each in own.scored for axis in each.axes or {})
    raw = {
        axis: [(each.axes or {}).get(axis, np.nan) for each in own.scored]
        for axis in axes
        if axis not in own.values
    }
    return {name: np.asarray(values, np.float64) for name, values in (own.values | raw).items()}


def spread(values: Sequence[Column]) -> Column:
    """The largest value less the smallest, of each item that two editors have.

    Args:
        values: of each editor, one or more.
    """
    stacked = np.stack(values)
    # Unlike nanmax, these are silent where there is nothing.
    lead: Column = np.fmax.reduce(stacked) - np.fmin.reduce(stacked)
    return np.where((~np.isnan(stacked)).sum(0) >= 2, lead, np.nan)


def ranks(values: Column) -> Column:
    """The share of all values that are below each, 0..1, equal ones counted half."""
    there = ~np.isnan(values)
    held = np.sort(values[there])
    below = [np.searchsorted(held, values[there], side) for side in ("left", "right")]
    ranked = np.full(len(values), np.nan)
    ranked[there] = np.add(*below) / 2 / max(1, len(held))
    return ranked


def mean_ranks(values: Sequence[Column], num_items: int) -> Column:
    """The mean of each item's ranks, over the columns that it has."""
    if not values:
        return np.full(num_items, np.nan)
    ranked = np.stack([ranks(each) for each in values])
    count = (~np.isnan(ranked)).sum(0)
    return np.where(count > 0, np.nansum(ranked, axis=0) / np.maximum(count, 1), np.nan)


def disagreements(scores: Mapping[str, EditorScores], compared: Sequence[str]) -> list[Order]:
    """How far editors are apart: over all measures (by mean rank), then by each.

    Args:
        scores: by editor.
        compared: those of them that count; with one there is no disagreement.
    """
    if len(compared) < 2:
        return []
    names = dict.fromkeys(name for editor in compared for name in columns(scores[editor]))
    orders = []
    for name in names:
        values = [c[name] for c in map(columns, map(scores.__getitem__, compared)) if name in c]
        orders.append(Order(DISAGREEMENT, f"disagreement: {name}", spread(values)))
    num_items = len(scores[compared[0]].scored)
    over_all = mean_ranks([order.keys for order in orders], num_items)
    return [Order(DISAGREEMENT, "disagreement: all measures", over_all), *orders]


def orders(scores: Mapping[str, EditorScores], compared: Sequence[str]) -> list[Order]:
    """All that items can be sorted by, what comes first without a choice first.

    Args:
        scores: by editor.
        compared: as of `disagreements`.
    """
    num_items = len(next(iter(scores.values())).scored)
    return [
        *disagreements(scores, compared),
        *(
            Order(editor, f"{editor}: {name}", values)
            for editor, own in scores.items()
            for name, values in columns(own).items()
        ),
        Order("Benchmark", "place in the benchmark", np.arange(num_items, dtype=np.float64)),
    ]


def chosen(
    scores: Mapping[str, EditorScores], compared: Sequence[str], last: str, count: int
) -> list[int]:
    """The places of the items that are shown, in ascending order.

    Group by group in turn, and in each group in turn: one on which an editor failed, that with the
    largest disagreement, the worst and the best of an editor by its mean rank, a drawn one.

    Args:
        scores: by editor.
        compared: as of `disagreements`.
        last: the editor whose worst and best are shown.
        count: how many at most.
    """
    own = scores[last]
    num_items = len(own.scored)
    goodness = mean_ranks(
        [
            np.negative(values) if measure in LOWER_IS_BETTER else np.asarray(values)
            for measure, values in own.values.items()
        ],
        num_items,
    )
    over_all = [order.keys for order in disagreements(scores, compared)[:1]]
    draw = random.Random(SEED).sample(range(num_items), num_items)
    fails = [any(scores[editor].reasons[place] for editor in scores) for place in range(num_items)]
    groups: dict[str, list[int]] = {}
    for place in draw:
        groups.setdefault(own.scored[place].item.group, []).append(place)
    turns = (
        _in_turn(
            [
                [place for place in drawn if fails[place]],
                *(_sorted(drawn, -keys) for keys in over_all),
                _sorted(drawn, goodness),
                _sorted(drawn, -goodness),
                drawn,
            ]
        )
        for _, drawn in sorted(groups.items())
    )
    return sorted(islice(_in_turn(turns), count))


def _sorted(places: Sequence[int], keys: Column) -> list[int]:
    """Those that have a key, the lowest first."""
    return sorted((p for p in places if not np.isnan(keys[p])), key=keys.__getitem__)


def _in_turn(lists: Iterable[Iterable[int]]) -> Iterator[int]:
    """One of each list, then the next one of each, what has come before left out."""
    seen: set[int] = set()
    for turn in zip_longest(*lists):
        for place in turn:
            if place is not None and place not in seen:
                seen.add(place)
                yield place
