from pathlib import Path

from toy_notes import DictNotes
from toy_outputs import count

from reasonray.core.session import Session
from reasonray.generation.counts import keep_counts, read_counts, read_timings, run_warnings


def keep(folder: Path, number: int, notes: DictNotes) -> None:
    """What the driver keeps of a session's counts."""
    session = Session(folder, folder, number)
    session.counts_file.parent.mkdir(exist_ok=True)
    keep_counts(session.counts_file, read_counts(notes), 2.5)


def test_counts_of_all_processes_are_added() -> None:
    notes = DictNotes()
    count(notes, "a", passed=4, worked=3, rejected=1, seconds=6.0)
    count(notes, "b", passed=5, worked=5, rejected=0, seconds=2.0)
    counts = read_counts(notes)
    assert (counts["load"].passed, counts["paint"].passed) == (20, 9)
    assert (counts["paint"].worked, counts["paint"].rejected) == (8, 1)
    assert counts["paint"].seconds == 8.0


def test_sessions_that_worked_on_one_output_are_added(tmp_path: Path) -> None:
    for number in (1, 2):
        notes = DictNotes()
        count(notes, "a", passed=4, worked=3)
        keep(tmp_path, number, notes)
    timings, seconds = read_timings(tmp_path / "sessions")
    assert timings["paint"].rows == 6
    assert seconds == 5.0


def test_a_file_that_is_being_replaced_is_passed_over(tmp_path: Path) -> None:
    notes = DictNotes()
    count(notes, "a", passed=4, worked=4)
    keep(tmp_path, 1, notes)
    (tmp_path / "sessions/000002.counts.json").write_text('{"seconds": 1.0, "stages": {"load": ')
    assert read_timings(tmp_path / "sessions")[0]["paint"].rows == 4


def test_a_stage_whose_batches_did_not_fit_is_told_with_the_least_that_did(tmp_path: Path) -> None:
    early, late = DictNotes(), DictNotes()
    count(early, "a", passed=16, worked=16, max_rows=8)
    count(early, "b", passed=16, worked=16)
    count(late, "a", passed=16, worked=16, max_rows=4)
    keep(tmp_path, 1, early)
    keep(tmp_path, 2, late)
    [warning] = run_warnings(tmp_path / "sessions")
    assert warning.startswith("stage paint: there was not enough memory for a whole batch, 4 rows")
    assert not run_warnings(tmp_path / "elsewhere")


def test_a_notice_of_many_processes_and_sessions_is_one_warning(tmp_path: Path) -> None:
    early, late = DictNotes(), DictNotes()
    count(early, "a", passed=16, notices=["no seed", "no schema"])
    count(late, "a", passed=16, notices=["no seed"])
    keep(tmp_path, 1, early)
    keep(tmp_path, 2, late)
    assert run_warnings(tmp_path / "sessions") == ["no seed", "no schema"]
