from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonray.core.errors import UserError
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


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"holds thesis\.tex"):
        Workspace(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        Workspace(tmp_path / "thesis.tex")
    with pytest.raises(UserError, match="not a URI"):
        Workspace("s3://bucket/out")


def test_a_new_start_cuts_off_what_the_last_one_still_writes(tmp_path: Path) -> None:
    _, old = opened(tmp_path / "out")
    commit(old, "a", {"accepted": ["1", "2"], "rejected": ["3"]})
    _, new = opened(tmp_path / "out")
    assert new.num_committed() == 3
    assert sorted(new.committed_ids().to_pylist()) == ["1", "2", "3"]
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


def with_reasons(work: Work, prefix: str, reasons: dict[str, str]) -> None:
    """A block of one accepted row, the prefix, and of rejected ones with their reasons."""
    commit(work, prefix, {"accepted": [prefix], "rejected": list(reasons)})
    table = pa.table({"id": list(reasons), "reason": list(reasons.values())})
    pq.write_table(table, work.rows / "status=rejected" / f"{prefix}-0.parquet")


def test_rows_that_failed_are_not_finished_any_more_and_all_others_are(tmp_path: Path) -> None:
    _, work = opened(tmp_path / "out")
    with_reasons(work, "a", {"1": "lm_failed", "2": "unchanged", "3": "error"})
    with_reasons(work, "b", {"4": "unchanged"})
    with_reasons(work, "c", {"5": "error"})
    assert work.reopen(["lm_failed", "error"]) == 3
    assert work.reopen(["lm_failed", "error"]) == 0
    work.repair()
    assert work.num_committed() == 5
    assert work.num_accepted() == 3
    assert sorted(work.rejected(["id"])["id"].to_pylist()) == ["2", "4"]
    marks = [pq.read_table(path)["id"].to_pylist() for path in work.committed().values()]
    assert sorted(row_id for mark in marks for row_id in mark) == ["2", "4", "a", "b", "c"]


def test_one_that_is_killed_while_it_reopens_loses_the_block_and_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, work = opened(tmp_path / "out")
    with_reasons(work, "a", {"1": "lm_failed"})
    writes = []
    write = pq.write_table

    def killed(*arguments: object) -> None:
        writes.append(arguments)
        if len(writes) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(pq, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        work.reopen(["lm_failed"])
    _, again = opened(tmp_path / "out")
    assert again.num_committed() == 0
    assert again.data_files() == {}
