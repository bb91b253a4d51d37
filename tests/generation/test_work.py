import time
from pathlib import Path

import pyarrow as pa
import pytest
from toy_outputs import write_table

from reasonray.core.place import Place, files, place, remove
from reasonray.core.session import Session
from reasonray.generation.work import INDEX, Work
from reasonray.generation.workspace import Workspace


@pytest.fixture(params=["folder", "store"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    text = str(tmp_path / "out") if request.param == "folder" else request.getfixturevalue("bucket")
    return place(text)


def begun(output: Place, number: int) -> Work:
    """A session's work, before it has sealed that of those before it."""
    workspace = Workspace(output)
    return Work(workspace, Session(workspace.output, workspace.folder, number))


def commit(work: Work, name: str, rows: dict[str, list[str]], marked: int | None = None) -> None:
    """What Ray Data leaves of one block: data files by status, and the ids."""
    for status, ids in rows.items():
        reasons = pa.array(["unchanged" if status == "rejected" else None] * len(ids), pa.string())
        table = pa.table({"id": ids, "reason": reasons})
        write_table(table, work.rows / f"status={status}" / f"{name}-0.parquet")
    ids = [row_id for each in rows.values() for row_id in each]
    write_table(pa.table({"id": ids[:marked]}), work.checkpoint / f"{name}.parquet")


def ids(index: pa.Table) -> list[str]:
    return sorted(index["id"].to_pylist())


def test_a_session_has_what_those_before_it_have_committed(output: Place) -> None:
    first = begun(output, 1)
    assert first.before().schema == INDEX
    assert ids(first.before()) == []
    first.seal(first.before())
    commit(first, "a", {"accepted": ["1", "2"], "rejected": ["3"]})
    assert ids(first.index()) == ["1", "2", "3"]
    second = begun(output, 2)
    index = second.before()
    assert sorted(zip(*(index[name].to_pylist() for name in INDEX.names), strict=True)) == [
        ("1", 1, "000001/rows/status=accepted/a-0.parquet", 0, "accepted", None),
        ("2", 1, "000001/rows/status=accepted/a-0.parquet", 1, "accepted", None),
        ("3", 1, "000001/rows/status=rejected/a-0.parquet", 0, "rejected", "unchanged"),
    ]
    second.seal(index)
    commit(second, "b", {"accepted": ["4"]})
    assert ids(second.index()) == ["1", "2", "3", "4"]
    third = begun(output, 3)
    assert ids(third.before()) == ["1", "2", "3", "4"]
    assert sorted(third.read(third.before(), ["id"])["id"].to_pylist()) == ["1", "2", "3", "4"]


def test_what_a_session_that_was_taken_for_dead_commits_does_not_count(output: Place) -> None:
    first, second = begun(output, 1), begun(output, 2)
    commit(first, "a", {"accepted": ["1"]})
    second.seal(second.before())
    commit(first, "b", {"accepted": ["2", "3"]})
    assert ids(second.index()) == ["1"]
    third = begun(output, 3)
    assert ids(third.before()) == ["1"]


def test_a_session_that_ended_before_it_sealed_is_passed_over(output: Place) -> None:
    first, _, third = (begun(output, number) for number in (1, 2, 3))
    commit(first, "a", {"accepted": ["1"]})
    third.seal(third.before())
    assert ids(third.index()) == ["1"]


def test_a_row_that_two_sessions_did_counts_once(output: Place) -> None:
    # The second saw no commit of the first, the third does.
    first, second, third = (begun(output, number) for number in (1, 2, 3))
    commit(second, "b", {"accepted": ["1", "2"]})
    commit(first, "a", {"accepted": ["1"]})
    index = third.before()
    assert ids(index) == ["1", "2"]
    assert sorted(index["session"].to_pylist()) == [1, 2]


def test_what_is_not_to_count_is_not_sealed(output: Place) -> None:
    first, second = begun(output, 1), begun(output, 2)
    commit(first, "a", {"accepted": ["1", "2", "3"]})
    index = second.before()
    second.seal(index.take([0, 2]))
    assert ids(second.index()) == ["1", "3"]
    assert second.read(second.index(), ["id"])["id"].to_pylist() == ["1", "3"]


def test_rows_without_a_commit_do_not_count(output: Place) -> None:
    work = begun(output, 1)
    commit(work, "a", {"accepted": ["1"]})
    commit(work, "b", {"accepted": ["2"]})
    remove(work.checkpoint / "b.parquet")
    write_table(pa.table({"id": ["2"]}), work.checkpoint / "b.pending.parquet")
    assert ids(work.index()) == ["1"]


def test_a_commit_whose_pending_twin_a_store_still_has_counts(output: Place) -> None:
    # Ray, were it to resume there, would delete the data and keep the ids as done.
    work = begun(output, 1)
    commit(work, "a", {"accepted": ["1"], "rejected": ["2"]})
    write_table(pa.table({"id": ["1", "2"]}), work.checkpoint / "a.pending.parquet")
    assert ids(work.index()) == ["1", "2"]


@pytest.mark.parametrize("broken", ["mark", "data", "empty", "missing", "short"])
def test_a_damaged_commit_does_not_count_so_that_its_rows_are_made_again(
    output: Place, broken: str
) -> None:
    work = begun(output, 1)
    commit(work, "a", {"accepted": ["1"]})
    commit(work, "b", {"accepted": ["2", "3"]}, marked=1 if broken == "short" else None)
    data, mark = work.rows / "status=accepted/b-0.parquet", work.checkpoint / "b.parquet"
    if broken == "mark":
        mark.write_bytes(mark.read_bytes()[:-20])
    elif broken == "data":
        data.write_bytes(data.read_bytes()[:-20] + b"x" * 20)
    elif broken == "empty":
        data.write_bytes(b"")
    elif broken == "missing":
        remove(data)
    assert ids(work.index()) == ["1"]


def test_a_disk_that_fails_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = begun(tmp_path, 1)
    commit(work, "a", {"accepted": ["1"]})

    def fail(path: Place) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("reasonray.generation.work.parquet", fail)
    with pytest.raises(OSError, match="Input/output error"):
        work.index()


@pytest.mark.slow
def test_a_resume_reads_the_last_session_alone_and_quickly(tmp_path: Path) -> None:
    first, second = begun(tmp_path, 1), begun(tmp_path, 2)
    for number in range(300):
        each = [f"{number}/{row}" for row in range(128)]
        commit(first, f"b{number:04}", {"accepted": each[:120], "rejected": each[120:]})
    start = time.process_time()
    second.seal(second.before())
    # 1,000,000 rows in a share of 30 s of CPU, with a wide margin for a busy machine.
    assert time.process_time() - start < 5
    for path in files(first.folder):
        remove(path)
    third = begun(tmp_path, 3)
    assert third.before().num_rows == 300 * 128
