"""What an evaluation leaves: rows by item, tables, and a page to look at."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reasonray.core.place import Place
from reasonray.core.version import __version__
from reasonray.core.writing import write_file, write_table
from reasonray.evaluation import tables
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.items import FACETS
from reasonray.evaluation.page.writing import write_page
from reasonray.evaluation.results import PUBLISHED, EditorScores, Outcome, cells, read_scores

if TYPE_CHECKING:
    from reasonray.evaluation.editors import Spec
    from reasonray.evaluation.subjects import Subject


def write_results(
    folder: Place,
    measured_by: dict[str, Any],
    specs: "Sequence[Spec]",
    subjects: "Sequence[Subject]",
) -> Place:
    """Write them, and give the page's file.

    Args:
        folder: of the evaluation, whose chunks are all there.
        measured_by: by benchmark, the models and the protocol that its figures are stamped with.
        specs, subjects: what was measured.
    """
    results: dict[str, Any] = {"reasonray": __version__, "benchmarks": {}}
    outcomes = [
        outcome_of(folder, specs, subject, measured_by[subject.name]) for subject in subjects
    ]
    for outcome in outcomes:
        subject = outcome.subject
        _write_rows(folder / "rows", subject, outcome.scores)
        results["benchmarks"][subject.name] = {
            "path": subject.path,
            "measured_by": outcome.measured_by,
            "items": len(subject.items),
            "items_published": subject.benchmark.num_published,
            "editors": {
                editor: {
                    group: {metric: dataclasses.asdict(cell) for metric, cell in row.items()}
                    for group, row in by_group.items()
                }
                for editor, by_group in outcome.table.items()
            },
            "own_table": {
                editor: [dataclasses.asdict(figure) for figure in figures]
                for editor, figures in outcome.own_tables.items()
            },
            "notices": {editor: own.notices for editor, own in outcome.scores.items()},
            "failures": {editor: outcome.failures(editor) for editor in outcome.scores},
            "revised": {e: own.num_revised for e, own in outcome.scores.items()},
            "partly_shown": {e: own.num_partly_shown for e, own in outcome.scores.items()},
        }
    formulas = [
        f"% {each.subject.name}\n{tables.latex(each.table, each.rewriting)}" for each in outcomes
    ]
    write_file(folder / "results.json", json.dumps(results, indent=1))
    write_file(folder / "table.tex", "\n".join(formulas))
    write_file(folder / "table.md", "\n".join(map(_text, outcomes)))
    return write_page(folder, specs, outcomes)


def outcome_of(
    folder: Place, specs: "Sequence[Spec]", subject: "Subject", measured_by: dict[str, Any]
) -> Outcome:
    """What has come of a benchmark.

    Args:
        folder: of the evaluation, whose chunks are all there.
        specs: what was measured on it.
        subject: the benchmark.
        measured_by: models and protocol that its figures are stamped with.
    """
    benchmark, places = subject.benchmark, folder / "scores" / subject.name
    scores = {
        spec.name: read_scores(places / spec.name, benchmark, subject.items) for spec in specs
    }
    own_tables = {editor: benchmark.aggregate(own.scored) for editor, own in scores.items()}
    return Outcome(subject, measured_by, scores, cells(scores), own_tables)


def _text(outcome: Outcome) -> str:
    subject = outcome.subject
    lines = [f"## {subject.name}", ""]
    whole = subject.benchmark.num_published
    if whole and len(subject.items) != whole:
        lines += [f"{len(subject.items)} items, of {whole} that the published one has.", ""]
    if outcome.judge:
        lines += [f"Judged by {outcome.judge}.", ""]
    if isinstance(subject.benchmark, Ours):
        lines += [tables.markdown(outcome.table, published=PUBLISHED, rewriting=outcome.rewriting)]
        first, *others = outcome.scores
        if others:
            lines += [f"Leads are over {first}, on the items that both have."]
    else:
        lines += [tables.own(outcome.own_tables)]
    for editor, own in outcome.scores.items():
        lines += [f"{editor}: {notice}" for notice in own.notices]
        for reason, count in outcome.failures(editor).items():
            lines += [f"{editor}: {count} {reason}."]
        if own.num_revised:
            lines += [
                f"{editor}: it rewrote {own.num_revised} of {len(own.scored)} instructions before "
                "it edited."
            ]
        if own.num_partly_shown:
            lines += [
                f"{editor}: of {own.num_partly_shown} items with several pictures it was given the "
                "first alone."
            ]
        if resized := outcome.num_resized(editor):
            lines += [f"{editor}: {resized} pictures of another size than their input's."]
    return "\n".join([*lines, ""])


def _write_rows(folder: Place, subject: "Subject", scores: dict[str, EditorScores]) -> None:
    rows = []
    for editor, own in scores.items():
        for number, item in enumerate(subject.items):
            texts = {
                "benchmark": subject.name,
                "editor": editor,
                "id": item.id,
                "group": item.group,
                "instruction": item.full_instruction,
                **{name: item.fields[name] for name in FACETS if name in item.fields},
                "reason": own.reasons[number],
                "detail": own.details[number],
                "note": own.notes[number],
                "revised": own.remarks[number].get("revised"),
            }
            figures = {
                **{name: _number(values[number]) for name, values in own.values.items()},
                **(own.scored[number].axes or {}),
            }
            # KRIS-Bench's judge scores an axis that is called instruction.
            named = {f"{n}_score" if n in texts else n: value for n, value in figures.items()}
            rows.append(texts | named)
    # Of a row without a picture there are fewer.
    columns = dict.fromkeys(name for row in rows for name in row)
    rows = [{name: row.get(name) for name in columns} for row in rows]
    write_table(folder / f"{subject.name}.parquet", pa.Table.from_pylist(rows))
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    write_file(folder / f"{subject.name}.jsonl", lines)


def _number(value: float) -> float | None:
    return None if value != value else value
