import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from toy_outputs import count

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
