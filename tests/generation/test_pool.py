import dataclasses
import importlib.metadata
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pytest
from toy_notes import DictNotes
from toy_stages import Build, Plan, recipe

import reasonray
from reasonray.cli.main import call
from reasonray.core.errors import RunError, UserError
from reasonray.core.images import decode
from reasonray.core.recipe import Recipe
from reasonray.core.record import WORKING_SCHEMA, Row, to_rows, to_table
from reasonray.core.sections import PoolConfig
from reasonray.core.session import Session
from reasonray.dataset.manifest import Summary, make_manifest
from reasonray.generation.counts import (
    keep_counts,
    read_counts,
    read_pools,
    run_warnings,
)
from reasonray.generation.journal import Journal, losses_of
from reasonray.generation.pool import MAX_LOSSES, Pool, PoolSpec
from reasonray.stages.stage import Stage


@pytest.fixture
def notes() -> DictNotes:
    return DictNotes()


def spec(notes: DictNotes, pool: int = 0, **changes: Any) -> PoolSpec:
    made = recipe()
    plain = PoolSpec(
        config=made.pools[pool],
        recipe=made,
        build=Build(),
        divergence_threshold=None,
        notes=notes,
        work=Path(),
        is_first=pool == 0,
        is_last=pool == 1,
    )
    return dataclasses.replace(plain, **changes)


def batch(num_rows: int, *captions: tuple[int, str]) -> pa.Table:
    rows = list(Plan(num_rows, captions)(recipe(parts=["II"]), Path()))
    return to_table(rows)


def ids(num_rows: int) -> list[str]:
    return [str(i) for i in batch(num_rows)["id"].to_pylist()]


def test_a_batch_passes_through_all_stages_one_to_one(notes: DictNotes) -> None:
    first, last = Pool(spec(notes), "a"), Pool(spec(notes, 1), "b")
    middle = first(batch(4))
    assert middle.schema == WORKING_SCHEMA
    done = last(middle)
    assert done["id"].to_pylist() == ids(4)
    assert done["status"].to_pylist() == ["accepted"] * 3 + ["rejected"]
    provenance = to_rows(done)[0]["provenance"]
    assert provenance["recipe_hash"] == recipe().hash()
    assert provenance["seed"] == 7


def test_a_package_that_was_shipped_and_not_installed_knows_its_version(
    notes: DictNotes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    row = to_rows(Pool(spec(notes), "a")(batch(1)))[0]
    made = make_manifest(recipe(), Summary(), threshold=None, seconds=0, timings={})
    assert row["provenance"]["reasonray"] == made.reasonray == reasonray.__version__
    assert call(["--version"]) == 0
    assert capsys.readouterr().out == f"reasonray {reasonray.__version__}\n"


def test_counts_are_shown_after_each_batch_and_kept_by_a_successor(notes: DictNotes) -> None:
    Pool(spec(notes, 1), "b")(Pool(spec(notes), "a")(batch(4)))
    Pool(spec(notes), "a")(batch(2))
    counts = read_counts(notes)
    assert (counts["load"].passed, counts["load"].worked) == (6, 6)
    assert counts["divergence"].worked == 0
    assert (counts["quality"].worked, counts["quality"].rejected) == (4, 1)


class Tallies:
    """A meter that adds up."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.shares: list[float] = []

    def rows(self, stage: str, finished: int, rejected: int, seconds: float) -> None:
        self.counts[stage, "finished"] += finished
        self.counts[stage, "rejected"] += rejected
        assert seconds >= 0

    def tokens(self, stage: str, num_read: int, num_written: int) -> None:
        self.counts[stage, "prompt"] += num_read
        self.counts[stage, "completion"] += num_written

    def busy(self, share: float) -> None:
        self.shares.append(share)


def test_a_meter_hears_of_rows_tokens_and_time(notes: DictNotes) -> None:
    meter = Tallies()
    first = Pool(spec(notes), "a", meter)
    last = Pool(spec(notes, 1, build=Build(delay=0.02)), "b", meter)
    last.tick()
    last(first(batch(4)))
    last.tick()
    last.stages[0].spent(7, 3)
    assert meter.counts["load", "finished"] == 4
    assert meter.counts["divergence", "finished"] == 0
    assert meter.counts["quality", "finished"] == 3
    assert meter.counts["quality", "rejected"] == 1
    assert (meter.counts["paint", "prompt"], meter.counts["paint", "completion"]) == (7, 3)
    idle, busy = meter.shares
    assert idle == 0 < busy <= 1
    assert read_pools(notes)["paint+quality"].busy >= 8 * 0.02


def test_nothing_is_in_hand_after_a_batch(notes: DictNotes) -> None:
    Pool(spec(notes), "a")(batch(4))
    assert losses_of(notes, [Journal(notes, "a.0")]) == {}


def die(notes: DictNotes, rows: list[str], *, alone: bool = False, stage: str = "paint") -> None:
    """What a process leaves that ends in the middle of a batch."""
    Journal(notes, "a.0").note(rows=rows, alone=alone, stage=stage)


def working(num_rows: int) -> pa.Table:
    rows: list[Row] = to_rows(batch(num_rows))
    for row in rows:
        row["instruction"] = "what comes of it"
    return to_table(rows)


def test_rows_of_a_batch_that_killed_are_run_alone(notes: DictNotes) -> None:
    made = spec(notes, 1)
    die(notes, ids(3))
    pool = Pool(made, "a")
    sizes = []
    paint = pool.stages[0]
    process = paint.process
    paint.process = lambda rows: (sizes.append(len(rows)), process(rows))[1]  # type: ignore[method-assign, func-returns-value]
    assert pool(working(3))["status"].to_pylist() == ["accepted"] * 3
    assert sizes == [1, 1, 1]


def test_the_row_that_kills_twice_alone_is_rejected(notes: DictNotes) -> None:
    made = spec(notes, 1)
    die(notes, ids(3))
    die(notes, ids(3)[1:2], alone=True)
    assert Pool(made, "a")(working(3))["status"].to_pylist() == ["accepted"] * 3
    die(notes, ids(3)[1:2], alone=True)
    rows = to_rows(Pool(made, "a")(working(3)))
    assert [row["reason"] for row in rows] == [None, "crashed", None]
    assert rows[1]["stage"] == "paint"
    assert rows[1]["detail"] == "the process ended 3 times while it had this row in hand"


def test_a_batch_lost_however_often_as_a_whole_costs_no_row(notes: DictNotes) -> None:
    made = spec(notes, 1)
    for _ in range(4):
        die(notes, ids(3))
    assert Pool(made, "a")(working(3))["status"].to_pylist() == ["accepted"] * 3


def test_a_row_whose_machine_was_lost_each_time_is_not_rejected(notes: DictNotes) -> None:
    made = spec(notes, 1)
    for node in ("spot 1", "spot 2", "spot 3"):
        notes.node = node
        die(notes, ids(3)[:1], alone=True)
    notes.node = "here"
    assert Pool(made, "a")(working(3))["status"].to_pylist() == ["accepted"] * 3
    # Two of them are there: it was not the machine.
    notes.machines |= {"spot 2", "spot 3"}
    rows = to_rows(Pool(made, "a")(working(3)))
    assert [row["reason"] for row in rows] == ["crashed", None, None]


def test_only_rows_that_a_stage_has_work_on_are_in_its_hand(notes: DictNotes) -> None:
    rows = list(Plan(2)(recipe(parts=["I", "II"]), Path()))
    for row in rows:
        row["instruction"] = "what comes of it"
    pool = Pool(spec(notes, 1), "a")

    def process(rows: list[Row]) -> None:
        raise KeyboardInterrupt  # the process ends

    pool.stages[0].process = process  # type: ignore[method-assign]
    assert pool.stages[0].name == "paint"
    with pytest.raises(KeyboardInterrupt):
        pool(to_table(rows))
    losses = losses_of(notes, [Journal(notes, "a.0")])
    assert {row_id: loss.stage for row_id, loss in losses.items()} == dict.fromkeys(ids(2), "paint")


def test_a_batch_of_which_a_stage_has_work_on_one_row_has_it_alone(notes: DictNotes) -> None:
    pool = Pool(spec(notes, 1), "a")

    def process(rows: list[Row]) -> None:
        raise KeyboardInterrupt

    pool.stages[0].process = process  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        pool(working(1))
    assert losses_of(notes, [Journal(notes, "a.0")])[ids(1)[0]].num_alone == 1


def test_an_error_while_loading_is_raised_by_the_first_call(notes: DictNotes) -> None:
    pool = Pool(spec(notes, build=Build(broken="load")), "a")
    with pytest.raises(RunError, match=r"stage load: could not be loaded: .* no weights there"):
        pool(batch(1))


def test_a_machine_without_the_extra_is_told_which(notes: DictNotes) -> None:
    def build(*_: object) -> Stage:
        raise ModuleNotFoundError("No module named 'spacy'", name="spacy")

    pool = Pool(spec(notes, build=build), "a")
    with pytest.raises(UserError, match=r"package spacy .* pip install 'reasonray\[generate\]'"):
        pool(batch(1))


def test_a_process_that_ends_while_loading_is_not_loaded_for_ever(notes: DictNotes) -> None:
    made = spec(notes)
    for _ in range(MAX_LOSSES):
        Journal(notes, "a.0").note(loading="load")
    with pytest.raises(RunError, match="stage load: its process ended 2 times while loading"):
        Pool(made, "a")(batch(1))


def test_an_output_that_a_machine_does_not_see_is_named(notes: DictNotes, tmp_path: Path) -> None:
    made = spec(notes, work=tmp_path / "out/.run/work/000001")
    with pytest.raises(RunError, match=r"output .*/out: not to be seen .* storage that all nodes"):
        Pool(made, "a")(batch(1))


def test_many_calls_are_in_work_at_once_each_with_its_own_journal(notes: DictNotes) -> None:
    made = dataclasses.replace(spec(notes, 1), num_calls=4)
    pool = Pool(made, "a")
    process, together = pool.stages[0].process, threading.Barrier(4, timeout=60)

    def gathered(rows: list[Row]) -> None:
        together.wait()
        process(rows)

    pool.stages[0].process = gathered  # type: ignore[method-assign]
    tables = [working(4).slice(number, 1) for number in range(4)]
    with ThreadPoolExecutor(4) as executor:
        done = list(executor.map(pool, tables))
    assert [table["id"].to_pylist() for table in done] == [[row_id] for row_id in ids(4)]
    assert losses_of(notes, [Journal(notes, f"a.{number}") for number in range(4)]) == {}
    assert read_counts(notes)["paint"].worked == 4


def test_where_many_calls_are_at_once_one_that_is_suspected_twice_is_alone(
    notes: DictNotes,
) -> None:
    made = dataclasses.replace(spec(notes, 1, build=Build(delay=0.05)), num_calls=4)
    suspect = ids(4)[1]
    die(notes, ids(4))
    die(notes, [suspect])
    pool = Pool(made, "a")
    in_work: set[str] = set()
    together: dict[str, int] = {}
    paint = pool.stages[0]
    process = paint.process

    def watched(rows: list[Row]) -> None:
        in_work.add(rows[0]["id"])
        process(rows)
        together[rows[0]["id"]] = len(in_work)
        in_work.remove(rows[0]["id"])

    paint.process = watched  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as executor:
        tables = list(executor.map(pool, [working(3).slice(number, 1) for number in range(3)]))
    assert together[suspect] == 1
    assert all(table["status"].to_pylist() == ["accepted"] for table in tables)


def test_a_stage_in_which_the_first_rows_all_raise_the_same_stops_the_run(notes: DictNotes) -> None:
    pool = Pool(spec(notes, 1), "a")

    def process(rows: list[Row]) -> None:
        raise ValueError(f"shape {len(rows[0]['id'])} is not right")

    pool.stages[0].process = process  # type: ignore[method-assign]
    with pytest.raises(RunError, match=r"stage paint: the work on 6 rows failed alike.*ValueError"):
        pool(working(6))


def test_a_call_that_takes_long_is_seen_before_it_ends(notes: DictNotes) -> None:
    pool = Pool(spec(notes, 1), "a")
    seen: list[tuple[int, int, int]] = []
    paint = pool.stages[0]

    def process(rows: list[Row]) -> None:
        paint.advance(2)
        pool._counts.save()  # noqa: SLF001
        counts = read_counts(notes)["paint"]
        seen.append((counts.begun, counts.finished, counts.passed))

    paint.process = process  # type: ignore[method-assign]
    pool(working(3))
    assert seen == [(3, 2, 0)]
    assert read_counts(notes)["paint"].passed == 3


def test_stages_of_one_pool_share_a_decoded_picture_that_no_batch_leaves_behind(
    notes: DictNotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[PIL.Image.Image] = []

    def looking(name: str, recipe: Recipe, threshold: float | None) -> Stage:
        stage = Build()(name, recipe, threshold)
        process = stage.process

        def look(rows: list[Row]) -> None:
            process(rows)
            seen.extend(decode(image) for row in rows if (image := row.get("input_image")))

        monkeypatch.setattr(stage, "process", look)
        return stage

    pool = Pool(spec(notes, build=looking), "a")
    pool(batch(1))
    assert len(seen) > 1
    assert len(set(map(id, seen))) == 1
    pool(batch(1))
    assert len(set(map(id, seen))) == 2


class Narrow(Stage):
    """Has room for three rows at once, and something to say."""

    name = "load"
    notices = ("no seed",)

    def process(self, rows: list[Row]) -> None:
        if len(rows) > 3:
            raise MemoryError


def test_a_batch_that_did_not_fit_into_the_memory_is_told_with_a_stage_s_notices(
    notes: DictNotes,
    tmp_path: Path,
) -> None:
    """A worker's log is seen by nobody: the run tells of it at its end, and the report before."""
    config = PoolConfig(stages=["load"])
    pool = Pool(spec(notes, config=config, build=lambda *_: Narrow()), "a")
    pool(batch(6))
    session = Session(tmp_path, tmp_path, 1)
    session.counts_file.parent.mkdir()
    keep_counts(session.counts_file, read_counts(notes), 1.0)
    notice, warning = run_warnings(tmp_path / "sessions")
    assert notice == "no seed"
    assert "stage load: there was not enough memory for a whole batch, 3 rows at once" in warning
