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
from reasonray.evaluation.metrics import METRICS
from reasonray.evaluation.results import PUBLISHED, Cell, Scores, cells, read_scores

if TYPE_CHECKING:
    from reasonray.evaluation.editors import Spec
    from reasonray.evaluation.run import Subject


def write_results(
    folder: Place, models: dict[str, Any], specs: "Sequence[Spec]", subjects: "Sequence[Subject]"
) -> Place:
    """Write them, and give the table's file.

    Args:
        folder: of the evaluation, whose chunks are all there.
        models: by what was measured, stamped on the figures.
        specs, subjects: what was measured.
    """
    results: dict[str, Any] = {"reasonray": __version__, "measured_by": models, "benchmarks": {}}
    texts, formulas = [], []
    for subject in subjects:
        groups = {item.id: item.group for item in subject.items}
        scores = {
            spec.name: read_scores(folder / "scores" / subject.name / spec.name, groups)
            for spec in specs
        }
        _write_rows(folder / "rows", subject, scores)
        table = cells(scores)
        results["benchmarks"][subject.name] = {
            "path": subject.path,
            "items": len(subject.items),
            "editors": {
                editor: {
                    group: {metric: dataclasses.asdict(cell) for metric, cell in row.items()}
                    for group, row in by_group.items()
                }
                for editor, by_group in table.items()
            },
            "failures": {editor: _failures(own) for editor, own in scores.items()},
        }
        texts.append(_text(subject.name, table, specs, scores))
        formulas.append(f"% {subject.name}\n{tables.latex(table)}")
    write_file(folder / "results.json", json.dumps(results, indent=1))
    write_file(folder / "table.tex", "\n".join(formulas))
    write_file(folder / "table.md", "\n".join(texts))
    return folder / "table.md"


def _text(
    name: str,
    table: dict[str, dict[str, dict[str, Cell]]],
    specs: "Sequence[Spec]",
    scores: dict[str, Scores],
) -> str:
    lines = [f"## {name}", "", tables.markdown(table, published=PUBLISHED)]
    if len(specs) > 1:
        lines += [f"Leads are over {specs[0].name}, on the items that both have."]
    for editor, own in scores.items():
        for reason, count in _failures(own).items():
            lines += [f"{editor}: {count} {reason}."]
    return "\n".join([*lines, ""])


def _failures(scores: Scores) -> dict[str, int]:
    reasons = [reason for reason in scores.reasons if reason is not None]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def _write_rows(folder: Place, subject: "Subject", scores: dict[str, Scores]) -> None:
    rows = [
        {
            "benchmark": subject.name,
            "editor": editor,
            "id": item.id,
            "group": item.group,
            "instruction": item.full_instruction,
            **{name: _number(own.values[name][number]) for name in METRICS},
            "reason": own.reasons[number],
        }
        for editor, own in scores.items()
        for number, item in enumerate(subject.items)
    ]
    make_folder(folder)
    with replaced(folder / f"{subject.name}.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    write_file(folder / f"{subject.name}.jsonl", lines)


def _number(value: float) -> float | None:
    return None if value != value else value
