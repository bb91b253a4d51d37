"""What an evaluation leaves: rows by item, and tables."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.place import Place, make_folder
from reasonray.core.version import __version__
from reasonray.core.writing import replaced, write_file
from reasonray.evaluation import tables
from reasonray.evaluation.items import Figure
from reasonray.evaluation.results import PUBLISHED, Cell, EditorScores, cells, read_scores

OURS = "ours"
"""The name of a benchmark that `reasonray benchmark` has made."""

if TYPE_CHECKING:
    from reasonray.evaluation.editors import Spec
    from reasonray.evaluation.run import Subject


def write_results(
    folder: Place,
    measured_by: dict[str, Any],
    specs: "Sequence[Spec]",
    subjects: "Sequence[Subject]",
) -> Place:
    """Write them, and give the table's file.

    Args:
        folder: of the evaluation, whose chunks are all there.
        measured_by: by benchmark, the models and the protocol that its figures are stamped with.
        specs, subjects: what was measured.
    """
    results: dict[str, Any] = {"reasonray": __version__, "benchmarks": {}}
    texts, formulas = [], []
    for subject in subjects:
        scores = {
            spec.name: read_scores(
                folder / "scores" / subject.name / spec.name, subject.benchmark, subject.items
            )
            for spec in specs
        }
        _write_rows(folder / "rows", subject, scores)
        table = cells(scores)
        own_tables = {
            editor: subject.benchmark.aggregate(own.scored) for editor, own in scores.items()
        }
        results["benchmarks"][subject.name] = {
            "path": subject.path,
            "measured_by": measured_by[subject.name],
            "items": len(subject.items),
            "items_published": subject.benchmark.num_published,
            "editors": {
                editor: {
                    group: {metric: dataclasses.asdict(cell) for metric, cell in row.items()}
                    for group, row in by_group.items()
                }
                for editor, by_group in table.items()
            },
            "own_table": {
                editor: [dataclasses.asdict(figure) for figure in figures]
                for editor, figures in own_tables.items()
            },
            "failures": {editor: _failures(own) for editor, own in scores.items()},
        }
        texts.append(_text(subject, measured_by[subject.name], table, own_tables, scores))
        formulas.append(f"% {subject.name}\n{tables.latex(table)}")
    write_file(folder / "results.json", json.dumps(results, indent=1))
    write_file(folder / "table.tex", "\n".join(formulas))
    write_file(folder / "table.md", "\n".join(texts))
    return folder / "table.md"


def _text(
    subject: "Subject",
    measured_by: dict[str, Any],
    table: dict[str, dict[str, dict[str, Cell]]],
    own_tables: dict[str, list[Figure]],
    scores: dict[str, EditorScores],
) -> str:
    lines = [f"## {subject.name}", ""]
    whole = subject.benchmark.num_published
    if whole and len(subject.items) != whole:
        lines += [f"{len(subject.items)} items, of {whole} that the published one has.", ""]
    if judge := measured_by.get("judge"):
        words = judge["rubric"] or "our own questions"
        lines += [f"Judged by {judge['model']}, asked {words}.", ""]
    if subject.name == OURS:
        lines += [tables.markdown(table, published=PUBLISHED)]
        first, *others = scores
        if others:
            lines += [f"Leads are over {first}, on the items that both have."]
    else:
        lines += [tables.own(own_tables)]
    for editor, own in scores.items():
        for reason, count in _failures(own).items():
            lines += [f"{editor}: {count} {reason}."]
        if resized := sum(note is not None for note in own.notes):
            lines += [f"{editor}: {resized} pictures of another size than their input's."]
    return "\n".join([*lines, ""])


def _failures(scores: EditorScores) -> dict[str, int]:
    reasons = [reason for reason in scores.reasons if reason is not None]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def _write_rows(folder: Place, subject: "Subject", scores: dict[str, EditorScores]) -> None:
    rows = [
        {
            "benchmark": subject.name,
            "editor": editor,
            "id": item.id,
            "group": item.group,
            "instruction": item.full_instruction,
            **{name: _number(values[number]) for name, values in own.values.items()},
            **(own.scored[number].axes or {}),
            "reason": own.reasons[number],
            "note": own.notes[number],
        }
        for editor, own in scores.items()
        for number, item in enumerate(subject.items)
    ]
    # Of a row without a picture there are fewer.
    columns = dict.fromkeys(name for row in rows for name in row)
    rows = [{name: row.get(name) for name in columns} for row in rows]
    make_folder(folder)
    with replaced(folder / f"{subject.name}.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    write_file(folder / f"{subject.name}.jsonl", lines)


def _number(value: float) -> float | None:
    return None if value != value else value
