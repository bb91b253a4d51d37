import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_stages import Plan, recipe

from reasonray.core.errors import UserError
from reasonray.core.lock import STALE_S
from reasonray.core.recipe import differing_keys
from reasonray.core.writing import write_file
from reasonray.generation.plan import planned_ids, planned_parts, write_plan
from reasonray.generation.workspace import Work, Workspace


def commit(work: Work, prefix: str, rows: dict[str, list[str]], marked: int | None = None) -> None:
    """What Ray Data leaves of one block: data files by status, and the ids."""
    for status, ids in rows.items():
        folder = work.rows / f"status={status}"
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.table({"id": ids}), folder / f"{prefix}-0.parquet")
    ids = [row_id for each in rows.values() for row_id in each]
    pq.write_table(pa.table({"id": ids[:marked]}), work.checkpoint / f"{prefix}.parquet")


def opened(output: Path) -> tuple[Workspace, Work]:
    workspace = Workspace(output)
    workspace.folder.mkdir(parents=True, exist_ok=True)
    return workspace, workspace.open_work()


def test_a_plan_holds_every_row_with_the_parts_interleaved(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    plan = list(Plan(4)(recipe(), Path()))
    assert write_plan(workspace, recipe(), plan) == 12
    written = pq.read_table(workspace.plan_folder)
    assert sorted(written["id"].to_pylist()) == planned_ids(workspace).to_pylist()
    assert sorted(written["part"].to_pylist()[:3]) == ["I", "II", "III"]
    assert planned_parts(workspace) == {"I": 4, "II": 4, "III": 4}
    assert workspace.recipe() == recipe().model_dump(mode="json")


def test_two_inputs_of_one_id_are_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    plan = [*Plan(3)(recipe(), Path()), *Plan(1)(recipe(), Path())]
    with pytest.raises(UserError, match="two inputs have the same id I/toy/0000/0"):
        write_plan(workspace, recipe(), plan)
    assert not workspace.plan_folder.exists()


def test_no_inputs_are_the_user_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no inputs found for parts I, II, III"):
        write_plan(Workspace(tmp_path / "out"), recipe(), [])


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"holds thesis\.tex"):
        Workspace(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        Workspace(tmp_path / "thesis.tex")
    with pytest.raises(UserError, match="not a URI"):
        Workspace("s3://bucket/out")


def test_a_second_holder_is_told_who_is_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    with (
        workspace.locked(),
        pytest.raises(UserError, match=f"another run .*process {os.getpid()}"),
        Workspace(tmp_path / "out").locked(),
    ):
        pass
    with Workspace(tmp_path / "out").locked():
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from reasonray.generation.workspace import Workspace\n"
        "with Workspace(sys.argv[1]).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "out" / ".run" / "lock").exists()
    with Workspace(tmp_path / "out").locked():
        pass


def test_a_lock_of_another_host_holds_while_its_heart_beats(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    workspace.folder.mkdir(parents=True)
    lock = workspace.folder / "lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "now"}))
    with pytest.raises(UserError, match="process 1 on elsewhere"), workspace.locked():
        pass
    long_ago = time.time() - STALE_S - 1
    os.utime(lock, (long_ago, long_ago))
    with workspace.locked():
        pass


def test_a_new_start_cuts_off_what_the_last_one_still_writes(tmp_path: Path) -> None:
    _, old = opened(tmp_path / "out")
    commit(old, "a", {"accepted": ["1", "2"], "rejected": ["3"]})
    _, new = opened(tmp_path / "out")
    assert new.num_committed() == 3
    assert not old.checkpoint.exists()
    with pytest.raises(FileNotFoundError):
        pq.write_table(pa.table({"id": ["4"]}), old.checkpoint / "b.pending.parquet")


def test_rows_without_a_commit_do_not_count(tmp_path: Path) -> None:
    _, work = opened(tmp_path / "out")
    commit(work, "a", {"accepted": ["1"]})
    commit(work, "b", {"accepted": ["2"]})
    (work.checkpoint / "b.parquet").rename(work.checkpoint / "b.pending.parquet")
    assert [p.name for p in work.committed_files()] == ["a-0.parquet"]
    _, again = opened(tmp_path / "out")
    assert [p.name for p in again.data_files()] == ["a-0.parquet"]
    assert list(again.checkpoint.iterdir()) == [again.checkpoint / "a.parquet"]


@pytest.mark.parametrize("broken", ["mark", "data", "missing", "short"])
def test_a_damaged_commit_is_dropped_so_that_its_rows_are_made_again(
    tmp_path: Path, broken: str
) -> None:
    _, work = opened(tmp_path / "out")
    commit(work, "a", {"accepted": ["1"]})
    commit(work, "b", {"accepted": ["2", "3"]}, marked=1 if broken == "short" else None)
    data, mark = work.rows / "status=accepted/b-0.parquet", work.checkpoint / "b.parquet"
    if broken == "mark":
        mark.write_bytes(mark.read_bytes()[:-20])
    elif broken == "data":
        data.write_bytes(b"")
    elif broken == "missing":
        data.unlink()
    _, again = opened(tmp_path / "out")
    assert again.num_committed() == 1
    assert [p.name for p in again.data_files()] == ["a-0.parquet"]


def test_keys_that_differ_are_named_by_their_path() -> None:
    first, second = recipe(), recipe(stages={"paint": {"guidance_scale": 3}}, seed=8)
    assert differing_keys(first.content(), second.content()) == [
        "seed",
        "stages.paint.guidance_scale",
    ]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
