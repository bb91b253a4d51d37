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
