"""The items that a page shows, with their pictures, and by what they are sorted and filtered."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasonray.core import images
from reasonray.core.errors import RowError
from reasonray.core.place import Place, parquet, undamaged
from reasonray.dataset.report.drawing import Thumbnail, reduced
from reasonray.evaluation.chunks import REMEDY, chunk_files
from reasonray.evaluation.items import Item, Picture
from reasonray.evaluation.page import choice
from reasonray.evaluation.page.facets import LABELS, value_of
from reasonray.evaluation.results import EditorScores, Outcome

# With these a page stays below 5 MB even if every picture were noise.
MAX_PICTURES = 400
"""On a page, of all benchmarks together."""

MAX_ITEMS = 60
"""Of a benchmark."""

SIDE, MAX_BYTES = 192, 8_000


@dataclass(frozen=True)
class Panel:
    """A picture of a card.

    Attributes:
        name: input, truth, or the editor's.
        kind: input, truth or editor.
        picture: None: there is none.
        problem: why there is none.
        detail: the same as a sentence.
        note: on a picture that had to be resized.
        figures: its measures.
    """

    name: str
    kind: str
    picture: Thumbnail | None
    problem: str = ""
    detail: str = ""
    note: str = ""
    figures: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Card:
    """An item.

    Attributes:
        item: of the benchmark.
        panels: input, editors, truth.
        remarks: by editor and column, as `plain` gives it.
        keys: of each of the gallery's orders; None: it has none.
        options: of each of the gallery's filters the number of its option; None: it has none.
        is_failed: an editor failed on it.
    """

    item: Item
    panels: list[Panel]
    remarks: dict[str, Any]
    keys: list[float | None]
    options: list[int | None]
    is_failed: bool


@dataclass(frozen=True)
class Filter:
    """Something to choose items by.

    Attributes:
        label: what it is.
        options: its values, with how many items that are shown have them, and how many there are.
    """

    label: str
    options: list[tuple[str, int, int]]


@dataclass(frozen=True)
class Gallery:
    """What is shown of a benchmark's items.

    Attributes:
        cards: sorted by the first of the orders, its highest first.
        num_items: that the benchmark has.
        orders: by heading, of each its number among the cards' keys, and its label.
        filters: to choose by.
        compared: the editors that disagreements are of.
        last: the editor of which the worst and the best are shown.
    """

    cards: list[Card]
    num_items: int
    orders: dict[str, list[tuple[int, str]]]
    filters: list[Filter]
    compared: list[str]
    last: str


def gallery(folder: Place, outcome: Outcome, bounds: Sequence[str], num_benchmarks: int) -> Gallery:
    """Choose items, and read their pictures.

    Args:
        folder: of the evaluation.
        outcome: of the benchmark.
        bounds: editors that make nothing of their own: disagreements are not of them where two
            others are there.
        num_benchmarks: that share the page.

    Raises:
        RunError: a store fails.
    """
    scores, items = outcome.scores, outcome.subject.items
    others = [editor for editor in scores if editor not in bounds]
    compared = others if len(others) > 1 else list(scores)
    last = (others or compared)[-1]
    count = MAX_PICTURES // (num_benchmarks * (len(scores) + 2))
    places = choice.chosen(scores, compared, last, max(1, min(MAX_ITEMS, count)))
    orders = choice.orders(scores, compared)
    filters = _filters(items, places)
    edits = {
        editor: _edits(folder / "edits" / outcome.subject.name / editor, places)
        for editor in scores
    }
    cards = [
        Card(
            items[place],
            [
                _panel("input", items[place].pictures),
                *(_edited(e, outcome, place, edits[e].get(place)) for e in scores),
                *([_panel("truth", items[place].references)] if items[place].references else []),
            ],
            {e: notes for e, own in scores.items() if (notes := _remarks(own, place))},
            [_number(order.keys[place]) for order in orders],
            [_option(each, kind) for each, kind in zip(filters, _kinds(items[place]), strict=True)],
            any(own.reasons[place] for own in scores.values()),
        )
        for place in places
    ]
    # As the page's script sorts by the first order: the highest first, those without it last.
    cards.sort(key=lambda card: (card.keys[0] is None, -(card.keys[0] or 0.0)))
    headings: dict[str, list[tuple[int, str]]] = {}
    for number, order in enumerate(orders):
        headings.setdefault(order.heading, []).append((number, order.label))
    return Gallery(cards, len(items), headings, filters, compared, last)


def _panel(name: str, pictures: Sequence[Picture]) -> Panel:
    note = f"the first of {len(pictures)}" if len(pictures) > 1 else ""
    try:
        picture = reduced(pictures[0].open(), SIDE, MAX_BYTES)
    except RowError as error:
        return Panel(name, name, None, error.reason, error.detail)
    return Panel(name, name, picture, note=note)


def _edited(editor: str, outcome: Outcome, place: int, picture: Thumbnail | None) -> Panel:
    own = outcome.scores[editor]
    values = [(name, column[place]) for name, column in own.values.items()]
    return Panel(
        editor,
        "editor",
        picture,
        own.reasons[place] or ("" if picture else "picture not there any more"),
        own.details[place] or "",
        own.notes[place] or "",
        [(name, value) for name, value in values if value == value],
    )


def _remarks(own: EditorScores, place: int) -> dict[str, Any]:
    """What a judge gave where the measures follow from it, and what else was written down."""
    axes = own.scored[place].axes or {}
    others = {axis: value for axis, value in axes.items() if axis not in own.values}
    remarks: dict[str, Any] = plain({"scores": others, **own.remarks[place]})
    return {column: value for column, value in remarks.items() if value}


def _edits(folder: Place, places: Sequence[int]) -> dict[int, Thumbnail]:
    """An editor's pictures of some items, each chunk read once."""
    chunks = chunk_files(folder)
    firsts = [int(path.stem) for path in chunks]
    inside: dict[int, list[int]] = {}
    for place in places:
        inside.setdefault(bisect_right(firsts, place) - 1, []).append(place)
    pictures: dict[int, Thumbnail] = {}
    for number, own in inside.items():
        if number < 0:
            continue
        with undamaged(chunks[number], REMEDY):
            column = parquet(chunks[number]).read(columns=["picture"])["picture"]
        for place in own:
            row = place - firsts[number]
            encoded = column[row].as_py() if row < len(column) else None
            if encoded is not None:
                pictures[place] = reduced(images.decode(encoded), SIDE, MAX_BYTES)
    return pictures


_NAMES = ("part", "reasoning_type")
"""Facets with few values. Categories are many: their figures stand in a table."""


def _kinds(item: Item) -> list[str | None]:
    return [item.group or None, *(value_of(item, name) for name in _NAMES)]


def _filters(items: Sequence[Item], places: Sequence[int]) -> list[Filter]:
    """Group and what else has few values; without options where no item has a value."""
    kinds = [_kinds(item) for item in items]
    filters = []
    for number, label in enumerate(("Group", *(LABELS[name] for name in _NAMES))):
        values = [each[number] for each in kinds]
        shown = [values[place] for place in places]
        options = [
            (value, shown.count(value), values.count(value))
            for value in dict.fromkeys(values)
            if value is not None
        ]
        filters.append(Filter(label, options))
    return filters


def _option(filter: Filter, value: str | None) -> int | None:
    options = [option for option, _, _ in filter.options]
    return None if value is None else options.index(value)


def _number(value: float) -> float | None:
    return None if value != value else float(f"{value:.6g}")


def plain(value: Any) -> Any:
    """Mappings, lists and texts, as the template shows them, without what is empty.

    Args:
        value: as Arrow gives it, where maps are lists of pairs, or out of a recipe.
    """
    if isinstance(value, list) and value and all(isinstance(each, tuple) for each in value):
        value = dict(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items() if each not in (None, "", [])}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
