"""How a page shows figures: as numbers, and as SVG of means with their 95 % intervals."""

import math
from collections.abc import Iterator

from markupsafe import Markup, escape

from reasonray.evaluation.items import INPUT_METRICS, TRUTH_METRICS
from reasonray.evaluation.results import Cell, Table
from reasonray.evaluation.tables import side_by_side

NUM_COLOURS = 6
"""Editors beyond these take the first ones' again: their names stand beside them."""

_WIDTH, _LABELS, _EDGE = 360, 108, 12
_ROW, _HEAD, _FOOT = 17, 22, 20
_LETTERS = 17
_TICKS = 5


def figure(value: float | None, measure: str, sign: str = "") -> str:
    """A number of a table: four decimals of a metric, two of a judge's score or a per cent.

    Args:
        value: None: there is none.
        measure: that it is of.
        sign: "+" for a difference.
    """
    if value is None:
        return "–"
    return f"{value:{sign}.{4 if measure in TRUTH_METRICS + INPUT_METRICS else 2}f}"


def chart(table: Table, measure: str) -> Markup:
    """One measure of all editors and groups.

    Args:
        table: as `results.cells` gives it; a group without the measure is left out.
        measure: of it.
    """
    groups = {
        group: {
            editor: cell
            for editor, by_group in table.items()
            if (cell := by_group.get(group, {}).get(measure))
        }
        for groups in side_by_side(table)
        for group in groups
    }
    groups = {group: row for group, row in groups.items() if any(c.interval for c in row.values())}
    ends = [end for row in groups.values() for cell in row.values() for end in cell.interval or ()]
    if not ends:
        return Markup('<p class="soft">No figure.</p>')
    low, high = _range(min(ends), max(ends))
    colours = {editor: number % NUM_COLOURS for number, editor in enumerate(table)}
    parts: list[str] = []
    y = 0
    for group, row in groups.items():
        y += _HEAD
        parts.append(f'<text class="group" x="0" y="{y - 6}">{_short(group or "all", 48)}</text>')
        for editor, cell in row.items():
            y += _ROW
            parts.append(f'<text x="8" y="{y - 4}">{_short(editor, _LETTERS)}</text>')
            parts.append(_mark(cell, measure, editor, colours[editor], y - _ROW / 2, low, high))
    height = y + _FOOT
    lines = [
        f'<line class="tick" x1="{_x(tick, low, high):.1f}" x2="{_x(tick, low, high):.1f}" '
        f'y1="{_HEAD}" y2="{y}"/>'
        f'<text class="number" x="{_x(tick, low, high):.1f}" y="{height - 6}">{tick:g}</text>'
        for tick in _ticks(low, high)
    ]
    label = f"{measure} by group and editor: means with 95 % intervals, {low:.3g} to {high:.3g}"
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">{"".join([*lines, *parts])}</svg>'
    )


def _mark(
    cell: Cell, measure: str, editor: str, colour: int, y: float, low: float, high: float
) -> str:
    if cell.mean is None or cell.interval is None:
        return f'<text class="none" x="{_LABELS}" y="{y + 4.5}">no figure</text>'
    left, right = cell.interval
    count = cell.num_items - cell.num_without
    mean, *ends = (figure(value, measure) for value in (cell.mean, left, right))
    about = f"{editor}: {mean} ({' to '.join(ends)}), {count} of {cell.num_items}"
    return (
        f'<g class="mark e{colour}"><title>{escape(about)}</title>'
        f'<line x1="{_x(left, low, high):.1f}" x2="{_x(right, low, high):.1f}" '
        f'y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle cx="{_x(cell.mean, low, high):.1f}" cy="{y:.1f}" r="3.6"/></g>'
    )


def _x(value: float, low: float, high: float) -> float:
    return _LABELS + (value - low) / (high - low) * (_WIDTH - _LABELS - _EDGE)


def _range(low: float, high: float) -> tuple[float, float]:
    """With some room at both ends; never empty."""
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> Iterator[float]:
    """Round numbers between the ends, a few."""
    step = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= _TICKS)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield round(number * step, 12)


def _short(text: str, length: int) -> Markup:
    return escape(text if len(text) <= length else f"{text[: length - 1]}…")
