from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_outputs import commit, finished, published
from toy_stages import Build, Plan, recipe, sequential

from reasonray.core.errors import RunError
from reasonray.core.place import files, remove
from reasonray.core.record import ACCEPTED_SCHEMA, REJECTED_SCHEMA
from reasonray.core.sections import OutputConfig
from reasonray.dataset.manifest import KINDS
from reasonray.generation.plan import candidate_ids
from reasonray.generation.publish import judged, near_duplicates, write_shards


def test_shards_hold_every_row_once_by_id_with_the_published_schemas(tmp_path: Path) -> None:
    published(tmp_path / "out")
    accepted = pq.read_table(tmp_path / "out/accepted")
    rejected = pq.read_table(tmp_path / "out/rejected")
    assert accepted.schema.names == ACCEPTED_SCHEMA.names
    assert rejected.schema.names == REJECTED_SCHEMA.names
    assert accepted["id"].to_pylist() == sorted(accepted["id"].to_pylist())
    planned = sorted(row["id"] for row in Plan(6)(recipe(), tmp_path))
    assert sorted(accepted["id"].to_pylist() + rejected["id"].to_pylist()) == planned
    assert set(rejected["reason"].to_pylist()) == {"target_missing"}


def test_rows_keep_every_value_they_had(tmp_path: Path) -> None:
    published(tmp_path / "out")
    rows = sequential(recipe(), Build(), Plan(6))
    records = pq.read_table(tmp_path / "out/accepted").to_pylist()
    assert len(records) > 12
    for record in records:
        row = rows[record["id"]]
        for name in ("input_image", "edited_image", "instruction", "candidates", "box", "license"):
            assert record[name] == row.get(name), name


def test_the_same_rows_in_other_blocks_give_the_same_files(tmp_path: Path) -> None:
    published(tmp_path / "a", block=5)
    published(tmp_path / "b", block=3)
    for kind in KINDS:
        [first] = (tmp_path / "a" / kind).iterdir()
        [second] = (tmp_path / "b" / kind).iterdir()
        assert first.read_bytes() == second.read_bytes()


def test_row_groups_and_shards_have_the_configured_size(tmp_path: Path) -> None:
    small: Any = {"block_rows": 8, "shard_mb": 0.01, "row_group_rows": 2}
    config = OutputConfig.model_construct(**small)
    published(tmp_path / "out", config)
    files = sorted((tmp_path / "out/accepted").iterdir())
    assert len(files) > 1
    for path in files:
        metadata = pq.read_metadata(path)
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert max(sizes) <= 2


def test_the_same_rows_in_other_blocks_are_grouped_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonray.dataset.shards.MAX_GROUP_BYTES", 8_000)
    published(tmp_path / "a", block=5)
    published(tmp_path / "b", block=3)
    [first], [second] = (list((tmp_path / name / "accepted").iterdir()) for name in "ab")
    assert pq.read_metadata(first).num_row_groups > 3
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("fault", ["missing", "strange"])
def test_a_row_that_is_missing_or_not_planned_stops_the_publication(
    tmp_path: Path, fault: str
) -> None:
    workspace, session, work = finished(tmp_path / "out")
    if fault == "missing":
        remove(files(work.checkpoint)[0])
    else:
        row = {**next(Plan(1)(recipe(), tmp_path)), "id": "I/toy/strange"}
        commit(work, "again", [{**row, "scores": {}, "provenance": {}}])  # type: ignore[typeddict-item]
    with pytest.raises(RunError, match=r"[1-9] planned rows are missing|[1-9] are not planned"):
        write_shards(workspace, session, work, work.index(), OutputConfig())
    assert not (tmp_path / "out/accepted").exists()


def index(*rows: tuple[str, int, str | None]) -> pa.Table:
    keys = ("part", "variation", "image_hash")
    listed = [dict(zip(keys, row, strict=True)) for row in rows]
    for row in listed:
        row |= {"source": "toy", "source_id": "7", "id": f"{row['part']}/toy/7/{row['variation']}"}
        row |= {"status": "accepted", "stage": None, "reason": None}
    return pa.Table.from_pylist(listed)


def test_an_edit_like_an_earlier_one_of_its_input_is_a_near_duplicate() -> None:
    rows = index(("III", 10, "00000000000000ff"), ("III", 2, "00000000000000fe"))
    # By variation, not by the id's letters: 2 comes before 10.
    assert near_duplicates(rows) == {"III/toy/7/10": "III/toy/7/2"}
    far = index(("III", 0, "00000000000000ff"), ("III", 1, "000000000000ff00"))
    assert near_duplicates(far) == {}


def test_pairs_of_part_one_are_never_near_duplicates() -> None:
    rows = index(("I", 0, "00000000000000ff"), ("I", 1, "00000000000000ff"))
    assert near_duplicates(rows) == {}
    missing = index(("II", 0, None), ("II", 1, None))
    assert near_duplicates(missing) == {}


def test_near_duplicates_are_published_as_rejections(tmp_path: Path) -> None:
    published(tmp_path / "out", variations=2)
    rejected = pq.read_table(tmp_path / "out/rejected").to_pylist()
    [row] = [row for row in rejected if row["reason"] == "near_duplicate"]
    assert row["id"] == "II/toy/0001/1"
    assert row["stage"] == "quality"
    assert row["detail"] == "the edited image looks like that of II/toy/0001/0"


def test_an_output_without_rejections_has_an_empty_shard(tmp_path: Path) -> None:
    workspace, session, work = finished(tmp_path / "out", parts=["I"])
    write_shards(workspace, session, work, work.index(), OutputConfig())
    assert pq.read_table(tmp_path / "out/rejected").num_rows == 0


@pytest.mark.parametrize("num_accepted", [1, 4, 15, 99])
def test_a_run_to_so_many_samples_ends_with_the_last_of_them(
    tmp_path: Path, num_accepted: int
) -> None:
    # All rows are finished, as where a round was larger than it had to be.
    workspace, session, work = finished(tmp_path / "out", accepted=1000)
    order = candidate_ids(workspace)
    rows = judged(workspace, work, work.index())
    states = {row["id"]: row["is_accepted"] for row in rows.index.to_pylist()}
    expected: list[str] = []
    for row_id in order.to_pylist():
        if sum(states[each] for each in expected) < num_accepted:
            expected.append(row_id)
    summary, _ = write_shards(workspace, session, work, work.index(), OutputConfig(), num_accepted)
    tables = {kind: pq.read_table(tmp_path / "out" / kind) for kind in KINDS}
    listed = [row_id for table in tables.values() for row_id in table["id"].to_pylist()]
    assert sorted(listed) == sorted(expected)
    assert tables["accepted"].num_rows == min(num_accepted, rows.num_accepted)
    assert summary.total("accepted") == tables["accepted"].num_rows
    assert summary.total("rejected") == tables["rejected"].num_rows


def test_what_an_earlier_session_left_of_its_shards_is_removed(tmp_path: Path) -> None:
    workspace, session, work = finished(tmp_path / "out")
    stray = tmp_path / "out/accepted/000000-00000.parquet"
    stray.parent.mkdir()
    stray.write_bytes(b"half a shard")
    _, names = write_shards(workspace, session, work, work.index(), OutputConfig())
    assert names == {kind: [f"{kind}/{session.name}-00000.parquet"] for kind in KINDS}
    assert not stray.exists()
