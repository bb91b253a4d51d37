import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from reasonray.core.console import counted
from reasonray.generation.counts import Counts, StageCounts, read_counts, read_timings
from reasonray.generation.progress import Progress


def count(folder: Path, process: str, **amounts: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    counts = Counts(folder / f"{process}.json", ["load", "paint"])
    counts.add("load", StageCounts(passed=10, worked=10, seconds=1.0))
    counts.add("paint", StageCounts(**amounts))
    counts.save()


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


def test_a_terminal_sees_a_table_of_all_stages(tmp_path: Path) -> None:
    count(tmp_path, "a", passed=4, rejected=1)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with Progress(tmp_path, ["load", "paint"], 30, 10, console):
        pass
    text = screen.getvalue()
    assert "load" in text
    assert "20/30" in text
    assert "14/30" in text


def test_elsewhere_there_is_a_plain_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count(tmp_path, "a", passed=4, rejected=1)
    with Progress(tmp_path, ["load", "paint"], 30, 10, Console(file=io.StringIO())):
        pass
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("14/30 rows, 1 rejected, 4.0 rows/s, 4 s left (load 20 paint 14)")
    assert float(json.loads((tmp_path / "wall.json").read_text())) >= 0


def test_rows_done_again_do_not_make_more_than_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count(tmp_path, "a", passed=40)
    with Progress(tmp_path, ["load", "paint"], 30, 10, Console(file=io.StringIO())):
        pass
    assert "30/30 rows, 0 rejected, 40.0 rows/s, 0 s left" in capsys.readouterr().err


def test_items_are_handed_on_and_counted_on_a_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    assert list(counted("abc", 3, "letters", console)) == ["a", "b", "c"]
    assert "letters" in screen.getvalue()
    assert "100%" in screen.getvalue()


def test_elsewhere_the_last_item_counted_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted("abc", 3, "letters", Console(file=io.StringIO()))) == ["a", "b", "c"]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("3/3 letters, ")
    assert line.endswith(" letters/s, 0 s left")
