import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from toy_notes import DictNotes
from toy_outputs import count

from reasonray.core.session import Session
from reasonray.generation.counts import Counts, StageCounts, read_counts
from reasonray.generation.progress import Progress


@pytest.fixture
def notes() -> DictNotes:
    return DictNotes()


def test_a_terminal_sees_a_table_of_all_stages(notes: DictNotes) -> None:
    count(notes, "a", passed=4, rejected=1)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with Progress(notes, ["load", "paint"], 30, 10, console=console):
        pass
    text = screen.getvalue()
    assert "load" in text
    assert "20/30" in text
    assert "14/30" in text


def test_elsewhere_there_is_a_plain_line(
    notes: DictNotes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count(notes, "a", passed=4, rejected=1)
    session = Session(tmp_path, tmp_path, 1)
    (tmp_path / "sessions").mkdir()
    console = Console(file=io.StringIO())
    with Progress(notes, ["load", "paint"], 30, 10, session, console):
        pass
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("14/30 rows, 1 rejected, 4.0 rows/s, 4 s left (load 20 paint 14)")
    kept = json.loads(session.counts_file.read_text())
    assert 0 <= kept["seconds"] < 60
    assert kept["stages"]["paint"]["rejected"] == 1


def test_rows_done_again_do_not_make_more_than_all(
    notes: DictNotes, capsys: pytest.CaptureFixture[str]
) -> None:
    count(notes, "a", passed=40)
    with Progress(notes, ["load", "paint"], 30, 10, console=Console(file=io.StringIO())):
        pass
    assert "30/30 rows, 0 rejected, 40.0 rows/s, 0 s left" in capsys.readouterr().err


def line(notes: DictNotes, capsys: pytest.CaptureFixture[str], *stages: str) -> str:
    with Progress(notes, list(stages), 30, 0, console=Console(file=io.StringIO())):
        pass
    [text] = capsys.readouterr().err.splitlines()
    return str(text)


def test_answers_that_are_waited_for_are_counted_before_their_batch_is_done(
    notes: DictNotes, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = Counts(notes, "a", ["load", "rewrite", "paint"])
    counts.add("load", StageCounts(begun=12, worked=12, passed=12))
    counts.add("rewrite", StageCounts(begun=12))
    counts.add("rewrite", StageCounts(finished=8))
    counts.add("paint", StageCounts(begun=16))
    counts.save()
    text = line(notes, capsys, "load", "rewrite", "paint")
    assert text.startswith("0/30 rows, 0 rejected, 0.0 rows/s, ? left")
    assert text.endswith("; rewrite: 8 of 12 answered, paint: 16 rows")
    with_terminal = io.StringIO()
    with Progress(
        notes,
        ["load", "rewrite", "paint"],
        30,
        0,
        console=Console(file=with_terminal, force_terminal=True, width=100),
    ):
        pass
    assert "8 of 12 answered" in with_terminal.getvalue()


def test_models_are_loading_only_until_something_is_begun(
    notes: DictNotes, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = Counts(notes, "a", ["load"])
    counts.save()
    assert "loading the models" in line(notes, capsys, "load")
    counts.add("load", StageCounts(begun=2))
    counts.save()
    assert "loading the models" not in line(notes, capsys, "load")


def test_what_a_lost_process_had_in_work_is_not_waited_for(notes: DictNotes) -> None:
    counts = Counts(notes, "a", ["rewrite"])
    counts.add("rewrite", StageCounts(begun=12, worked=4, finished=8))
    counts.save()
    Counts(notes, "a", ["rewrite"]).save()
    after = read_counts(notes)["rewrite"]
    assert (after.begun, after.finished) == (4, 4)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_a_stage_has_to_say_is_told_once(
    notes: DictNotes, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    # An actor's own output is read by nobody.
    for process in "ab":
        count(notes, process, passed=4, notices=["requests are taken without seed"])
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, width=80)
    with Progress(notes, ["load", "paint"], 30, 0, console=console):
        pass
    text = screen.getvalue() + capsys.readouterr().err
    assert text.count("warning: requests are taken without seed") == 1
