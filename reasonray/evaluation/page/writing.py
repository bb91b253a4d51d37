"""`index.html`: one file that loads nothing, read from a disk as from a store."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from reasonray.core.place import Place
from reasonray.core.version import __version__
from reasonray.core.writing import write_file
from reasonray.dataset.report.templates import environment
from reasonray.evaluation import tables
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.items import Figure
from reasonray.evaluation.page.charts import chart, figure
from reasonray.evaluation.page.choice import SEED
from reasonray.evaluation.page.facets import Facet, facets, groups_of
from reasonray.evaluation.page.gallery import Gallery, gallery, plain
from reasonray.evaluation.results import LOWER_IS_BETTER, PUBLISHED, Cell, Outcome, best

if TYPE_CHECKING:
    from reasonray.evaluation.editors import Spec

PAGE = "index.html"

MAX_LETTERS = 1_000
"""Of a text on a card: an instruction or a reason can be of any length."""


@dataclass(frozen=True)
class Line:
    """An editor in a table.

    Attributes:
        name: its own, and whether it rewrote the instructions.
        figures: by group and measure: its cell, and whether it is the best.
        counts: edits, and how many of them failed.
    """

    name: str
    figures: list[tuple[Cell, bool]]
    counts: tuple[int, int]

    @property
    def has_leads(self) -> bool:
        """It is not the first one."""
        return any(cell.lead for cell, _ in self.figures)


@dataclass(frozen=True)
class Grid:
    """A table in the form of Table 3.

    Attributes:
        groups, measures: its heads; all groups have all measures.
        lines: of editors.
        published: rows of the paper: name, and its values below the same heads.
    """

    groups: list[str]
    measures: list[str]
    lines: list[Line]
    published: list[tuple[str, list[float | None]]]


@dataclass(frozen=True)
class Section:
    """A benchmark on the page.

    Attributes:
        outcome: of the benchmark.
        grids: its groups two by two.
        measures: of its items.
        own_heads, own_rows: its own table: measures; groups with a figure of each editor for each.
        charts: of each measure.
        groups: of the facets' columns.
        facets: figures by what items have beside their group.
        gallery: its items.
    """

    outcome: Outcome
    grids: list[Grid]
    measures: list[str]
    own_heads: list[str]
    own_rows: list[tuple[str, list[Figure | None]]]
    charts: list[tuple[str, Markup]]
    groups: list[str]
    facets: list[Facet]
    gallery: Gallery


def write_page(folder: Place, specs: "Sequence[Spec]", outcomes: Sequence[Outcome]) -> Place:
    """Write `index.html` into an evaluation's folder; gives its path.

    Args:
        folder: of the evaluation, with the editors' pictures.
        specs: the editors.
        outcomes: by benchmark.

    Raises:
        RunError: a store fails.
    """
    bounds = [spec.name for spec in specs if spec.is_bound]
    script = (Path(__file__).parent / "index.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    templates = environment(Path(__file__).parent)
    templates.filters["figure"] = figure
    templates.filters["short"] = _short
    templates.filters["plain"] = plain
    page = templates.get_template(PAGE).render(
        name=folder.name,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        specs=specs,
        sections=[_section(folder, each, bounds, len(outcomes)) for each in outcomes],
        num_edits=sum(len(own.scored) for each in outcomes for own in each.scores.values()),
        num_failures=sum(sum(each.failures(e).values()) for each in outcomes for e in each.scores),
        lower_is_better=LOWER_IS_BETTER,
        seed=SEED,
        # Only this script is run, whatever a text of a benchmark holds.
        script=Markup(script),
        script_hash=digest,
    )
    path = folder / PAGE
    write_file(path, page)
    return path


def _short(text: str) -> str:
    return text if len(text) <= MAX_LETTERS else f"{text[:MAX_LETTERS]}…"


def _section(
    folder: Place, outcome: Outcome, bounds: Sequence[str], num_benchmarks: int
) -> Section:
    measures = list(dict.fromkeys(m for own in outcome.scores.values() for m in own.values))
    is_ours = isinstance(outcome.subject.benchmark, Ours)
    heads, rows = ([], []) if is_ours else tables.own_rows(outcome.own_tables)
    return Section(
        outcome=outcome,
        grids=[_grid(outcome, groups, is_ours) for groups in tables.side_by_side(outcome.table)],
        measures=measures,
        own_heads=heads,
        own_rows=rows,
        charts=[(measure, chart(outcome.table, measure)) for measure in measures],
        groups=groups_of(outcome),
        facets=facets(outcome),
        gallery=gallery(folder, outcome, bounds, num_benchmarks),
    )


def _grid(outcome: Outcome, groups: list[str], is_ours: bool) -> Grid:
    table = outcome.table
    measures = tables.measures(table, groups)
    heads = [(group, measure) for group in groups for measure in measures]
    leaders = {head: best(table, *head, outcome.rewriting) for head in heads}
    lines = []
    for editor in sorted(table, key=lambda editor: editor in outcome.rewriting):
        by_group = table[editor]
        cells = [by_group[group][measure] for group, measure in heads]
        own = outcome.scores[editor]
        num_items = sum(each.item.group in groups for each in own.scored)
        lines.append(
            Line(
                tables.shown_name(editor, outcome.rewriting),
                [(cell, editor in leaders[head]) for cell, head in zip(cells, heads, strict=True)],
                (num_items, own.num_failed(groups)),
            )
        )
    is_table_3 = is_ours and groups == ["direct", "reasoning"]
    published = [
        (name, tables.published_values(rows, groups, measures))
        for name, rows in (PUBLISHED.items() if is_table_3 else ())
    ]
    return Grid(groups, measures, lines, published)
