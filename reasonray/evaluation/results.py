"""What an evaluation has found: by item, and as tables with paired intervals."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonray.core.place import Place
from reasonray.evaluation.chunks import chunk_files, notices_of, read_chunk
from reasonray.evaluation.items import Benchmark, Figure, Item, Scored
from reasonray.evaluation.judge import AXES
from reasonray.evaluation.metrics import difference_interval, mean_interval

if TYPE_CHECKING:
    from reasonray.evaluation.subjects import Subject

LOWER_IS_BETTER = ("L1", "L2")

PUBLISHED = {
    "Null-text": (
        (0.0931, 0.0354, 0.8542, 0.8036, 0.2479), (0.2637, 0.1165, 0.6326, 0.5249, 0.1706),
    ),
    "EDICT": ((0.1149, 0.0385, 0.8137, 0.7485, 0.2490), (0.2753, 0.1296, 0.6282, 0.5526, 0.1703)),
    "InstructPix2Pix": (
        (0.1265, 0.0423, 0.8042, 0.7256, 0.2465), (0.2984, 0.1385, 0.6034, 0.5142, 0.1629),
    ),
    "MagicBrush": (
        (0.0706, 0.0247, 0.9127, 0.8745, 0.2568), (0.2239, 0.0938, 0.6755, 0.6125, 0.1941),
    ),
    "InstructDiffusion": (
        (0.0824, 0.0295, 0.8873, 0.8461, 0.2506), (0.2145, 0.0863, 0.6904, 0.6375, 0.2046),
    ),
    "ReasonPix2Pix": (
        (0.0646, 0.0203, 0.9246, 0.8920, 0.2553), (0.1347, 0.0476, 0.7824, 0.7216, 0.2350),
    ),
}  # fmt: skip
"""Table 3 of the paper, on its own benchmark: direct, reasoning; each in the order of
`TRUTH_METRICS`."""


@dataclass(frozen=True)
class EditorScores:
    """One editor on one benchmark, item by item in its order.

    Attributes:
        scored: each item, and the axes of its picture.
        values: of each of the items' measures; NaN where an item does not have it.
        reasons, details: why there is no picture or no figure: a short code, and a sentence; None
            where nothing is amiss.
        notes: on pictures that had to be resized.
        notices: on how it edits and a judge was asked, such as what a server did not take.
        remarks: what else was written down, by column, such as a judge's reasons; empty ones are
            left out.
        num_partly_shown: items with several pictures of which the editor was given the first alone.
    """

    scored: list[Scored]
    values: dict[str, list[float]]
    reasons: list[str | None]
    details: list[str | None]
    notes: list[str | None]
    notices: list[str]
    remarks: list[dict[str, Any]]
    num_partly_shown: int = 0

    @property
    def num_revised(self) -> int:
        """Items whose instruction the editor has rewritten first."""
        return sum("revised" in each for each in self.remarks)

    def num_failed(self, groups: Collection[str]) -> int:
        """Items of some groups of which the editor made no picture."""
        return sum(each.axes is None for each in self.scored if each.item.group in groups)

    def sources(self, group: str) -> list[str]:
        """Which picture each of a group's items begins with; several may share one."""
        return [
            each.item.pictures[0].uri if each.item.pictures else each.item.id
            for each in self.scored
            if each.item.group == group
        ]

    def of(self, group: str, measure: str) -> NDArray[np.float64]:
        """A measure's values in a group, NaN where there is none."""
        chosen = [each.item.group == group for each in self.scored]
        nothing = [float("nan")] * len(self.scored)
        return np.asarray(self.values.get(measure, nothing), np.float64)[chosen]


def read_scores(folder: Place, benchmark: Benchmark, items: Sequence[Item]) -> EditorScores:
    """What an editor's chunks hold.

    Args:
        folder: of their files.
        benchmark: whose measures are taken.
        items: all of it, in the order of the chunks.

    Raises:
        UserError: a file is damaged or of other items.
    """
    paths = chunk_files(folder)
    firsts = [int(path.stem) for path in paths]
    chunks = [
        read_chunk(path, items[first:last])
        for path, first, last in zip(paths, firsts, [*firsts[1:], len(items)], strict=True)
    ]
    table = pa.concat_tables(chunks, promote_options="default")
    scored = [
        Scored(item, None if axes is None else dict(axes))
        for item, axes in zip(items, table["axes"].to_pylist(), strict=True)
    ]
    measured = [dict(benchmark.score(each.item, each.axes)) for each in scored]
    if benchmark.yardstick != "judge" and any(AXES.keys() & (each.axes or {}) for each in scored):
        # Beside its metrics, by our own questions.
        for scores, each in zip(measured, scored, strict=True):
            scores |= {axis: (each.axes or {}).get(axis) for axis in AXES}
    names = dict.fromkeys(name for scores in measured for name in scores)
    values = {name: [_number(scores.get(name)) for scores in measured] for name in names}
    own = ["id", "axes", "reason", "detail", "note", "num_unseen"]
    others = table.drop_columns(own).to_pylist()
    remarks = [{name: value for name, value in row.items() if value} for row in others]
    reasons, details, notes = (table[n].to_pylist() for n in ("reason", "detail", "note"))
    notices = list(dict.fromkeys(notice for each in chunks for notice in notices_of(each)))
    num_partly_shown = pc.sum(pc.greater(table["num_unseen"], 0)).as_py() or 0
    return EditorScores(scored, values, reasons, details, notes, notices, remarks, num_partly_shown)


def _number(value: float | None) -> float:
    return float("nan") if value is None or not math.isfinite(value) else value


@dataclass(frozen=True)
class Cell:
    """A metric of an editor in a group.

    Attributes:
        mean: of the items that have it; None: none has.
        interval: its 95 % interval.
        num_items: of the group.
        num_failed: of them without a picture: the editor's failures.
        num_without: of them without the metric, for whatever reason.
        lead: 95 % interval of the mean difference to the first editor, on the items that both
            have; None for that editor itself, and where there is no such item.
    """

    mean: float | None
    interval: tuple[float, float] | None
    num_items: int
    num_failed: int
    num_without: int
    lead: tuple[float, float] | None


Table = Mapping[str, Mapping[str, Mapping[str, Cell]]]
"""By editor, group and measure."""


@dataclass(frozen=True)
class Outcome:
    """What has come of a benchmark.

    Attributes:
        subject: the benchmark.
        measured_by: the models and the protocol that its figures are stamped with.
        scores: by editor.
        table: of them, as `cells` gives it.
        own_tables: by editor the benchmark's own table.
    """

    subject: "Subject"
    measured_by: Mapping[str, Any]
    scores: dict[str, EditorScores]
    table: Table
    own_tables: dict[str, list[Figure]]

    @property
    def rewriting(self) -> list[str]:
        """Editors that wrote instructions of their own first, where others followed ours."""
        return [editor for editor, own in self.scores.items() if own.num_revised]

    @property
    def judge(self) -> str:
        """The judge, and what it was asked; "" where there is none."""
        judge = self.measured_by.get("judge")
        return f"{judge['model']}, asked {judge['rubric'] or 'our own questions'}" if judge else ""

    def failures(self, editor: str) -> dict[str, int]:
        """How often an editor has no picture or no figure, by reason."""
        reasons = [reason for reason in self.scores[editor].reasons if reason is not None]
        return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}

    def num_resized(self, editor: str) -> int:
        """How many of an editor's pictures are of another size than their input's."""
        return sum(note is not None for note in self.scores[editor].notes)


def cells(scores: Mapping[str, EditorScores]) -> dict[str, dict[str, dict[str, Cell]]]:
    """By editor, group and measure; leads are over the first editor.

    Args:
        scores: by editor, on the same items.
    """
    first = next(iter(scores))
    # An editor that failed on everything has none of a judge's.
    measures = dict.fromkeys(measure for own in scores.values() for measure in own.values)
    table: dict[str, dict[str, dict[str, Cell]]] = {}
    for editor, own in scores.items():
        table[editor] = {}
        for group in dict.fromkeys(each.item.group for each in own.scored):
            table[editor][group] = {
                measure: _cell(
                    own.of(group, measure),
                    None if editor == first else scores[first].of(group, measure),
                    own.sources(group),
                    own.num_failed([group]),
                )
                for measure in measures
            }
    return table


def _cell(
    values: NDArray[np.float64],
    theirs: NDArray[np.float64] | None,
    sources: Sequence[str],
    num_failed: int,
) -> Cell:
    there = ~np.isnan(values)
    gain = None if theirs is None else gain_over(values, theirs, sources)
    lead = gain and gain[1]
    num_without = int((~there).sum())
    if not there.any():
        return Cell(None, None, len(values), num_failed, num_without, lead)
    held = values[there]
    interval = mean_interval(held, clusters=list(compress(sources, there)))
    return Cell(float(held.mean()), interval, len(values), num_failed, num_without, lead)


def gain_over(
    values: NDArray[np.float64], theirs: NDArray[np.float64], sources: Sequence[str]
) -> tuple[float, tuple[float, float]] | None:
    """The mean difference on the items that both have, and its 95 % interval; None: there are none.

    Args:
        values, theirs: a measure of two editors, item by item; NaN where there is none.
        sources: which picture each item begins with.
    """
    both = ~np.isnan(values) & ~np.isnan(theirs)
    if not both.any():
        return None
    pairs = values[both].tolist(), theirs[both].tolist()
    interval = difference_interval(*pairs, clusters=list(compress(sources, both)))
    return float(np.subtract(*pairs).mean()), interval


def best(table: Table, group: str, metric: str, apart: Collection[str] = ()) -> set[str]:
    """The editors that lead in a metric, as far as four decimals tell; none of those `apart`."""
    means = {
        editor: round(cell.mean, 4)
        for editor, by_group in table.items()
        if editor not in apart
        and group in by_group
        and (cell := by_group[group][metric]).mean is not None
    }
    if not means:
        return set()
    aim = min(means.values()) if metric in LOWER_IS_BETTER else max(means.values())
    return {editor for editor, mean in means.items() if mean == aim}
