"""The plan of a run: one light row for each thing to do, written before any work starts.

A run to so many samples (`accepted`) plans as many rows as it wants samples, and then more, always
the next of one order that the seed draws: its result does not depend on how many at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from reasonray.core.errors import UserError
from reasonray.core.place import Place, create, files, make_folder, parquet
from reasonray.core.recipe import Recipe
from reasonray.core.record import PLAN_SCHEMA, Row, to_table
from reasonray.core.session import Session
from reasonray.core.writing import replaced, write_file
from reasonray.generation.notices import (
    MAX_CHECKED_CAPTIONS,
    other_languages,
    tiny_models,
    write_notices,
)
from reasonray.generation.plan_order import Places, as_sampled, by_id, woven
from reasonray.generation.workspace import Workspace

Plan = Callable[[Recipe, Place, list[str]], Iterator[Row]]
"""Gives the rows to do; the place is one that stays until the run is finished, the list gets a
sentence about each kind of input that is passed over."""

_ROWS, _CANDIDATES = "rows", "candidates.parquet"
_FILE_ROWS = 50_000
_CHUNK_ROWS = 1_000


def write_plan(
    workspace: Workspace,
    session: Session,
    recipe: Recipe,
    rows: Iterable[Row],
    notices: Sequence[str] = (),
) -> int:
    """Write the rows to do, and the recipe; gives their number.

    The parts are interleaved, so that all pools have work from the start; within a part
    rows stand by id.

    Args:
        workspace: of the output, which has no plan.
        session: that plans.
        recipe: as run.
        rows: to do.
        notices: what `rows` has to say, complete once they are read; kept with the plan.

    Raises:
        UserError: no rows, or two of one id.
    """
    table = _gathered(rows)
    if table.num_rows == 0:
        raise UserError(
            f"no inputs found for parts {', '.join(recipe.parts)} in the sources "
            + ", ".join(f"{source.format}={source.path}" for source in recipe.sources)
        )
    places = by_id(table)
    folder = workspace.draft(session.name)
    make_folder(folder / _ROWS)
    if recipe.accepted is not None:
        candidates = as_sampled(table, recipe.seed)
        with replaced(folder / _CANDIDATES) as temporary:
            _write(temporary, table, candidates)
        is_planned = np.zeros(table.num_rows, bool)
        is_planned[candidates[: recipe.accepted]] = True  # fewer inputs cannot give so many samples
        places = places[is_planned[places]]
    places = woven(table, places)
    for index, start in enumerate(range(0, len(places), _FILE_ROWS)):
        with replaced(folder / _ROWS / f"{index:05}.parquet") as temporary:
            _write(temporary, table, places[start : start + _FILE_ROWS])
    parts = set(pc.unique(table["part"]).to_pylist())
    has_caption = pc.is_valid(table["input_caption"]).to_numpy()[places]
    checked = places[np.flatnonzero(has_caption)[:MAX_CHECKED_CAPTIONS]]
    language = other_languages(table["input_caption"].take(pa.array(checked)).to_pylist())
    write_notices(folder, [*tiny_models(recipe, parts), *notices, *language])
    content = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    write_file(folder / "recipe.yaml", content)
    workspace.set_plan(session.name)
    return len(places)


def extend_plan(workspace: Workspace, num_rows: int) -> int:
    """Plan so many candidates more, where `accepted` wants more samples; gives their number."""
    every = _folder(workspace)
    # Before what is planned: a file that another session adds meanwhile has this number, and ours
    # is not written. Its number may differ, the order that it is of does not.
    number = len(plan_files(workspace))
    start = len(planned_ids(workspace))
    table = _some(every / _CANDIDATES, start, start + num_rows)
    if table.num_rows:
        whole = pa.BufferOutputStream()
        _write(whole, table, woven(table, by_id(table)))
        create(every / _ROWS / f"{number:05}.parquet", whole.getvalue().to_pybytes())
    return int(table.num_rows)


def write_input(workspace: Workspace, folder: Place, done: pa.Array) -> list[Place]:
    """The plan without the rows that are done.

    Args:
        workspace: of the output.
        folder: where it is written, if there are any such rows.
        done: their ids.

    Returns:
        Its Parquet files, in order.
    """
    planned = plan_files(workspace)
    if not len(done):
        return planned
    left = []
    is_left = pc.invert(pc.is_in(planned_ids(workspace), value_set=done))
    for path in planned:
        table = parquet(path).read()
        table, is_left = (
            table.filter(is_left.slice(0, table.num_rows)),
            is_left.slice(table.num_rows),
        )
        if table.num_rows:
            left.append(folder / path.name)
            with replaced(left[-1], sync=False) as temporary:
                pq.write_table(table, temporary, row_group_size=_CHUNK_ROWS)
    return left


def plan_files(workspace: Workspace) -> list[Place]:
    """The plan's Parquet files, in order."""
    return files(_folder(workspace) / _ROWS, ".parquet")


def candidate_ids(workspace: Workspace) -> pa.Array:
    """The ids that `accepted` chooses from, in their order."""
    path = _folder(workspace) / _CANDIDATES
    return parquet(path).read(columns=["id"])["id"].combine_chunks()


def planned_ids(workspace: Workspace) -> pa.Array:
    """Every planned id, in the order of the plan."""
    return _planned(workspace, ["id"])["id"].combine_chunks()


def planned_parts(workspace: Workspace, done: pa.Array | None = None) -> dict[str, int]:
    """How many rows each part has in the plan, those of the ids `done` left out."""
    table = _planned(workspace, ["id", "part"])
    if done is not None:
        table = table.filter(pc.invert(pc.is_in(table["id"], value_set=done)))
    counts = pc.value_counts(table["part"])
    return {str(c["values"]): int(c["counts"]) for c in counts.to_pylist()}


def _folder(workspace: Workspace) -> Place:
    folder = workspace.plan_folder
    if folder is None:
        raise UserError(f"output {workspace.output}: its run has not planned yet")
    return folder


def _planned(workspace: Workspace, columns: list[str]) -> pa.Table:
    return pa.concat_tables(parquet(path).read(columns=columns) for path in plan_files(workspace))


def _gathered(rows: Iterable[Row]) -> pa.Table:
    """All rows as they come, in one table whose columns are in one piece each."""
    tables, chunk = [], []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK_ROWS:
            tables.append(to_table(chunk, PLAN_SCHEMA))
            chunk = []
    tables.append(to_table(chunk, PLAN_SCHEMA))
    table = pa.concat_tables(tables)
    tables.clear()
    # Column by column, so that there are never two copies of all.
    for number, name in enumerate(table.column_names):
        table = table.set_column(number, name, table[name].combine_chunks())
    return table


def _write(target: Path | pa.NativeFile, table: pa.Table, places: Places) -> None:
    """Write rows in an order of places, copying few at a time."""
    with pq.ParquetWriter(target, table.schema) as writer:
        for start in range(0, len(places), _CHUNK_ROWS):
            writer.write_table(table.take(pa.array(places[start : start + _CHUNK_ROWS])))


def _some(path: Place, start: int, stop: int) -> pa.Table:
    """Rows of a file of row groups of `_CHUNK_ROWS`; of no more groups than they are in."""
    file = parquet(path)
    first = start // _CHUNK_ROWS
    groups = range(first, min(-(-stop // _CHUNK_ROWS), file.num_row_groups))
    inside = start - first * _CHUNK_ROWS
    return file.read_row_groups(groups).slice(inside, stop - start)
