"""Figures by what items have beside their group: part, kind of reasoning, categories."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonray.evaluation.items import FACETS, Item
from reasonray.evaluation.results import Outcome

LABELS = {
    "part": "Part",
    "reasoning_type": "Kind of reasoning",
    "selected_category": "What is replaced",
    "target_category": "What it becomes",
}

MAX_VALUES = 24
"""Of a facet, the commonest; a real dataset has hundreds of categories."""

MAX_GROUPS = 4
"""Side by side; the groups of a benchmark with more are taken together."""


@dataclass(frozen=True)
class Facet:
    """Means by one facet.

    Attributes:
        label: what it is.
        num_values: that items have.
        rows: of the commonest values: the value, its items, and by measure the means of each editor
            in each group; None where no item has one.
    """

    label: str
    num_values: int
    rows: Sequence[tuple[str, int, Mapping[str, list[float | None]]]]


def value_of(item: Item, name: str) -> str | None:
    """An item's value of one of `FACETS`."""
    value = item.fields.get(name)
    return None if value is None or value == "" else str(value)


def groups_of(outcome: Outcome) -> list[str]:
    """The columns' groups; one without a name is all of them together."""
    groups = list(dict.fromkeys(item.group for item in outcome.subject.items))
    return groups if len(groups) <= MAX_GROUPS else [""]


def facets(outcome: Outcome) -> list[Facet]:
    """All that some items have a value of."""
    items = outcome.subject.items
    columns = {
        editor: {measure: np.asarray(values) for measure, values in own.values.items()}
        for editor, own in outcome.scores.items()
    }
    measures = dict.fromkeys(measure for own in columns.values() for measure in own)
    groups = np.array([item.group for item in items])
    every = np.ones(len(items), bool)
    masks = [groups == group if group else every for group in groups_of(outcome)]
    every_facet = []
    for name in FACETS:
        values = [value_of(item, name) for item in items]
        counts = Counter(value for value in values if value is not None)
        if not counts:
            continue
        held = np.array([value or "" for value in values])
        rows = []
        for value, count in counts.most_common(MAX_VALUES):
            own = held == value
            means = {
                measure: [
                    _mean(columns[editor].get(measure), own & mask)
                    for mask in masks
                    for editor in columns
                ]
                for measure in measures
            }
            rows.append((value, count, means))
        every_facet.append(Facet(LABELS[name], len(counts), rows))
    return every_facet


def _mean(values: NDArray[np.float64] | None, mask: NDArray[np.bool_]) -> float | None:
    if values is None:
        return None
    held = values[mask]
    held = held[~np.isnan(held)]
    return float(held.mean()) if len(held) else None
