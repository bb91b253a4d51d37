"""Rows that fail, hang and end their process, each in a process as Ray would start it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import pyarrow.parquet as pq
import pytest
from toy_editors import SIDE, Few, Inverting, benchmark, pair

from reasonray.core.errors import RunError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.images import encode_png
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.editing import edit_chunk
from reasonray.evaluation.editors import ByItem, Edits, Spec, load
from reasonray.evaluation.items import Item

PROGRAM = """
import sys
from pathlib import Path
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.editing import edit_chunk
from toy_editors import Inverting
items = Ours(sys.argv[1]).items()
session = int(sys.argv[3])
edit_chunk(Inverting(), items, Path(sys.argv[2]), session=session, seed=0, timeout_s=2)
"""


def told(number: int, text: str) -> dict[str, object]:
    return pair(number, instructions=[{"kind": "direct", "text": text}])


def rows(path: Path) -> list[dict[str, object]]:
    table: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return table


def edited(
    editor: Edits | ByItem, items: Sequence[Item], path: Path, session: int = 1
) -> list[dict[str, object]]:
    edit_chunk(editor, items, path, session=session, seed=0, timeout_s=20)
    return rows(path)


def in_processes(folder: Path, path: Path, *sessions: int) -> int:
    """As often as Ray would start it again; gives how often that was."""
    for count, session in enumerate(sessions, 1):
        line = [sys.executable, "-c", PROGRAM, str(folder), str(path), str(session)]
        if subprocess.run(line, env=environment(), check=False).returncode == 0:
            return count
    return 0


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_pictures_are_kept_by_item_with_the_seconds_they_took(tmp_path: Path) -> None:
    items = Ours(str(benchmark(tmp_path / "b", [pair(0), pair(1)]))).items()
    made = edited(Inverting(), items, tmp_path / "c" / "0.parquet")
    assert [row["id"] for row in made] == [item.id for item in items]
    assert all(row["picture"] and row["reason"] is None for row in made)
    assert not (tmp_path / "c" / "0.rows").exists()


def test_a_row_that_fails_fails_alone(tmp_path: Path) -> None:
    pairs = [told(0, "go"), told(1, "fail"), told(2, "go")]
    items = Ours(str(benchmark(tmp_path / "b", pairs))).items()
    first, second, third = edited(Inverting(), items, tmp_path / "c.parquet")
    assert first["picture"]
    assert third["picture"]
    assert second["reason"] == "editor_failed"
    assert second["detail"] == "ValueError: it is too hard"


def test_an_editor_that_forgets_pictures_fails_on_all_rows(tmp_path: Path) -> None:
    items = Ours(str(benchmark(tmp_path / "b", [pair(0)]))).items()
    made = edited(Few(), items, tmp_path / "c.parquet")
    assert [row["detail"] for row in made] == ["ValueError: 0 pictures for 1 instructions"] * 2


def test_an_input_that_is_no_picture_is_a_failure_of_its_row(tmp_path: Path) -> None:
    broken = pair(1, input_image={"bytes": b"no picture", "path": None})
    items = Ours(str(benchmark(tmp_path / "b", [pair(0), broken]))).items()
    made = edited(Inverting(), items, tmp_path / "c.parquet")
    assert [row["reason"] for row in made] == [None, None, *["unreadable_image"] * 2]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "reason"), [("hang", "late"), ("crash", "crashed")])
def test_a_row_that_hangs_or_ends_its_process_is_found_out(
    tmp_path: Path, text: str, reason: str
) -> None:
    folder = benchmark(tmp_path / "b", [told(0, "go"), told(1, text)])
    assert in_processes(folder, tmp_path / "c.parquet", *[1] * 8) > 1
    made = rows(tmp_path / "c.parquet")
    assert [row["reason"] for row in made] == [None, reason]


@pytest.mark.slow
def test_processes_that_end_with_their_session_blame_no_row(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "b", [told(0, "crash")])
    # Somebody killed all of these: each session has begun the chunk once.
    assert in_processes(folder, tmp_path / "c.parquet", 1, 2, 3) == 0
    assert not (tmp_path / "c.parquet").exists()


def test_a_server_s_fault_is_no_row_s(tmp_path: Path) -> None:
    class Away:
        def edit(self, *_: object) -> list[object]:
            raise RunError("the server is away")

    items = Ours(str(benchmark(tmp_path / "b", [pair(0)]))).items()
    with pytest.raises(RunError, match="away"):
        edited(Away(), items, tmp_path / "c.parquet")  # type: ignore[arg-type]
    assert not (tmp_path / "c.parquet").exists()


def test_identity_and_truth_bound_the_scale(tmp_path: Path) -> None:
    items = Ours(str(benchmark(tmp_path / "b", [pair(3)]))).items()
    config = EvaluationConfig()
    unedited = edited(load(Spec("i", "identity"), config), items, tmp_path / "i.parquet")
    truth = edited(load(Spec("t", "truth"), config), items, tmp_path / "t.parquet")
    for rows, colour in ((unedited, (21, 93, 40)), (truth, (234, 162, 215))):
        picture = rows[0]["picture"]
        assert picture == encode_png(PIL.Image.new("RGB", (SIDE, SIDE), colour))
