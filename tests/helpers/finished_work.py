"""A run whose rows are all finished and none published, of any size, made without Ray or stages."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.recipe import Recipe, parse
from reasonray.core.record import PARTS, WORKING_SCHEMA, Row, sample_id, to_table
from reasonray.core.session import Session, last_session
from reasonray.core.writing import write_file
from reasonray.dataset.manifest import KINDS, MANIFEST, Manifest, make_manifest
from reasonray.dataset.shards import image_bytes, parquet_options
from reasonray.generation.audit import judged
from reasonray.generation.plan import plan_files, write_plan
from reasonray.generation.publish import Spread, write_shards
from reasonray.generation.work import Work
from reasonray.generation.workspace import Workspace

REJECTED_EVERY = 5
"""One row of so many is rejected."""


def planned(num_rows: int) -> Iterator[Row]:
    """The parts in equal shares; two variations of each input, as of a source with captions."""
    for number in range(num_rows):
        part = PARTS[number * len(PARTS) // num_rows]
        source_id = f"train/{number // 2:08}.jpg"
        yield {
            "id": sample_id(part, "folder", source_id, number % 2),
            "part": part,
            "source": "folder",
            "source_id": source_id,
            "variation": number % 2,
            "input_uri": f"data/pictures/{source_id}",
            "license": "CC-BY-4.0",
        }


def plan_rows(output: Path, recipe: Recipe, num_rows: int) -> None:
    """Begin a run of so many rows."""
    workspace = Workspace(output)
    with workspace.session() as session:
        write_plan(workspace, session, recipe, planned(num_rows))


def finish(output: Path, picture_bytes: int, block_rows: int) -> None:
    """Make all that is planned; no two pictures are alike, and none can be compressed.

    Args:
        output: of a run that has planned and no more.
        picture_bytes: of each of a row's two; 0: it has none.
        block_rows: of a file, accepted and rejected ones together.
    """
    workspace = Workspace(output)
    work = Work(workspace, _session(workspace))
    rng = np.random.default_rng(0)
    for kind in KINDS:
        (work.rows / f"status={kind}").mkdir()
    number = 0
    for path in plan_files(workspace):
        rows = pq.read_table(path)
        for start in range(0, rows.num_rows, block_rows):
            _commit(work, f"{number:06}", rows.slice(start, block_rows), picture_bytes, rng)
            number += 1


def publish_all(output: Path, spread: Spread | None = None) -> Manifest:
    """Publish what is finished, with a manifest, and keep what a run would remove then."""
    workspace = Workspace(output)
    session = _session(workspace)
    recipe = parse(workspace.recipe() or {}, name="recipe")
    work = Work(workspace, session)
    summary, shards = write_shards(
        workspace, session, judged(workspace, work), recipe.output, spread=spread
    )
    manifest = make_manifest(recipe, summary, shards=shards, threshold=None, seconds=1, timings={})
    write_file(output / MANIFEST, manifest.model_dump_json())
    return manifest


def _session(workspace: Workspace) -> Session:
    return Session(workspace.output, workspace.folder, last_session(workspace.folder))


def _commit(
    work: Work, name: str, rows: pa.Table, picture_bytes: int, rng: np.random.Generator
) -> None:
    """One block, as Ray Data leaves it."""
    table = _done(rows, picture_bytes, rng)
    is_rejected = np.arange(table.num_rows) % REJECTED_EVERY == REJECTED_EVERY - 1
    for kind, mask in (("accepted", ~is_rejected), ("rejected", is_rejected)):
        chosen = table.filter(pa.array(mask))
        if kind == "rejected":
            for column, text in (("stage", "quality"), ("reason", "target_missing")):
                place = chosen.schema.get_field_index(column)
                values = pa.repeat(text, chosen.num_rows)
                chosen = chosen.set_column(place, column, values)
        if chosen.num_rows:
            path = work.rows / f"status={kind}" / f"{name}-0.parquet"
            pq.write_table(chosen, path, **parquet_options(WORKING_SCHEMA))
    pq.write_table(rows.select(["id"]), work.checkpoint / f"{name}.parquet")


def _done(rows: pa.Table, picture_bytes: int, rng: np.random.Generator) -> pa.Table:
    count = rows.num_rows

    def picture() -> dict[str, object] | None:
        return {"bytes": rng.bytes(picture_bytes), "path": None} if picture_bytes else None

    one: Row = {
        "candidates": ["what it becomes", "what it was"],
        "selected_category": "bee",
        "box": [1.0, 2.0, 30.0, 40.0],
        "scores": {"divergence": 0.1, "detection": 0.5, "clip_lead": 0.02},
        "provenance": {
            "reasonray": "0",
            "recipe_hash": "0" * 16,
            "seed": 0,
            "variation": 0,
            "models": [
                {"stage": stage, "name": f"someone/{stage}", "revision": "0" * 40}
                for stage in ("caption", "ground", "propose", "paint", "quality")
            ],
            "prompts": [{"name": "replace", "version": "3"}],
        },
    }
    made = [{**one, "input_image": picture(), "edited_image": picture()} for _ in range(count)]
    table = to_table(made)  # type: ignore[arg-type]
    numbers = rng.integers(10**9, size=count).tolist()
    columns = {
        "instruction": [f"Show what it turns into after {each} days." for each in numbers],
        "target_category": [f"thing {each % 997}" for each in numbers],
        "image_hash": [f"{each:016x}" for each in rng.integers(2**63, size=count).tolist()],
    }
    for name in WORKING_SCHEMA.names:
        if name in columns or name in rows.column_names:
            values = pa.array(columns[name]) if name in columns else rows[name]
            table = table.set_column(table.schema.get_field_index(name), name, values)
    return table.append_column("image_bytes", pa.array(image_bytes(table)))
