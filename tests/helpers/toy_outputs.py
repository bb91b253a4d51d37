"""What runs of the toy stages leave on the disk, made without Ray."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from toy_notes import DictNotes
from toy_stages import Build, Plan, recipe, sequential

from reasonray.core.place import Place, arrow, make_folder, parquet
from reasonray.core.record import Row, is_rejected, to_table
from reasonray.core.sections import OutputConfig
from reasonray.core.session import Session
from reasonray.core.writing import write_file
from reasonray.dataset.card import write_card
from reasonray.dataset.manifest import KINDS, MANIFEST, make_manifest
from reasonray.dataset.shards import image_bytes
from reasonray.generation.audit import judged
from reasonray.generation.counts import Counts, StageCounts
from reasonray.generation.plan import plan_files, write_plan
from reasonray.generation.publish import write_shards
from reasonray.generation.work import Work
from reasonray.generation.workspace import Workspace


def first(workspace: Workspace) -> Session:
    """The first session, for what only asks for its name."""
    return Session(workspace.output, workspace.folder, 1)


def finished(
    output: Place, *, block: int = 5, **changes: object
) -> tuple[Workspace, Session, Work]:
    """A workspace in which a session has made and committed all rows, in blocks of mixed parts."""
    made = recipe(**changes)
    workspace = Workspace(output)
    plan = Plan(6, ((1, "same"),))
    with workspace.session() as held:
        write_plan(workspace, held, made, plan(made, Path()))
        work = Work(workspace, held)
        work.seal(work.before())
        rows = sequential(made, Build(), plan)
        planned = [parquet(path).read(columns=["id"]) for path in plan_files(workspace)]
        ids = pa.concat_tables(planned)["id"].to_pylist()
        for start in range(0, len(ids), block):
            commit(work, f"block{start}", [rows[row_id] for row_id in ids[start : start + block]])
    return workspace, held, work


def commit(work: Work, name: str, rows: list[Row]) -> None:
    """One block of finished rows, as Ray Data leaves it."""
    for status in KINDS:
        chosen = [row for row in rows if is_rejected(row) == (status == "rejected")]
        if chosen:
            table = to_table(chosen)
            table = table.append_column("image_bytes", pa.array(image_bytes(table)))
            write_table(table, work.rows / f"status={status}" / f"{name}-0.parquet")
    write_table(pa.table({"id": [row["id"] for row in rows]}), work.checkpoint / f"{name}.parquet")


def write_table(table: pa.Table, path: Place) -> None:
    """A Parquet file, and the folders above it."""
    make_folder(path.parent)
    filesystem, name = arrow(path)
    pq.write_table(table, name, filesystem=filesystem)


def published(
    output: Place, config: OutputConfig | None = None, *, block: int = 5, **changes: object
) -> None:
    """A complete output, with what the run would remove at its very end."""
    workspace, session, work = finished(output, block=block, **changes)
    summary, shards = write_shards(
        workspace, session, judged(workspace, work), config or OutputConfig()
    )
    manifest = make_manifest(
        recipe(**changes), summary, shards=shards, threshold=None, seconds=1, timings={}
    )
    write_card(output, manifest, summary.licenses)
    write_file(output / MANIFEST, manifest.model_dump_json())


def count(notes: DictNotes, process: str, **amounts: Any) -> None:
    """The counts of one process of two stages; the amounts are those of paint."""
    counts = Counts(notes, process, ["load", "paint"])
    counts.add("load", StageCounts(passed=10, worked=10, begun=10, seconds=1.0))
    counts.add("paint", StageCounts(**{"begun": amounts.get("worked", 0), **amounts}))
    counts.save()
