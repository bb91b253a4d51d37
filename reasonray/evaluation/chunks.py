"""The files of an evaluation's chunks: where they lie, by what they were made, what is missing.

DIR/edits/BENCHMARK/EDITOR/       settings.json, and of each chunk of items its edited pictures
DIR/scores/BENCHMARK/EDITOR/      settings.json, and of each chunk its figures
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonray.core.errors import UserError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.place import (
    Place,
    files,
    make_folder,
    names,
    parquet,
    place,
    read_json,
    remove,
    undamaged,
)
from reasonray.core.recipe import Recipe, differing_keys
from reasonray.core.writing import write_file, write_table
from reasonray.evaluation.editors import Spec, weights_version
from reasonray.evaluation.items import Benchmark, Item
from reasonray.evaluation.judge import protocol
from reasonray.evaluation.subjects import Subject
from reasonray.evaluation.traces import Traces

EDITS, SCORES, SETTINGS = "edits", "scores", "settings.json"

NOTICES = "notices"
"""Key of a chunk's metadata: what the editor's server or its judge's did not take, a JSON list."""

_EDIT = "edit"
"""Column of figures that are put aside: SHA-256 of the picture that they are of."""

REMEDY = "delete it, and the same command makes it again"


@dataclass(frozen=True)
class Chunk:
    """Some of a benchmark's items, for one editor.

    Attributes:
        editor, spec: its name, and what it is.
        benchmark, path: its name, and where it lies.
        first, last: of the items, the last one excluded.
        edits, scores: the files of their pictures and figures.
    """

    editor: str
    spec: str
    benchmark: str
    path: str
    first: int
    last: int
    edits: str
    scores: str


def chunks_of(folder: Place, subject: Subject, spec: Spec, size: int) -> list[Chunk]:
    """A benchmark's items for an editor, so many at a time."""
    return [
        Chunk(
            editor=spec.name,
            spec=spec.text,
            benchmark=subject.name,
            path=subject.path,
            first=first,
            last=min(first + size, len(subject.items)),
            edits=str(folder / EDITS / subject.name / spec.name / f"{first:06}.parquet"),
            scores=str(folder / SCORES / subject.name / spec.name / f"{first:06}.parquet"),
        )
        for first in range(0, len(subject.items), size)
    ]


def unfinished(folder: Place, chunks: Sequence[Chunk]) -> list[Chunk]:
    """Those without both of their files."""
    there = {str(path) for path in files(folder, ".parquet")}
    return [chunk for chunk in chunks if not {chunk.edits, chunk.scores} <= there]


def chunk_files(folder: Place) -> list[Place]:
    """The files of chunks in a folder, in the order of their items; others there are nobody's."""
    own = [name for name in names(folder) if re.fullmatch(r"\d{6,}\.parquet", name)]
    return [folder / name for name in sorted(own, key=lambda name: int(name.partition(".")[0]))]


def notices_of(table: pa.Table) -> list[str]:
    """What a chunk's metadata says under `NOTICES`."""
    notices: list[str] = json.loads((table.schema.metadata or {}).get(NOTICES.encode(), b"[]"))
    return notices


def read_chunk(path: Place, items: Sequence[Item]) -> pa.Table:
    """A chunk's file, of edits or scores.

    Args:
        path: of the file.
        items: that it is of.

    Raises:
        UserError: it is damaged or of other items; names it.
    """
    with undamaged(path, REMEDY), parquet(path) as file:
        table = file.read()
    is_chunk = {"id", "reason", "detail", "num_unseen"} <= set(table.column_names)
    if not is_chunk or table["id"].to_pylist() != [item.id for item in items]:
        raise UserError(f"{path}: holds other rows than the benchmark's; {REMEDY}")
    return table


def check_settings(folder: Place, subject: Subject, spec: Spec, recipe: Recipe) -> None:
    """Write down with what an editor is measured, or see that it is the same as before.

    What lies there without a finished chunk binds nobody.

    Raises:
        UserError: what is there was made with something else; names it.
    """
    config = recipe.evaluation
    edits = {
        "editor": spec.text,
        "weights": weights_version(spec),
        "items": subject.content,
        "seed": recipe.seed,
        "arguments": config.arguments_of(spec.name),
        "chunk_rows": config.chunk_rows,
        "side": config.side,
        "dtype": config.dtype,
        "batch_size": config.batch_size,
    }
    # Figures are those of some pictures: who deletes these has not deleted them.
    digest = hashlib.sha256(json.dumps(edits, sort_keys=True).encode()).hexdigest()[:16]
    scores = {**measured_by(subject.benchmark, recipe), EDITS: digest}
    places = {kind: folder / kind / subject.name / spec.name for kind in (EDITS, SCORES)}
    for kind, values, built_on in (
        (EDITS, edits, (places[EDITS], places[SCORES])),
        (SCORES, scores, (places[SCORES],)),
    ):
        path = places[kind] / SETTINGS
        before = read_json(path) if path.exists() else None
        if before == values:
            continue
        if files(places[kind], ".parquet"):
            other = f"nobody knows what (no {path})"
            if before is not None:
                other = f"another {', '.join(differing_keys(before, values))}"
            raise UserError(
                f"output {folder}: {spec.name} was measured on {subject.name} with {other}; give "
                f"another --output, or delete {' and '.join(map(str, built_on))}"
            )
        remove(places[kind])
        make_folder(places[kind])
        write_file(path, json.dumps(values, indent=1))


def is_judged(benchmark: Benchmark, config: EvaluationConfig) -> bool:
    """Whether a judge is asked: by the benchmark's own questions, or ours beside its metrics."""
    return benchmark.yardstick == "judge" or config.judge.language_model is not None


def measured_by(benchmark: Benchmark, recipe: Recipe) -> dict[str, Any]:
    """Models and protocol, with which every figure is stamped.

    Raises:
        UserError: the benchmark wants a judge, and the recipe names none.
    """
    config = recipe.evaluation
    models: dict[str, Any] = {}
    if benchmark.yardstick != "judge":
        models = {"clip": config.clip.model_dump(), "dino": config.dino.model_dump()}
    if is_judged(benchmark, config):
        models["judge"] = {"rubric": benchmark.rubric, **protocol(config.judge, recipe.seed)}
    return models


def forget_failures(chunk: Chunk, items: Sequence[Item]) -> int:
    """Have what failed of a chunk done again: edits without a picture, pictures without a figure.

    The other rows' figures, which a judge may have been paid for, wait for `figures_before`.

    Args:
        chunk: whose files may be there.
        items: of the chunk.

    Returns:
        How many items that are.

    Raises:
        UserError: a file is damaged.
    """
    edits, scores = place(chunk.edits), place(chunk.scores)
    edited = read_chunk(edits, items) if edits.exists() else None
    measured = read_chunk(scores, items) if scores.exists() else None
    lacking = _ids_with_reason(edited) if edited else []
    failed = {*lacking, *(_ids_with_reason(measured) if measured else [])}
    if failed and measured:
        if edited:
            good = measured.append_column(_EDIT, pa.array(_digests(edited), pa.string()))
            write_table(_before(scores), good.filter(pc.is_null(good["reason"])))
        remove(scores)
    if edited and lacking:
        _put_back(edits, edited)
    return len(failed)


def figures_before(scores: Place, edits: pa.Table) -> dict[str, dict[str, Any]]:
    """Rows of `yardsticks.SCHEMA` that `forget_failures` has put aside, by item.

    Args:
        scores: the file that is to be made.
        edits: the chunk's, as they are now: figures of other pictures are left out.
    """
    path = _before(scores)
    if not path.exists():
        return {}
    with undamaged(path, REMEDY):
        rows = parquet(path).read().to_pylist()
    now = dict(zip(edits["id"].to_pylist(), _digests(edits), strict=True))
    return {row["id"]: row for row in rows if row.pop(_EDIT) == now.get(row["id"])}


def forget_figures_before(scores: Place) -> None:
    """They stand in the file itself now."""
    remove(_before(scores))


def _before(scores: Place) -> Place:
    return scores.with_name(f"{scores.stem}.before")


def _digests(edits: pa.Table) -> list[str | None]:
    pictures = edits["picture"].to_pylist()
    return [each and hashlib.sha256(each["bytes"]).hexdigest() for each in pictures]


def _ids_with_reason(table: pa.Table) -> list[str]:
    ids: list[str] = table.filter(pc.is_valid(table["reason"]))["id"].to_pylist()
    return ids


def _put_back(path: Place, table: pa.Table) -> None:
    """Make a chunk of edits one that was stopped when its good rows alone were done."""
    traces = Traces(path, session=0)
    traces.clear()  # of a process that was killed before it could
    for row in table.to_pylist():
        if row["reason"] is None:
            write_table(traces.row(row["id"]), pa.Table.from_pylist([row], schema=table.schema))
            traces.set_alone()
    remove(path)
