"""The ablation's figures: a table, what each step brings with its interval, and the charts."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from reasonray.core.place import Place, make_folder
from reasonray.core.version import __version__
from reasonray.core.writing import write_file
from reasonray.evaluation import tables
from reasonray.evaluation.ablation.charts import FORMATS, chart
from reasonray.evaluation.ablation.variants import DATA, MODEL, Variant
from reasonray.evaluation.page.charts import figure
from reasonray.evaluation.results import LOWER_IS_BETTER, EditorScores, Outcome, gain_over

MEASURE = "CLIP-I"
"""What Figure 15 shows; of a benchmark without it the first of its measures."""

CHARTS = {
    "data": ("What each part of the data brings", DATA),
    "model": ("What the multimodal model brings, and what the data", MODEL),
}
"""Name, title and order of Figure 15a and b."""


@dataclass(frozen=True)
class Gain:
    """What a step from one variant to the next brings in a measure of a group.

    Attributes:
        before, after: the variants.
        group: of a benchmark's items.
        measure: of them.
        difference: of the means of after and before, on the items that both have; None: there are
            none.
        interval: its paired 95 % interval.
        holds: the interval lies wholly on the better side of 0.
    """

    before: str
    after: str
    group: str
    measure: str
    difference: float | None
    interval: tuple[float, float] | None
    holds: bool


def gains(scores: Mapping[str, EditorScores]) -> Iterator[Gain]:
    """Of each step of the two charts, group by group; where nobody has a measure, there is none.

    Args:
        scores: by variant, on the same items.
    """
    steps = dict.fromkeys((*pairwise(DATA), *pairwise(MODEL)))
    groups = dict.fromkeys(each.item.group for own in scores.values() for each in own.scored)
    measures = dict.fromkeys(measure for own in scores.values() for measure in own.values)
    for before, after in steps:
        for group in groups:
            for measure in measures:
                sources = scores[after].sources(group)
                values, theirs = (scores[name].of(group, measure) for name in (after, before))
                difference, interval = gain_over(values, theirs, sources) or (None, None)
                holds = interval is not None and (
                    interval[1] < 0 if measure in LOWER_IS_BETTER else interval[0] > 0
                )
                yield Gain(before, after, group, measure, difference, interval, holds)


def write_report(folder: Place, compared: Sequence[Variant], outcomes: Sequence[Outcome]) -> Place:
    """Write table, results and charts, and give the table's file.

    Args:
        folder: of the ablation.
        compared: all variants.
        outcomes: what has come of each benchmark.
    """
    results: dict[str, Any] = {
        "reasonray": __version__,
        "variants": {each.name: dataclasses.asdict(each) for each in compared},
        "benchmarks": {},
    }
    lines = ["# Ablation", "", *(f"- {each.name}: {each.about}" for each in compared), ""]
    make_folder(folder / "charts")
    for outcome in outcomes:
        name, steps = outcome.subject.name, list(gains(outcome.scores))
        results["benchmarks"][name] = {
            "path": outcome.subject.path,
            "measured_by": outcome.measured_by,
            "items": len(outcome.subject.items),
            "variants": {
                variant: {
                    group: {measure: dataclasses.asdict(cell) for measure, cell in row.items()}
                    for group, row in by_group.items()
                }
                for variant, by_group in outcome.table.items()
            },
            "gains": [dataclasses.asdict(gain) for gain in steps],
        }
        lines += [f"## {name}", ""]
        for chart_name, path in _write_charts(folder / "charts", compared, outcome):
            lines += [f"![{CHARTS[chart_name][0]}](charts/{path})", ""]
        lines += [tables.markdown(outcome.table, published=None)]
        lines += [_gains_table(steps)]
    write_file(folder / "results.json", json.dumps(results, indent=1))
    write_file(folder / "table.md", "\n".join(lines))
    return folder / "table.md"


def _write_charts(
    folder: Place, compared: Sequence[Variant], outcome: Outcome
) -> Iterator[tuple[str, str]]:
    measures = tables.measures(outcome.table, list(next(iter(outcome.table.values()))))
    measure = MEASURE if MEASURE in measures else measures[0]
    labels = {each.name: each.label for each in compared}
    for name, (title, order) in CHARTS.items():
        drawn = chart(outcome.table, measure, {each: labels[each] for each in order}, title)
        for form in FORMATS:
            write_file(folder / f"{outcome.subject.name}-{name}.{form}", drawn[form])
        yield name, f"{outcome.subject.name}-{name}.png"


def _gains_table(steps: Sequence[Gain]) -> str:
    """Groups and their steps below each other, measures side by side; in bold where one holds."""
    measures = dict.fromkeys(gain.measure for gain in steps)
    cells = {(gain.group, gain.before, gain.after, gain.measure): gain for gain in steps}
    lines = [
        "What each step brings: the mean difference on the items that both have, and its paired "
        "95 % interval; in bold where that lies wholly on the better side of 0.",
        "",
        "| | step | " + " | ".join(measures) + " |",
        "|---|---|" + "---|" * len(measures),
    ]
    for group in dict.fromkeys(gain.group for gain in steps):
        for before, after in dict.fromkeys((gain.before, gain.after) for gain in steps):
            row = [_shown(cells[group, before, after, measure]) for measure in measures]
            lines += [f"| {group or 'all'} | {before} → {after} | " + " | ".join(row) + " |"]
    return "\n".join([*lines, ""])


def _shown(gain: Gain) -> str:
    if gain.difference is None or gain.interval is None:
        return "–"
    low, high = (figure(end, gain.measure, "+") for end in gain.interval)
    text = f"{figure(gain.difference, gain.measure, '+')} ({low} to {high})"
    return f"**{text}**" if gain.holds else text
