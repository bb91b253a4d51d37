"""How far two sets of scores of the same pictures agree: a judge's with another's or people's.

Kendall's tau-b, the share of pairs put in the same order, and the difference of the means, each
with a bootstrap interval; and which score of the one meets which of the other. All pictures of an
item are drawn together: they share its difficulty.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonray.core.errors import UserError
from reasonray.evaluation.score_files import Key, Preferences, Scores

LEVEL = 0.95
NUM_RESAMPLES = 1000

_ROWS = 1000
"""Of a matrix of all pairs that are held at once."""

MAX_LEVELS = 11
"""Different whole scores up to which a confusion is a table that a person can read."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval.

    Attributes:
        value: None: it cannot be had, as where all scores are equal.
        low, high: ends of the `LEVEL` interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Agreement:
    """Of one axis.

    Attributes:
        axis: its name in the first file, and in the second where that differs: "a = b".
        num_pictures: that both have scored.
        num_only_first, num_only_second: that the other has not.
        tau: Kendall's tau-b over the pictures, -1..1; None for preferences.
        accuracy: share of the pairs that the second puts in an order, which the first puts in the
            same; a tie of the first's is half right.
        num_pairs: of these.
        are_within_items: the pairs are of one item by different editors; else of all pictures.
        difference: mean of the first less mean of the second; None for preferences.
        confusion: (first's, second's score) -> pictures, means rounded; empty where neither has
            whole scores, or there are more than `MAX_LEVELS`.
    """

    axis: str
    num_pictures: int
    num_only_first: int
    num_only_second: int
    tau: Estimate | None
    accuracy: Estimate
    num_pairs: int
    are_within_items: bool
    difference: Estimate | None
    confusion: Mapping[tuple[int, int], int]


def compare(
    first: Scores, second: Scores, axes: Mapping[str, str] | None = None
) -> list[Agreement]:
    """The agreement on each axis.

    Args:
        first, second: of the same pictures, by item and editor.
        axes: name in the first -> name in the second; None: those that both have.

    Raises:
        UserError: no axis or no picture in common, or a named axis that is not there.
    """
    pairs = _axes(first, second, axes)
    return [_on_axis(first, ours, second, theirs) for ours, theirs in pairs.items()]


def compare_with_preferences(
    first: Scores, preferences: Preferences, axes: Sequence[str] | None = None
) -> list[Agreement]:
    """How often each axis prefers what people did: of two editors' pictures of one item.

    Args:
        first: scores by item and editor.
        preferences: which of two was chosen.
        axes: of the scores; None: all.

    Raises:
        UserError: an axis that is not there, or not one preference between two scored pictures.
    """
    named = {axis: axis for axis in axes or first.axes}
    _check(first, named)
    return [_on_preferences(first, axis, preferences) for axis in named]


def _axes(first: Scores, second: Scores, axes: Mapping[str, str] | None) -> Mapping[str, str]:
    if axes is None:
        axes = {axis: axis for axis in first.axes if axis in second.axes}
        if not axes:
            raise UserError(
                f"{first.name} and {second.name} have no axis in common "
                f"({', '.join(first.axes) or 'none'}; {', '.join(second.axes) or 'none'}): "
                "say which belong together, e.g. --axis following=instruction_score"
            )
    _check(first, axes)
    _check(second, {theirs: ours for ours, theirs in axes.items()})
    return axes


def _check(scores: Scores, axes: Mapping[str, str]) -> None:
    for axis in axes:
        if axis not in scores.axes:
            raise UserError(
                f"{scores.name}: no column {axis} with scores (there are: "
                f"{', '.join(scores.axes) or 'none'})"
            )


def _on_axis(first: Scores, ours: str, second: Scores, theirs: str) -> Agreement:
    a_by, b_by = first.axes[ours], second.axes[theirs]
    keys = [key for key in a_by if key in b_by]
    if not keys:
        raise UserError(
            f"{first.name} and {second.name}: not one picture in common that has {ours} and "
            f"{theirs}; {first.name} has {_example(a_by)}, {second.name} {_example(b_by)}"
        )
    a_N = np.array([a_by[key] for key in keys])
    b_N = np.array([b_by[key] for key in keys])
    draws = _Draws([key.id for key in keys])
    within = _pairs_within(keys, a_N, b_N, draws.item_N)
    tau, accuracy_of_all, num_pairs_of_all = _of_all_pairs(a_N, b_N, draws)
    # Editors of one item are what a judge is to tell apart; without several, all that there is.
    accuracy, num_pairs = (
        (_ratio(*within, draws), int(within[1].sum()))
        if within[1].sum()
        else (accuracy_of_all, num_pairs_of_all)
    )
    return Agreement(
        axis=ours if ours == theirs else f"{ours} = {theirs}",
        num_pictures=len(keys),
        num_only_first=len(a_by) - len(keys),
        num_only_second=len(b_by) - len(keys),
        tau=tau,
        accuracy=accuracy,
        num_pairs=num_pairs,
        are_within_items=bool(within[1].sum()),
        difference=_ratio(draws.by_item(a_N - b_N), draws.by_item(np.ones(len(keys))), draws),
        confusion=_confusion(a_N, b_N),
    )


def _on_preferences(first: Scores, axis: str, preferences: Preferences) -> Agreement:
    scores = first.axes[axis]
    known = [
        each
        for each in preferences.pairs
        if each.chosen_key in scores and each.rejected_key in scores
    ]
    if not known:
        raise UserError(
            f"{first.name} and {preferences.name}: not one preference between two pictures that "
            f"have {axis}; are ids and editors spelt alike? {first.name} has {_example(scores)}"
        )
    draws = _Draws([each.id for each in known])
    right_N = np.array(
        [(1 + np.sign(scores[each.chosen_key] - scores[each.rejected_key])) / 2 for each in known]
    )
    pictures = {key for each in known for key in (each.chosen_key, each.rejected_key)}
    return Agreement(
        axis=axis,
        num_pictures=len(pictures),
        num_only_first=len(scores) - len(pictures),
        num_only_second=len(preferences.pairs) - len(known),
        tau=None,
        accuracy=_ratio(draws.by_item(right_N), draws.by_item(np.ones(len(known))), draws),
        num_pairs=len(known),
        are_within_items=True,
        difference=None,
        confusion={},
    )


class _Draws:
    """The bootstrap's: how often each item is drawn in each resample, always the same way."""

    def __init__(self, ids: Sequence[str]) -> None:
        names = {name: place for place, name in enumerate(dict.fromkeys(ids))}
        self.item_N = np.array([names[name] for name in ids])
        count = len(names)
        rng = np.random.default_rng(0)
        self.times_RI: Floats = rng.multinomial(
            count, np.full(count, 1 / count), size=NUM_RESAMPLES
        ).astype(np.float64)

    def by_item(self, values_N: Floats) -> Floats:
        """Sums of the pictures' values."""
        sums_I = np.zeros(self.times_RI.shape[1])
        np.add.at(sums_I, self.item_N, values_N)
        return sums_I


def _ratio(numerator_I: Floats, denominator_I: Floats, draws: _Draws) -> Estimate:
    """A ratio of sums over items."""
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn_R = (draws.times_RI @ numerator_I) / (draws.times_RI @ denominator_I)
    return _estimate(numerator_I.sum() / denominator_I.sum(), drawn_R)


def _estimate(value: float, drawn_R: Floats) -> Estimate:
    drawn_R = drawn_R[np.isfinite(drawn_R)]
    if not np.isfinite(value) or not len(drawn_R):
        return Estimate(None)
    low, high = np.quantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


def _pairs_within(
    keys: Sequence[Key], a_N: Floats, b_N: Floats, item_N: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """By item: how many pairs of editors have the second's order, of how many."""
    members: dict[int, list[int]] = {}
    for place in range(len(keys)):
        members.setdefault(int(item_N[place]), []).append(place)
    right_I, num_I = np.zeros(len(members)), np.zeros(len(members))
    for item, places in members.items():
        upper = np.triu_indices(len(places), 1)
        a, b = (np.sign(np.subtract.outer(x[places], x[places]))[upper] for x in (a_N, b_N))
        num_I[item] = np.count_nonzero(b)
        right_I[item] = ((1 + a * b) / 2)[b != 0].sum()
    return right_I, num_I


def _of_all_pairs(a_N: Floats, b_N: Floats, draws: _Draws) -> tuple[Estimate, Estimate, int]:
    """Tau-b, and the accuracy over the pairs that the second orders, with their number.

    Pictures with the same two scores are one cell with a weight: of whole scores there are few.
    """
    cells, cell_N = np.unique(np.stack([a_N, b_N], 1), axis=0, return_inverse=True)
    cell_N = cell_N.reshape(-1)
    once_I = np.ones(draws.times_RI.shape[1])
    weight_RC = np.stack(
        [
            np.bincount(cell_N, times_I[draws.item_N], minlength=len(cells))
            for times_I in (once_I, *draws.times_RI)
        ]
    )
    agree_R, of_a_R, of_b_R = np.zeros((3, len(weight_RC)))
    for start in range(0, len(cells), _ROWS):
        part = slice(start, start + _ROWS)
        a, b = (np.sign(np.subtract.outer(cells[part, i], cells[:, i])) for i in (0, 1))
        for total_R, sign in ((agree_R, a * b), (of_a_R, a * a), (of_b_R, b * b)):
            total_R += ((weight_RC[:, part] @ sign) * weight_RC).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau_R = agree_R / np.sqrt(of_a_R * of_b_R)
        accuracy_R = (1 + agree_R / of_b_R) / 2
    return (
        _estimate(tau_R[0], tau_R[1:]),
        _estimate(accuracy_R[0], accuracy_R[1:]),
        round(of_b_R[0] / 2),
    )


def _confusion(a_N: Floats, b_N: Floats) -> Mapping[tuple[int, int], int]:
    a, b = (np.rint(x).astype(int).tolist() for x in (a_N, b_N))
    # Means of repeats are rounded where the others show that whole scores are given.
    are_whole = (a_N == a).all() or (b_N == b).all()
    if not are_whole or any(len(set(x)) > MAX_LEVELS for x in (a, b)):
        return {}
    return dict(Counter(zip(a, b, strict=True)))


def _example(scores: Mapping[Key, float]) -> str:
    return f"e.g. {next(iter(scores))}" if scores else "none"
