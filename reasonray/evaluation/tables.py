"""Tables in the form of the paper's Table 3: groups side by side, the best in bold."""

from collections.abc import Collection, Mapping, Sequence

from reasonray.evaluation.items import TRUTH_METRICS, Figure
from reasonray.evaluation.markup import latex_text, markdown_cell
from reasonray.evaluation.results import LOWER_IS_BETTER, Cell, Table, best

GROUPS_A_TABLE = 2

_ARROWS = ("\\uparrow", "\\downarrow")


def markdown(
    table: Table,
    *,
    published: Mapping[str, Sequence[Sequence[float]]] | None,
    rewriting: Collection[str] = (),
) -> str:
    """The figures, and below each editor the interval of its lead over the first one.

    Args:
        table: as `results.cells` gives it.
        published: rows of the paper, groups direct and reasoning; None: they are not shown.
        rewriting: editors that stand apart, last, and are no best ones.
    """
    lines: list[str] = []
    for groups in side_by_side(table):
        metrics = measures(table, groups)
        heads = [markdown_cell(f"{group}: {metric}") for group in groups for metric in metrics]
        lines += ["| editor | " + " | ".join(heads) + " | edits, failed |"]
        lines += ["|---|" + "---|" * len(heads) + "---|"]
        of_editor = {
            editor: _editor_rows(table, editor, groups, metrics, rewriting) for editor in table
        }
        lines += [line for editor in table if editor not in rewriting for line in of_editor[editor]]
        for name, rows in (
            (published or {}).items() if list(groups) == ["direct", "reasoning"] else ()
        ):
            values = published_values(rows, groups, metrics)
            shown = ["" if value is None else f"{value:.4f}" for value in values]
            lines += [f"| {name} (published) | " + " | ".join(shown) + " | |"]
        lines += [line for editor in table if editor in rewriting for line in of_editor[editor]]
        lines += [""]
    return "\n".join(lines)


def _editor_rows(
    table: Table,
    editor: str,
    groups: Sequence[str],
    metrics: Sequence[str],
    rewriting: Collection[str],
) -> list[str]:
    by_group = table[editor]
    places = [(group, metric) for group in groups for metric in metrics]
    cells = [by_group[group][metric] for group, metric in places]
    shown = [
        _bold(_mean(cell), editor in best(table, *head, rewriting), "**")
        for cell, head in zip(cells, places, strict=True)
    ]
    name = shown_name(editor, rewriting)
    lines = [f"| {name} | " + " | ".join(shown) + f" | {_counts(by_group, groups)} |"]
    if any(cell.lead for cell in cells):
        lines += [f"| its lead, 95 % | {' | '.join(_lead(cell) for cell in cells)} | |"]
    return lines


def shown_name(editor: str, rewriting: Collection[str]) -> str:
    """An editor's name in a table, and whether it rewrote the instructions."""
    return f"{editor}, which rewrote" if editor in rewriting else editor


def published_values(
    rows: Sequence[Sequence[float]], groups: Sequence[str], measures: Sequence[str]
) -> list[float | None]:
    """A row of the paper below the heads of a table: of each group the measures.

    Args:
        rows: direct and reasoning, in the order of `TRUTH_METRICS`.
        groups, measures: of the table; None stands where the paper has none.
    """
    values = {
        (group, metric): value
        for group, row in zip(("direct", "reasoning"), rows, strict=True)
        for metric, value in zip(TRUTH_METRICS, row, strict=True)
    }
    return [values.get((group, measure)) for group in groups for measure in measures]


def latex(table: Table, rewriting: Collection[str] = ()) -> str:
    """The same for a paper, without the intervals; needs the package booktabs."""
    parts: list[str] = []
    for groups in side_by_side(table):
        metrics = measures(table, groups)
        arrows = [
            f"{latex_text(metric)} ${_ARROWS[metric in LOWER_IS_BETTER]}$" for metric in metrics
        ]
        width = len(metrics)
        spans = [f"\\multicolumn{{{width}}}{{c}}{{{latex_text(group)}}}" for group in groups]
        lines = [
            f"\\begin{{tabular}}{{l{'c' * (width * len(groups))}}}",
            "\\toprule",
            f"& {' & '.join(spans)} \\\\",
            f"Editor & {' & '.join(arrows * len(groups))} \\\\",
            "\\midrule",
        ]
        for editor in sorted(table, key=lambda editor: editor in rewriting):
            shown = []
            for group in groups:
                for metric in metrics:
                    text = _mean(table[editor][group][metric])
                    is_best = editor in best(table, group, metric, rewriting)
                    shown.append(f"\\textbf{{{text}}}" if is_best else text)
            lines.append(f"{latex_text(shown_name(editor, rewriting))} & {' & '.join(shown)} \\\\")
        parts.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""]))
    return "\n".join(parts)


def own(figures: Mapping[str, Sequence[Figure]]) -> str:
    """A benchmark's own table: its groups below each other, an editor a column for each measure.

    Args:
        figures: by editor, as `Benchmark.aggregate` gives them.
    """
    own_measures, rows = own_rows(figures)
    heads = [f"{editor}: {measure}" for measure in own_measures for editor in figures]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for group, row in rows:
        lines += [f"| {markdown_cell(group or 'all')} | " + " | ".join(map(_figure, row)) + " |"]
    return "\n".join([*lines, ""])


def own_rows(
    figures: Mapping[str, Sequence[Figure]],
) -> tuple[list[str], list[tuple[str, list[Figure | None]]]]:
    """The measures of a benchmark's own table, and its rows.

    Args:
        figures: as of `own`.

    Returns:
        Rows are a group, and of each measure the figures of all editors, as far as there are some.
    """
    cells = {
        (figure.group, figure.measure, editor): figure
        for editor, each in figures.items()
        for figure in each
    }
    own_measures = list(dict.fromkeys(measure for _, measure, _ in cells))
    groups = dict.fromkeys(group for group, _, _ in cells)
    return own_measures, [
        (group, [cells.get((group, each, editor)) for each in own_measures for editor in figures])
        for group in groups
    ]


def _figure(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "–"
    lacking = [
        f"{count} {what}"
        for count, what in ((figure.num_missing, "missing"), (figure.num_unjudged, "unjudged"))
        if count
    ]
    return f"{figure.value:.4g}" + (f" ({', '.join(lacking)})" if lacking else "")


def side_by_side(table: Table) -> list[list[str]]:
    """The groups of each table: direct and reasoning first, then two by two as they come."""
    groups = list(dict.fromkeys(group for by_group in table.values() for group in by_group))
    order = ["direct", "reasoning"]
    groups.sort(key=lambda group: order.index(group) if group in order else len(order))
    return [groups[i : i + GROUPS_A_TABLE] for i in range(0, len(groups), GROUPS_A_TABLE)]


def measures(table: Table, groups: Sequence[str]) -> list[str]:
    """All that some editor has in some of the groups."""
    return list(
        dict.fromkeys(
            metric for by_group in table.values() for group in groups for metric in by_group[group]
        )
    )


def _mean(cell: Cell) -> str:
    return "–" if cell.mean is None else f"{cell.mean:.4f}"


def _lead(cell: Cell) -> str:
    return "–" if cell.lead is None else f"{cell.lead[0]:+.4f} to {cell.lead[1]:+.4f}"


def _bold(text: str, is_best: bool, mark: str) -> str:
    return f"{mark}{text}{mark}" if is_best else text


def _counts(by_group: Mapping[str, Mapping[str, Cell]], groups: Sequence[str]) -> str:
    first = [next(iter(by_group[group].values())) for group in groups]
    return f"{sum(c.num_items for c in first)}, {sum(c.num_failed for c in first)}"
