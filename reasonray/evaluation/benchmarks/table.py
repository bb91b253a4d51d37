"""From items' own measures to a benchmark's table: means by group, and what they leave out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from reasonray.evaluation.items import AS_INTENDED, AS_PUBLISHED, Figure, Item, Scored, Scores

Values = Mapping[str, Sequence[float | None]]
"""By measure what an item gives to its mean: one value, or several that count each; None as in
`Scores`."""


def published(measure: str) -> str:
    """A measure's name for what the benchmark's own script says."""
    return f"{measure}, {AS_PUBLISHED}"


def intended(measure: str) -> str:
    """A measure's name for what the benchmark's rules say."""
    return f"{measure}, {AS_INTENDED}"


def both(
    as_published: Mapping[str, float | None], as_intended: Mapping[str, float | None]
) -> Scores:
    """An item's measures under both names, side by side."""
    names = dict.fromkeys((*as_published, *as_intended))
    scores: dict[str, float | None] = {}
    for name in names:
        if name in as_published:
            scores[published(name)] = as_published[name]
        if name in as_intended:
            scores[intended(name)] = as_intended[name]
    return scores


def single(scores: Scores) -> Values:
    """Measures of which each item gives one value."""
    return {measure: (value,) for measure, value in scores.items()}


def means(
    scored: Sequence[Scored],
    values: Callable[[Scored], Values],
    groups: Callable[[Item], Iterable[str]],
) -> list[Figure]:
    """The mean of each measure in each group, over the values that are there.

    Args:
        scored: all items.
        values: of one item, by measure.
        groups: the rows of the table in which an item counts.

    Returns:
        Group by group and in them measure by measure, both in the order of their first item.
    """
    rows: dict[str, dict[str, list[tuple[Scored, Sequence[float | None]]]]] = {}
    for each in scored:
        measured = values(each)
        for group in groups(each.item):
            row = rows.setdefault(group, {})
            for measure, parts in measured.items():
                row.setdefault(measure, []).append((each, parts))
    return [
        Figure(
            measure=measure,
            group=group,
            value=mean(value for _, parts in cell for value in parts if value is not None),
            num_items=len(cell),
            num_missing=sum(each.axes is None for each, _ in cell),
            num_unjudged=sum(each.axes is not None and None in parts for each, parts in cell),
        )
        for group, row in rows.items()
        for measure, cell in row.items()
    ]


def mean(values: Iterable[float]) -> float | None:
    """The mean; None of nothing."""
    held = list(values)
    return sum(held) / len(held) if held else None


def without_stopped(figures: Sequence[Figure], scored: Sequence[Scored]) -> list[Figure]:
    """The figures of a benchmark whose own script stops at the first picture that is missing."""
    if all(each.axes is not None for each in scored):
        return list(figures)
    return [
        replace(each, value=None) if each.measure.endswith(AS_PUBLISHED) else each
        for each in figures
    ]
