"""An evaluation that is whole, made without Ray and models: pictures and figures by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pyarrow as pa
import pyarrow.parquet as pq
from toy_editors import benchmark, pair

from reasonray.core.errors import RowError
from reasonray.core.images import encode_png
from reasonray.core.place import Place, make_folder
from reasonray.core.writing import replaced
from reasonray.evaluation import editing, yardsticks
from reasonray.evaluation.editing import Edited
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.items import TRUTH_METRICS
from reasonray.evaluation.report import write_results
from reasonray.evaluation.subjects import Subject, opened

CHUNK = 4

Figures = Mapping[str, float]

SPECS = [Spec("input", "identity"), Spec("base", "/b"), Spec("mine", "/m")]


def subject(folder: Path, pairs: Sequence[dict[str, Any]]) -> Subject:
    """A benchmark of these pairs."""
    return opened(str(benchmark(folder, pairs)))


def figures(number: int, offset: float = 0.0) -> Figures:
    """Of an item: other ones for each, and for each measure."""
    values = np.random.default_rng(number).uniform(0.2, 0.8, len(TRUTH_METRICS)) + offset
    return dict(zip(TRUTH_METRICS, values.tolist(), strict=True))


def measured(
    folder: Place,
    subject: Subject,
    editor: str,
    edits: Sequence[PIL.Image.Image | RowError],
    axes: Sequence[Figures],
    reasons: Sequence[Mapping[str, str]] = (),
    **columns: tuple[pa.DataType, Sequence[Any]],
) -> None:
    """Write what an editor has made, and its figures, as an evaluation has them.

    Args:
        folder: of the evaluation.
        subject: the benchmark.
        editor: its name.
        edits: of each item its picture, or why there is none.
        axes: of each item its figures; of no account where there is no picture.
        reasons: of each item a judge's, by axis.
        columns: more of the scores, or others than are measured.
    """
    made = [
        vars(Edited(item.id, None, 0.5, edit.reason, edit.detail) if isinstance(edit, RowError)
             else Edited(item.id, encode_png(edit), 0.5))
        for item, edit in zip(subject.items, edits, strict=True)
    ]  # fmt: skip
    told = reasons or [{}] * len(axes)
    of_item = {
        item.id: yardsticks.Measured(own, reasons=why)
        for item, own, why in zip(subject.items, axes, told, strict=True)
    }
    edit_table = pa.Table.from_pylist(made, schema=editing.SCHEMA)
    score_table = yardsticks.measure(
        lambda pairs: [of_item[item.id] for item, _ in pairs], subject.items, edit_table
    )
    for name, (kind, values) in columns.items():
        if name in score_table.column_names:
            score_table = score_table.drop_columns([name])
        score_table = score_table.append_column(name, pa.array(values, kind))
    for kind_of_file, table in (("edits", edit_table), ("scores", score_table)):
        place = folder / kind_of_file / subject.name / editor
        make_folder(place)
        for first in range(0, len(made), CHUNK):
            with replaced(place / f"{first:06}.parquet") as path:
                pq.write_table(table.slice(first, CHUNK), path)


def finished(folder: Place, own: Subject, specs: Sequence[Spec] = SPECS) -> Place:
    """What an evaluation writes at its end; gives the page's path."""
    by = {"clip": {"name": "a-clip"}, "judge": {"model": "a-judge", "rubric": ""}}
    return write_results(folder, {own.name: by}, specs, [own])


def everyday(folder: Path, num_pairs: int = 6) -> tuple[Path, Subject]:
    """Three editors, the last of which fails once, turns one picture and is judged."""
    own = subject(
        folder / "benchmark",
        [
            pair(number, part="III", reasoning_type=("causal", "spatial")[number % 2])
            for number in range(num_pairs)
        ],
    )
    output, count = folder / "out", len(own.items)
    before = [item.pictures[0].open() for item in own.items]
    edits: list[PIL.Image.Image | RowError] = [PIL.ImageOps.invert(each) for each in before]
    measured(output, own, "input", before, [figures(n, -0.1) for n in range(count)])
    measured(output, own, "base", edits, [figures(n + count) for n in range(count)])
    edits[1] = RowError("late", "no picture within 600 s")
    edits[2] = PIL.Image.new("RGB", (48, 20), "teal")
    measured(
        output,
        own,
        "mine",
        edits,
        [{**figures(n + 2 * count), "following": 1.0 + n % 5} for n in range(count)],
        [{"following": f"It barks, as number {n} should."} for n in range(count)],
    )
    return output, own
