"""The plan of a run: one light row for each thing to do, written before any work starts.

A run to so many samples (`accepted`) plans as many rows as it wants samples, and then more, always
the next of one order that the seed draws: its result does not depend on how many at a time.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from reasonray.core.errors import UserError
from reasonray.core.recipe import Recipe
from reasonray.core.record import PLAN_SCHEMA, Row, sample_id, to_table
from reasonray.core.writing import publish, replaced, write_file
from reasonray.generation.notices import (
    MAX_CHECKED_CAPTIONS,
    other_languages,
    tiny_models,
    write_notices,
)
from reasonray.generation.workspace import Workspace
from reasonray.sources.sampling import order

Plan = Callable[[Recipe, Path, list[str]], Iterator[Row]]
"""Gives the rows to do; the path is a folder that stays until the run is finished, the list gets a
sentence about each kind of input that is passed over."""

_FILE_ROWS = 50_000
_CHUNK_ROWS = 1_000


def write_plan(
    workspace: Workspace, recipe: Recipe, rows: Iterable[Row], notices: Sequence[str] = ()
) -> int:
    """Write the rows to do, and the recipe; gives their number.

    The parts are interleaved, so that all pools have work from the start; within a part
    rows stand by id.

    Args:
        workspace: of the output.
        recipe: as run.
        rows: to do.
        notices: what `rows` has to say, complete once they are read; kept with the plan.

    Raises:
        UserError: no rows, or two of one id.
    """
    table = _checked(rows)
    if table.num_rows == 0:
        raise UserError(
            f"no inputs found for parts {', '.join(recipe.parts)} in the sources "
            + ", ".join(f"{source.format}={source.path}" for source in recipe.sources)
        )
    parts = set(table["part"].to_pylist())
    folder = workspace.folder / "plan.making"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if recipe.accepted is not None:
        table = table.take(_sample_order(table, recipe.seed))
        with replaced(workspace.candidates_file) as temporary:
            pq.write_table(table, temporary)
        table = table.slice(0, recipe.accepted)  # fewer inputs cannot give so many samples
    table = _interleaved(table)
    for index, start in enumerate(range(0, table.num_rows, _FILE_ROWS)):
        pq.write_table(
            table.slice(start, _FILE_ROWS),
            folder / f"{index:05}.parquet",
            row_group_size=_CHUNK_ROWS,
        )
    captions = table["input_caption"].drop_null()
    language = other_languages(captions.slice(0, MAX_CHECKED_CAPTIONS).to_pylist())
    write_notices(workspace, [*tiny_models(recipe, parts), *notices, *language])
    content = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    write_file(workspace.folder / "recipe.yaml", content)
    publish(folder, workspace.plan_folder)
    return int(table.num_rows)


def extend_plan(workspace: Workspace, num_rows: int) -> int:
    """Plan so many candidates more, where `accepted` wants more samples; gives their number."""
    candidates = pq.read_table(workspace.candidates_file)
    table = candidates.slice(len(planned_ids(workspace)), num_rows)
    if table.num_rows:
        number = len(list(workspace.plan_folder.glob("*.parquet")))
        # One file, which is there whole or not at all.
        with replaced(workspace.plan_folder / f"{number:05}.parquet") as temporary:
            pq.write_table(_interleaved(table), temporary, row_group_size=_CHUNK_ROWS)
    return int(table.num_rows)


def candidate_ids(workspace: Workspace) -> pa.Array:
    """The ids that `accepted` chooses from, in their order."""
    return pq.read_table(workspace.candidates_file, columns=["id"])["id"].combine_chunks()


def planned_ids(workspace: Workspace) -> pa.Array:
    """Every planned id, sorted."""
    table = pq.read_table(workspace.plan_folder, columns=["id"])
    ids = table.column("id").combine_chunks()
    return ids.take(pc.sort_indices(ids))


def planned_parts(workspace: Workspace, done: pa.Array | None = None) -> dict[str, int]:
    """How many rows each part has in the plan, those of the ids `done` left out."""
    table = pq.read_table(workspace.plan_folder, columns=["id", "part"])
    if done is not None:
        table = table.filter(pc.invert(pc.is_in(table["id"], value_set=done)))
    counts = pc.value_counts(table["part"])
    return {str(c["values"]): int(c["counts"]) for c in counts.to_pylist()}


def _checked(rows: Iterable[Row]) -> pa.Table:
    """All rows by id.

    Raises:
        UserError: two have the same.
    """
    chunks, chunk = [], []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK_ROWS:
            chunks.append(to_table(chunk, PLAN_SCHEMA))
            chunk = []
    chunks.append(to_table(chunk, PLAN_SCHEMA))
    table = pa.concat_tables(chunks).combine_chunks()
    table = table.take(pc.sort_indices(table["id"]))
    ids = table["id"]
    if table.num_rows > 1:
        same = pc.equal(ids.slice(1), ids.slice(0, table.num_rows - 1))
        if pc.any(same).as_py():
            twice = ids[pc.index(same, True).as_py()].as_py()
            raise UserError(f"two inputs have the same id {twice}; give each source once")
    return table


def _sample_order(table: pa.Table, seed: int) -> pa.Array:
    """Where the rows stand in the order of samples; an input's variations follow each other."""
    keys = table.select(["part", "source", "source_id", "variation"]).to_pylist()
    names = [(key["part"], key["source"], key["source_id"]) for key in keys]
    inputs = list(dict.fromkeys(names))
    strata = [(f"{part}/{source}", sample_id(part, source, each)) for part, source, each in inputs]
    ranks = {inputs[index]: rank for rank, index in enumerate(order(strata, seed))}
    rank_keys = [(ranks[name], key["variation"]) for name, key in zip(names, keys, strict=True)]
    return pa.array(sorted(range(len(keys)), key=rank_keys.__getitem__), pa.int64())


def _interleaved(table: pa.Table) -> pa.Table:
    """The rows by id, the parts evenly woven together."""
    table = table.take(pc.sort_indices(table["id"]))
    places = pa.array(_places(table["part"].to_pylist()), pa.float64())
    return table.take(pc.sort_indices(places))


def _places(parts: list[str]) -> list[float]:
    """Where each row stands between 0 and 1, the rows of each part evenly spread."""
    totals = {part: parts.count(part) for part in set(parts)}
    num_placed = dict.fromkeys(totals, 0)
    places = []
    for part in parts:
        places.append((num_placed[part] + 0.5) / totals[part])
        num_placed[part] += 1
    return places
