from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_outputs import commit, finished, published
from toy_stages import Build, Plan, recipe, sequential

from reasonray.core.errors import RunError
from reasonray.core.place import files, parquet, remove
from reasonray.core.record import ACCEPTED_SCHEMA, REJECTED_SCHEMA, Image, is_rejected, to_rows
from reasonray.core.sections import OutputConfig
from reasonray.dataset.manifest import KINDS, Kind, make_manifest
from reasonray.generation.audit import judged
from reasonray.generation.plan import candidate_ids, planned_ids, write_plan
from reasonray.generation.publish import Written, remove_others, write, write_shards
from reasonray.generation.stretches import Stretch
from reasonray.generation.work import Work
from reasonray.generation.workspace import Workspace


def test_shards_hold_every_row_once_in_plan_order_with_the_published_schemas(
    tmp_path: Path,
) -> None:
    published(tmp_path / "out")
    accepted = pq.read_table(tmp_path / "out/accepted")
    rejected = pq.read_table(tmp_path / "out/rejected")
    assert accepted.schema.names == ACCEPTED_SCHEMA.names
    assert rejected.schema.names == REJECTED_SCHEMA.names
    planned = planned_ids(Workspace(tmp_path / "out")).to_pylist()
    for table in (accepted, rejected):
        places = [planned.index(row_id) for row_id in table["id"].to_pylist()]
        assert places == sorted(places)
    assert sorted(accepted["id"].to_pylist() + rejected["id"].to_pylist()) == sorted(planned)
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
        row = {**Plan(1)(recipe(), tmp_path).__next__(), "id": "II/toy/of another run/0"}
        commit(work, "again", [row])  # type: ignore[list-item]
    with pytest.raises(RunError, match=r"[1-9] planned rows are missing|[1-9] are not planned"):
        write_shards(workspace, session, judged(workspace, work), OutputConfig())
    assert not (tmp_path / "out/accepted").exists()


def test_near_duplicates_are_published_as_rejections(tmp_path: Path) -> None:
    published(tmp_path / "out", variations=2)
    rejected = pq.read_table(tmp_path / "out/rejected").to_pylist()
    [row] = [row for row in rejected if row["reason"] == "near_duplicate"]
    assert row["id"] == "II/toy/0001/1"
    assert row["stage"] == "quality"
    assert row["detail"] == "the edited image looks like that of II/toy/0001/0"


def test_an_output_without_rejections_has_an_empty_shard(tmp_path: Path) -> None:
    workspace, session, work = finished(tmp_path / "out", parts=["I"])
    write_shards(workspace, session, judged(workspace, work), OutputConfig())
    assert pq.read_table(tmp_path / "out/rejected").num_rows == 0


@pytest.mark.parametrize("num_accepted", [1, 4, 15, 99])
def test_a_run_to_so_many_samples_ends_with_the_last_of_them(
    tmp_path: Path, num_accepted: int
) -> None:
    # All rows are finished, as where a round was larger than it had to be.
    workspace, session, work = finished(tmp_path / "out", accepted=1000)
    order = candidate_ids(workspace)
    rows = judged(workspace, work)
    states = {row["id"]: row["is_accepted"] for row in rows.index.to_pylist()}
    expected: list[str] = []
    for row_id in order.to_pylist():
        if sum(states[each] for each in expected) < num_accepted:
            expected.append(row_id)
    summary = write_shards(
        workspace, session, rows.first(num_accepted, order), OutputConfig()
    ).summary
    tables = {kind: pq.read_table(tmp_path / "out" / kind) for kind in KINDS}
    listed = [row_id for table in tables.values() for row_id in table["id"].to_pylist()]
    assert sorted(listed) == sorted(expected)
    assert tables["accepted"].num_rows == min(num_accepted, rows.num_accepted)
    assert summary.total("accepted") == tables["accepted"].num_rows
    assert summary.total("rejected") == tables["rejected"].num_rows


SMALL = OutputConfig.model_construct(block_rows=8, shard_mb=0.01, row_group_rows=2)  # type: ignore[arg-type]


def contents(output: Path, shards: Mapping[Kind, Sequence[str]]) -> list[tuple[str, bytes]]:
    """The shards' numbers and bytes; their names end with the session."""
    return [
        (name.partition("-")[0], (output / name).read_bytes())
        for names in shards.values()
        for name in names
    ]


def test_the_same_rows_in_other_blocks_are_cut_into_the_same_shards(tmp_path: Path) -> None:
    both = []
    for name, block in (("a", 5), ("b", 3)):
        workspace, session, work = finished(tmp_path / name, block=block)
        shards = write_shards(workspace, session, judged(workspace, work), SMALL).shards
        both.append(contents(tmp_path / name, shards))
    assert len(both[0]) > 4
    assert both[0] == both[1]


def test_what_was_written_before_a_failure_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonray.generation.publish.MAX_HERE", 0)
    workspace, session, work = finished(tmp_path / "whole")
    whole = write_shards(workspace, session, judged(workspace, work), SMALL)
    workspace, session, work = finished(tmp_path / "out")

    def failing(stretches: list[Stretch]) -> Iterator[Written]:
        yield write(stretches[:1])
        yield write(stretches[2:3])
        raise OSError("the machine is gone")

    with pytest.raises(OSError, match="gone"):
        write_shards(workspace, session, judged(workspace, work), SMALL, spread=failing)
    before = {path: path.stat() for path in (tmp_path / "out").glob("*ed/*.parquet")}
    assert len(before) >= 2
    again = replace(session, number=2)
    published = write_shards(workspace, again, judged(workspace, Work(workspace, again)), SMALL)
    assert contents(tmp_path / "out", published.shards) == contents(
        tmp_path / "whole", whole.shards
    )
    for path, stat in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    manifests = [
        make_manifest(recipe(), each.summary, shards={}, threshold=None, seconds=1, timings={})
        for each in (whole, published)
    ]
    assert manifests[0] == manifests[1]


def test_a_shard_of_rows_that_were_done_again_meanwhile_is_written_again(tmp_path: Path) -> None:
    workspace, session, work = finished(tmp_path / "out")
    write_shards(workspace, session, judged(workspace, work), SMALL)
    # As after a failure of a model, which is tried again: the same ids, in another file.
    last = files(work.rows / "status=accepted")[-1]
    rows = to_rows(parquet(last).read())
    for row in rows:
        row["instruction"] = "another one"
    number = last.stem.rpartition("-")[0]
    for path in [*files(work.rows), *files(work.checkpoint)]:
        if path.stem.removesuffix("-0") == number:
            if "status=rejected" in str(path):
                rows += to_rows(parquet(path).read())
            remove(path)
    commit(work, "again", rows)
    again = replace(session, number=2)
    published = write_shards(workspace, again, judged(workspace, Work(workspace, again)), SMALL)
    texts = [
        text
        for name in published.shards["accepted"]
        for text in pq.read_table(tmp_path / "out" / name)["instruction"].to_pylist()
    ]
    assert texts.count("another one") == len(rows) - sum(map(is_rejected, rows))
    sessions = {name.rpartition("-")[2] for name in published.shards["accepted"]}
    assert sessions == {"000001.parquet", "000002.parquet"}


def test_what_other_sessions_left_beside_the_shards_is_removed(tmp_path: Path) -> None:
    workspace, session, work = finished(tmp_path / "out")
    (tmp_path / "out/accepted").mkdir()
    (tmp_path / "out/accepted/00007-000000.parquet").write_bytes(b"half")
    shards = write_shards(workspace, session, judged(workspace, work), OutputConfig()).shards
    remove_others(tmp_path / "out", shards)
    for kind, names in shards.items():
        assert [f"{kind}/{path.name}" for path in (tmp_path / "out" / kind).iterdir()] == names


def test_each_row_group_of_finished_rows_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[tuple[pq.ParquetFile, int]] = Counter()
    original = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, number: int, **options: Any) -> pa.Table:
        reads[self, number] += 1
        return original(self, number, **options)

    # Rejections and near-duplicates among them, in blocks that lie across the cuts.
    workspace, session, work = finished(tmp_path / "out", variations=2)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    write_shards(workspace, session, judged(workspace, work), SMALL)
    assert set(reads.values()) == {1}
    assert len(reads) == len(list(work.rows.rglob("*.parquet")))


@pytest.mark.nightly  # takes 5 GB of memory
def test_finished_rows_of_more_than_two_gib_in_one_row_group_are_published(tmp_path: Path) -> None:
    made = recipe(parts=["II"])
    workspace = Workspace(tmp_path / "out")
    with workspace.session() as session:
        write_plan(workspace, session, made, Plan(40)(made, tmp_path))
    work = Work(workspace, session)
    pictures: Image = {"bytes": bytes(60 * 2**20), "path": None}
    rows = [{**row, "edited_image": pictures} for row in Plan(40)(made, tmp_path)]
    commit(work, "block", rows)  # type: ignore[arg-type]
    shards = write_shards(workspace, session, judged(workspace, work), OutputConfig()).shards[
        "accepted"
    ]
    sizes = [pq.read_metadata(tmp_path / "out" / name).num_rows for name in shards]
    assert (sum(sizes), max(sizes)) == (40, 5)


def test_a_run_that_was_taken_for_dead_takes_nothing_from_the_one_that_has_published(
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    workspace, session, work = finished(output)
    rows = judged(workspace, work)
    late = write_shards(workspace, session, rows, SMALL)
    again = replace(session, number=2)
    for note in files(workspace.folder / "published"):
        remove(note)  # as where the last of them did not get through
    counts = write_shards(workspace, again, judged(workspace, Work(workspace, again)), SMALL)
    remove_others(output, counts.shards)
    # The first one goes on, and finds that there is a manifest.
    write_shards(workspace, session, rows, SMALL)
    remove_others(output, counts.shards)
    for kind in KINDS:
        names = {f"{kind}/{path.name}" for path in files(output / kind)}
        assert names == set(counts.shards[kind]), kind
        assert names.isdisjoint(late.shards[kind])


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[1]"])
def test_a_damaged_note_costs_no_more_than_its_stretch(tmp_path: Path, content: bytes) -> None:
    workspace, session, work = finished(tmp_path / "out")
    whole = write_shards(workspace, session, judged(workspace, work), SMALL)
    [note, *_] = files(workspace.folder / "published")
    note.write_bytes(content)
    again = write_shards(workspace, session, judged(workspace, work), SMALL)
    assert contents(tmp_path / "out", again.shards) == contents(tmp_path / "out", whole.shards)
