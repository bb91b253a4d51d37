"""A chart of Figure 15: one measure over the variants, a line for each group, with intervals."""

import io
from collections.abc import Mapping
from typing import Any

from reasonray.evaluation.results import Table
from reasonray.evaluation.tables import side_by_side

FORMATS = ("png", "svg")

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which people who see few colours tell apart; markers differ, too."""
MARKERS = "osD^vP"

_SHIFT = 0.09
"""Between the groups' marks beside each other, of the distance of two variants."""
_METADATA: Mapping[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}


def chart(table: Table, measure: str, labels: Mapping[str, str], title: str) -> dict[str, bytes]:
    """Means as marks with their 95 % intervals; the axis need not begin at 0.

    Args:
        table: as `results.cells` gives it, of all variants: charts of one table have one axis.
        measure: that is drawn; a group without it is left out.
        labels: by variant what stands below it, in the order of the chart.
        title: above it.

    Returns:
        The file's content by format.
    """
    import matplotlib
    from matplotlib.figure import Figure

    groups = [group for several in side_by_side(table) for group in several]
    # A file of the same figures is the same file.
    style: dict[Any, Any] = {"svg.hashsalt": "reasonray", "svg.fonttype": "none", "font.size": 9.0}
    with matplotlib.rc_context(style):
        # Without pyplot: nothing is kept, and no display is looked for.
        figure = Figure(figsize=(2.4 + 1.25 * len(labels), 3.7), layout="constrained")
        axes = figure.add_subplot()
        for number, group in enumerate(groups):
            shift = (number - (len(groups) - 1) / 2) * _SHIFT
            marks = [
                (place + shift, cell.mean, cell.interval)
                for place, variant in enumerate(labels)
                if (cell := table[variant].get(group, {}).get(measure)) is not None
            ]
            drawn = [(x, mean, ends) for x, mean, ends in marks if mean is not None and ends]
            if not drawn:
                continue
            axes.errorbar(
                [x for x, _, _ in drawn],
                [mean for _, mean, _ in drawn],
                [
                    [max(0.0, mean - low) for _, mean, (low, _) in drawn],
                    [max(0.0, high - mean) for _, mean, (_, high) in drawn],
                ],
                label=group or "all",
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=5,
                linewidth=1,
                linestyle=":",
                elinewidth=1.5,
                capsize=3,
            )
        axes.set_xticks(range(len(labels)), list(labels.values()))
        axes.set_xlim(-0.5, len(labels) - 0.5)
        if ends := _ends(table, measure):
            axes.set_ylim(*ends)
        axes.set_ylabel(f"{measure}, mean and 95 % interval")
        axes.set_title(title, fontsize=10, loc="left")
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            # Beside the axes, where no mark is.
            figure.legend(frameon=False, title="instruction", loc="outside right upper")
        files = {}
        for form in FORMATS:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=form, dpi=160, metadata=_METADATA[form])
            files[form] = buffer.getvalue()
    return files


def _ends(table: Table, measure: str) -> tuple[float, float] | None:
    """Of the axis, with some room: from the lowest interval of any variant to the highest."""
    ends = [
        end
        for by_group in table.values()
        for row in by_group.values()
        if (cell := row.get(measure)) is not None
        for end in cell.interval or ()
    ]
    if not ends:
        return None
    room = (max(ends) - min(ends)) * 0.06 or 0.05
    return min(ends) - room, max(ends) + room
