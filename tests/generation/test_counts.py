from pathlib import Path

from toy_outputs import count

from reasonray.generation.counts import read_counts, read_timings, run_warnings


def test_counts_of_all_processes_are_added(tmp_path: Path) -> None:
    count(tmp_path, "a", passed=4, worked=3, rejected=1, seconds=6.0)
    count(tmp_path, "b", passed=5, worked=5, rejected=0, seconds=2.0)
    counts = read_counts(tmp_path)
    assert (counts["load"].passed, counts["paint"].passed) == (20, 9)
    assert (counts["paint"].worked, counts["paint"].rejected) == (8, 1)
    assert counts["paint"].seconds == 8.0


def test_runs_that_worked_on_one_output_are_added(tmp_path: Path) -> None:
    for session in ("first", "second"):
        count(tmp_path / session, "a", passed=4, worked=3)
        (tmp_path / session / "wall.json").write_text("2.5")
    timings, seconds = read_timings(tmp_path)
    assert timings["paint"].rows == 6
    assert seconds == 5.0


def test_a_file_that_is_being_replaced_is_passed_over(tmp_path: Path) -> None:
    count(tmp_path, "a", passed=4)
    (tmp_path / "b.json").write_text('{"load": ')
    assert read_counts(tmp_path)["paint"].passed == 4


def test_a_stage_whose_batches_did_not_fit_is_told_with_the_least_that_did(tmp_path: Path) -> None:
    count(tmp_path / "first", "a", passed=16, worked=16, max_rows=8)
    count(tmp_path / "first", "b", passed=16, worked=16)
    count(tmp_path / "second", "a", passed=16, worked=16, max_rows=4)
    [warning] = run_warnings(tmp_path)
    assert warning.startswith("stage paint: there was not enough memory for a whole batch, 4 rows")
    assert not run_warnings(tmp_path / "third")


def test_a_notice_of_many_processes_and_runs_is_one_warning(tmp_path: Path) -> None:
    count(tmp_path / "first", "a", passed=16, notices=["no seed", "no schema"])
    count(tmp_path / "second", "a", passed=16, notices=["no seed"])
    assert run_warnings(tmp_path) == ["no seed", "no schema"]
