from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from toy_stages import Build, Plan, recipe, sequential

import reasonray
from reasonray.core.errors import RunError, UserError
from reasonray.core.record import ACCEPTED_SCHEMA, REJECTED_SCHEMA, Row, is_rejected, to_table
from reasonray.core.sections import OutputConfig
from reasonray.core.writing import write_file
from reasonray.dataset.card import write_card
from reasonray.dataset.manifest import KINDS, MANIFEST, make_manifest, read_manifest
from reasonray.generation.plan import write_plan
from reasonray.generation.publish import near_duplicates, write_shards
from reasonray.generation.report import write_report
from reasonray.generation.run import run
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
    workspace, work = finished(output, block=block, **changes)
    summary = write_shards(workspace, work, config or OutputConfig())
    manifest = make_manifest(recipe(**changes), summary, threshold=None, seconds=1, timings={})
    write_card(output, manifest, summary.licenses)
    write_file(output / MANIFEST, manifest.model_dump_json())
    return workspace


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
    for record in pq.read_table(tmp_path / "out/accepted").to_pylist():
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
    config = OutputConfig.model_construct(block_rows=8, shard_mb=0.01, row_group_rows=2)
    published(tmp_path / "out", config)
    files = sorted((tmp_path / "out/accepted").iterdir())
    assert len(files) > 1
    for path in files:
        metadata = pq.read_metadata(path)
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert max(sizes) <= 2


@pytest.mark.parametrize("fault", ["missing", "doubled"])
def test_a_row_that_is_missing_or_doubled_stops_the_publication(tmp_path: Path, fault: str) -> None:
    workspace, work = finished(tmp_path / "out")
    marks = sorted(work.checkpoint.iterdir())
    if fault == "missing":
        marks[0].unlink()
    else:
        row = {**Plan(1)(recipe(), tmp_path).__next__(), "scores": {}, "provenance": {}}
        commit(work, "again", [row])  # type: ignore[list-item]
    with pytest.raises(RunError, match=r"[1-9] planned rows are missing|[1-9] are doubled"):
        write_shards(workspace, work, OutputConfig())
    assert not (tmp_path / "out/accepted").exists()


def index(*rows: tuple[str, int, str | None]) -> pa.Table:
    keys = ("part", "variation", "image_hash")
    listed = [dict(zip(keys, row, strict=True)) for row in rows]
    for row in listed:
        row |= {"source": "toy", "source_id": "7", "id": f"{row['part']}/toy/7/{row['variation']}"}
        row |= {"kind": "accepted", "stage": None, "reason": None}
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
    workspace, work = finished(tmp_path / "out", parts=["I"])
    write_shards(workspace, work, OutputConfig())
    assert pq.read_table(tmp_path / "out/rejected").num_rows == 0


def test_the_manifest_adds_up(tmp_path: Path) -> None:
    published(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert (manifest.inputs, manifest.accepted, manifest.rejected) == (18, 16, 2)
    assert manifest.rejections == {"quality": {"target_missing": 2}}
    assert {part: n.inputs for part, n in manifest.parts.items()} == {"I": 6, "II": 6, "III": 6}
    assert manifest.recipe == recipe().model_dump(mode="json")


def test_what_a_run_killed_at_its_very_end_left_is_removed(tmp_path: Path) -> None:
    published(tmp_path / "out")
    assert (tmp_path / "out/.run/plan").exists()
    assert run(recipe(), tmp_path / "out") == read_manifest(tmp_path / "out")
    assert not (tmp_path / "out/.run").exists()


def test_reading_gives_records_with_pictures(tmp_path: Path) -> None:
    published(tmp_path / "out")
    records = list(reasonray.read(tmp_path / "out"))
    assert len(records) == 16
    assert records[0]["input_image"].size == (24, 24)
    assert records[-1]["edited_image"].mode == "RGB"
    [first, _] = reasonray.read(tmp_path / "out", "rejected")
    assert first["reason"] == "target_missing"


def test_reading_what_is_not_complete_is_refused(tmp_path: Path) -> None:
    finished(tmp_path / "out")
    with pytest.raises(UserError, match="no complete output"):
        reasonray.read(tmp_path / "out")


@pytest.mark.parametrize("content", [b'{"name": "my web app"}', b"\xff", b"[]"])
def test_the_manifest_of_another_program_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    for use in (reasonray.read, write_report, partial(run, recipe())):
        with pytest.raises(UserError, match=r"its manifest\.json was not made by reasonray"):
            use(tmp_path)


def test_the_card_describes_every_field(tmp_path: Path) -> None:
    published(tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert [config["config_name"] for config in head["configs"]] == ["accepted", "rejected"]
    for name in ACCEPTED_SCHEMA.names:
        assert f"- `{name}`: " in card
    assert "CC0-1.0: 16 samples" in card


@pytest.mark.filterwarnings("default")  # of datasets and what it imports
def test_datasets_opens_the_output_and_shows_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    published(tmp_path / "out")
    cache = str(tmp_path / "cache")
    samples = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=cache)
    assert len(samples) == 16
    assert isinstance(samples.features["edited_image"], datasets.Image)
    assert samples[0]["input_image"].size == (24, 24)
    rejections = datasets.load_dataset(
        str(tmp_path / "out"), "rejected", split="train", cache_dir=cache
    )
    assert rejections["reason"] == ["target_missing"] * 2
