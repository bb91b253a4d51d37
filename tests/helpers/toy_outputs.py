"""What runs of the toy stages leave on the disk, made without Ray."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from toy_stages import Build, Plan, recipe, sequential

from reasonray.core.record import Row, is_rejected, to_table
from reasonray.core.sections import OutputConfig
from reasonray.core.writing import write_file
from reasonray.dataset.card import write_card
from reasonray.dataset.manifest import KINDS, MANIFEST, make_manifest
from reasonray.generation.counts import Counts, StageCounts
from reasonray.generation.plan import write_plan
from reasonray.generation.publish import write_shards
from reasonray.generation.workspace import Work, Workspace


def finished(output: Path, *, block: int = 5, **changes: object) -> tuple[Workspace, Work]:
    """A workspace in which all rows are made and committed, in blocks of mixed parts."""
    made = recipe(**changes)
    workspace = Workspace(output)
    workspace.folder.mkdir(parents=True)
    plan = Plan(6, ((1, "same"),))
    write_plan(workspace, made, plan(made, output))
    work = workspace.open_work()
    rows = sequential(made, Build(), plan)
    ids = pq.read_table(workspace.plan_folder)["id"].to_pylist()
    for start in range(0, len(ids), block):
        commit(work, f"block{start}", [rows[row_id] for row_id in ids[start : start + block]])
    return workspace, work


def commit(work: Work, name: str, rows: list[Row]) -> None:
    """One block of finished rows, as Ray Data leaves it."""
    for status in KINDS:
        chosen = [row for row in rows if is_rejected(row) == (status == "rejected")]
        if chosen:
            folder = work.rows / f"status={status}"
            folder.mkdir(exist_ok=True)
            pq.write_table(to_table(chosen), folder / f"{name}-0.parquet")
    ids = pa.table({"id": [row["id"] for row in rows]})
    pq.write_table(ids, work.checkpoint / f"{name}.parquet")


def published(
    output: Path, config: OutputConfig | None = None, *, block: int = 5, **changes: object
) -> Workspace:
    """A complete output, but for what the run would remove at its very end."""
    workspace, work = finished(output, block=block, **changes)
    summary = write_shards(workspace, work, config or OutputConfig())
    manifest = make_manifest(recipe(**changes), summary, threshold=None, seconds=1, timings={})
    write_card(output, manifest, summary.licenses)
    write_file(output / MANIFEST, manifest.model_dump_json())
    return workspace


def count(folder: Path, process: str, **amounts: Any) -> None:
    """The counts of one process of two stages; the amounts are those of paint."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = Counts(folder / f"{process}.json", ["load", "paint"])
    counts.add("load", StageCounts(passed=10, worked=10, begun=10, seconds=1.0))
    counts.add("paint", StageCounts(**{"begun": amounts.get("worked", 0), **amounts}))
    counts.save()
