import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from toy_outputs import count

from reasonray.generation.counts import Counts, StageCounts, read_counts
from reasonray.generation.progress import Progress


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


def line(folder: Path, capsys: pytest.CaptureFixture[str], *stages: str) -> str:
    with Progress(folder, list(stages), 30, 0, Console(file=io.StringIO())):
        pass
    [text] = capsys.readouterr().err.splitlines()
    return str(text)


def test_answers_that_are_waited_for_are_counted_before_their_batch_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = Counts(tmp_path / "a.json", ["load", "rewrite", "paint"])
    counts.add("load", StageCounts(begun=12, worked=12, passed=12))
    counts.add("rewrite", StageCounts(begun=12))
    counts.add("rewrite", StageCounts(finished=8))
    counts.add("paint", StageCounts(begun=16))
    counts.save()
    text = line(tmp_path, capsys, "load", "rewrite", "paint")
    assert text.startswith("0/30 rows, 0 rejected, 0.0 rows/s, ? left")
    assert text.endswith("; rewrite: 8 of 12 answered, paint: 16 rows")
    with_terminal = io.StringIO()
    with Progress(
        tmp_path,
        ["load", "rewrite", "paint"],
        30,
        0,
        Console(file=with_terminal, force_terminal=True, width=100),
    ):
        pass
    assert "8 of 12 answered" in with_terminal.getvalue()


def test_models_are_loading_only_until_something_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = Counts(tmp_path / "a.json", ["load"])
    counts.save()
    assert "loading the models" in line(tmp_path, capsys, "load")
    counts.add("load", StageCounts(begun=2))
    counts.save()
    assert "loading the models" not in line(tmp_path, capsys, "load")


def test_what_a_lost_process_had_in_work_is_not_waited_for(tmp_path: Path) -> None:
    counts = Counts(tmp_path / "a.json", ["rewrite"])
    counts.add("rewrite", StageCounts(begun=12, worked=4, finished=8))
    counts.save()
    Counts(tmp_path / "a.json", ["rewrite"]).save()
    after = read_counts(tmp_path)["rewrite"]
    assert (after.begun, after.finished) == (4, 4)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_a_stage_has_to_say_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    # An actor's own output is read by nobody.
    for process in "ab":
        count(tmp_path, process, passed=4, notices=["requests are taken without seed"])
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, width=80)
    with Progress(tmp_path, ["load", "paint"], 30, 0, console):
        pass
    text = screen.getvalue() + capsys.readouterr().err
    assert text.count("warning: requests are taken without seed") == 1
