"""The plan of a run: one light row for each thing to do, written before any work starts.

A run to so many samples (`accepted`) plans as many rows as it wants samples, and then more, always
the next of one order that the seed draws: its result does not depend on how many at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from reasonray.core.errors import UserError
from reasonray.core.place import Place, create, files, make_folder, parquet
from reasonray.core.recipe import Recipe
from reasonray.core.record import PLAN_SCHEMA, Row, sample_id, to_table
from reasonray.core.session import Session
from reasonray.core.writing import replaced, write_file
from reasonray.generation.notices import (
    MAX_CHECKED_CAPTIONS,
    other_languages,
    tiny_models,
    write_notices,
)
from reasonray.generation.workspace import Workspace
from reasonray.sources.sampling import order

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
    table = _checked(rows)
    if table.num_rows == 0:
        raise UserError(
            f"no inputs found for parts {', '.join(recipe.parts)} in the sources "
            + ", ".join(f"{source.format}={source.path}" for source in recipe.sources)
        )
    parts = set(table["part"].to_pylist())
    folder = workspace.draft(session.name)
    make_folder(folder / _ROWS)
    if recipe.accepted is not None:
        table = table.take(_sample_order(table, recipe.seed))
        with replaced(folder / _CANDIDATES) as temporary:
            pq.write_table(table, temporary)
        table = table.slice(0, recipe.accepted)  # fewer inputs cannot give so many samples
    table = _interleaved(table)
    for index, start in enumerate(range(0, table.num_rows, _FILE_ROWS)):
        with replaced(folder / _ROWS / f"{index:05}.parquet") as temporary:
            rows_of_file = table.slice(start, _FILE_ROWS)
            pq.write_table(rows_of_file, temporary, row_group_size=_CHUNK_ROWS)
    captions = table["input_caption"].drop_null()
    language = other_languages(captions.slice(0, MAX_CHECKED_CAPTIONS).to_pylist())
    write_notices(folder, [*tiny_models(recipe, parts), *notices, *language])
    content = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    write_file(folder / "recipe.yaml", content)
    workspace.set_plan(session.name)
    return int(table.num_rows)


def extend_plan(workspace: Workspace, num_rows: int) -> int:
    """Plan so many candidates more, where `accepted` wants more samples; gives their number."""
    every = _folder(workspace)
    candidates = parquet(every / _CANDIDATES).read()
    table = candidates.slice(len(planned_ids(workspace)), num_rows)
    if table.num_rows:
        whole = pa.BufferOutputStream()
        pq.write_table(_interleaved(table), whole, row_group_size=_CHUNK_ROWS)
        # By one session alone; a successor's number may differ, the order that it is of does not.
        number = len(plan_files(workspace))
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
    for path in planned:
        table = parquet(path).read()
        table = table.filter(pc.invert(pc.is_in(table["id"], value_set=done)))
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
    """Every planned id, sorted."""
    ids = _planned(workspace, ["id"])["id"].combine_chunks()
    return ids.take(pc.sort_indices(ids))


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
