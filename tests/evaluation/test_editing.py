"""Rows that fail, hang and end their process, each in a process as Ray would start it."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import PIL.Image
import pyarrow.parquet as pq
import pytest
from toy_editors import SIDE, Few, Inverting, benchmark, pair

from reasonray.core.errors import RowError, RunError, UserError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.images import encode_png
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.editing import Editing
from reasonray.evaluation.editors import ByItem, Edits, Spec, load
from reasonray.evaluation.items import Benchmark, Item, Picture
from reasonray.evaluation.traces import Traces

NO_BENCHMARK = cast(Benchmark, None)
"""Only finished pictures are looked for by a benchmark's own names."""

PROGRAM = """
import sys
from pathlib import Path
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.editing import Editing
from toy_editors import Inverting
ours = Ours(sys.argv[1])
edit = Editing(Inverting(), "toy", session=int(sys.argv[3]), seed=0, timeout_s=2)
edit(ours, ours.items(), Path(sys.argv[2]))
"""


def told(number: int, text: str) -> dict[str, object]:
    return pair(number, instructions=[{"kind": "direct", "text": text}])


def rows(path: Path) -> list[dict[str, object]]:
    table: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return table


def edited(
    editor: Edits | ByItem, items: Sequence[Item], path: Path, session: int = 1
) -> list[dict[str, object]]:
    edit = Editing(editor, "toy", session=session, seed=0, timeout_s=20)
    edit(NO_BENCHMARK, items, path)
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


class Making:
    """Makes what a test hands in, the same for all; raises it where it is an exception."""

    def __init__(self, made: object) -> None:
        self._made = made

    def edit(self, images: Sequence[object], *_: object) -> list[object]:
        if isinstance(self._made, BaseException):
            raise self._made
        return [self._made] * len(images)


def item(folder: Path, name: str, *colours: str) -> Item:
    """Whose pictures before are of these colours."""
    pictures = []
    for number, colour in enumerate(colours):
        PIL.Image.new("RGB", (4, 4), colour).save(folder / f"{name}-{number}.png")
        pictures.append(Picture(str(folder / f"{name}-{number}.png")))
    return Item(name, "", "en", tuple(pictures), "go")


def made_of(folder: Path, made: object) -> dict[str, object]:
    [row] = edited(Making(made), [item(folder, "a", "red")], folder / "c.parquet")  # type: ignore[arg-type]
    return row


@pytest.mark.parametrize(
    ("made", "detail"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (PIL.Image.new("RGB", (0, 4)), "expected a picture, got one of 0 x 4 pixels"),
        ("a.png", "expected a picture of PIL, got str"),
        (PIL.Image.new("F", (4, 4), -0.5), "what is white cannot be told; expected RGB of 8 bits"),
    ],
)
def test_what_is_no_picture_is_a_failure_of_its_row(
    tmp_path: Path, made: object, detail: str
) -> None:
    row = made_of(tmp_path, made)
    assert (row["picture"], row["reason"]) == (None, "editor_failed")
    assert str(row["detail"]).endswith(detail)


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [
        ("RGBA", (200, 0, 0, 0), (255, 255, 255)),  # transparent: on white
        ("I;16", 2**16 - 1, (255, 255, 255)),
        ("F", 0.5, (127, 127, 127)),
        ("L", 9, (9, 9, 9)),
    ],
)
def test_a_picture_of_any_mode_is_kept_as_it_looks(
    tmp_path: Path, mode: str, colour: tuple[int, ...] | float, shown: tuple[int, int, int]
) -> None:
    row = made_of(tmp_path, PIL.Image.new(mode, (4, 4), colour))
    assert row["picture"] == encode_png(PIL.Image.new("RGB", (4, 4), shown))


@pytest.mark.parametrize(
    ("written", "revised"),
    [("a blue bee", "a blue bee"), (None, None), ("", None), (" go\n", None)],
)
def test_an_instruction_that_the_editor_wrote_for_itself_is_kept(
    tmp_path: Path, written: str | None, revised: str | None
) -> None:
    picture = PIL.Image.new("RGB", (4, 4))
    picture.info["revised_prompt"] = written
    assert made_of(tmp_path, picture)["revised"] == revised


def test_an_instruction_that_is_long_is_not_taken_for_one_that_was_rewritten(
    tmp_path: Path,
) -> None:
    long = Item("a", "", "en", item(tmp_path, "a", "red").pictures, "go " * 10_000)
    [row] = edited(Inverting(), [long], tmp_path / "c.parquet")
    assert (row["reason"], row["revised"]) == (None, None)


def test_texts_of_an_editor_may_be_endless_and_hold_half_a_character(tmp_path: Path) -> None:
    failure = RowError("no\ud800", "\ud800" + "a" * 1_000_000)
    row = made_of(tmp_path, failure)
    assert (row["picture"], row["reason"], row["detail"]) == (None, "no?", "?" + "a" * 9_999)
    picture = PIL.Image.new("RGB", (4, 4))
    picture.info["revised_prompt"] = "a \ud800 bee " + "a" * 1_000_000
    revised = str(made_of(tmp_path, picture)["revised"])
    assert (revised[:9], len(revised)) == ("a ? bee a", 10_000)


def test_an_item_without_a_picture_is_a_failure_of_its_row(tmp_path: Path) -> None:
    items = [item(tmp_path, "a", "red"), item(tmp_path, "b")]
    for editor in (Inverting(), load(Spec("i", "identity"), EvaluationConfig())):
        path = tmp_path / f"{type(editor).__name__}.parquet"
        first, second = edited(editor, items, path)
        assert first["picture"]
        assert second["reason"] == "missing_image"
        assert "names no picture" in str(second["detail"])


def test_an_editor_that_fails_on_all_rows_alike_stops_before_they_count(tmp_path: Path) -> None:
    items = [item(tmp_path, name, "red") for name in "abc"]
    broken, path = Making(RuntimeError("CUDA error")), tmp_path / "000000.parquet"
    for _ in range(2):  # processes of one session
        with pytest.raises(RunError, match=r"editor toy: .*3 rows .*alike.*CUDA.*--retry-failed"):
            edited(broken, items, path)  # type: ignore[arg-type]
        assert not path.exists()
    assert [row["reason"] for row in edited(Inverting(), items, path)] == [None] * 3
    # Beside what another process has edited they are the rows' own.
    beside = edited(broken, items, tmp_path / "000004.parquet")  # type: ignore[arg-type]
    assert [row["reason"] for row in beside] == ["editor_failed"] * 3


def test_what_fails_alike_in_the_next_session_too_counts(tmp_path: Path) -> None:
    items = [item(tmp_path, name, "red") for name in "abc"]
    broken, path = Making(RuntimeError("CUDA error")), tmp_path / "000000.parquet"
    with pytest.raises(RunError, match="3 rows failed alike"):
        edited(broken, items, path, session=1)  # type: ignore[arg-type]
    made = edited(broken, items, path, session=2)  # type: ignore[arg-type]
    assert [row["reason"] for row in made] == ["editor_failed"] * 3
    assert not path.with_name("000000.rows").exists()
    beside = edited(broken, items, tmp_path / "000004.parquet", session=3)  # type: ignore[arg-type]
    assert [row["reason"] for row in beside] == ["editor_failed"] * 3


class Counting:
    """Takes all pictures of an edit, and gives one as wide as they are many."""

    takes_several = True

    def edit(self, images: Sequence[Sequence[object]], *_: object) -> list[PIL.Image.Image]:
        return [PIL.Image.new("RGB", (len(pictures), 1)) for pictures in images]


def test_an_editor_gets_all_pictures_of_an_item_or_it_is_counted_that_it_did_not(
    tmp_path: Path,
) -> None:
    items = [item(tmp_path, "a", "red", "blue", "green"), item(tmp_path, "b", "red")]
    made = edited(Counting(), items, tmp_path / "all.parquet")
    assert [row["num_unseen"] for row in made] == [0, 0]
    pictures = [Picture(f"{tmp_path}/all.parquet#0/{n}/picture").open() for n in range(2)]
    assert [picture.width for picture in pictures] == [3, 1]
    made = edited(Inverting(), items, tmp_path / "first.parquet")
    assert [row["num_unseen"] for row in made] == [2, 0]


def test_an_item_may_be_called_as_a_trace_is(tmp_path: Path) -> None:
    hard = Item("whole", "", "en", item(tmp_path, "a", "red").pictures, "fail")
    for session in (1, 1, 1):
        [row] = edited(Inverting(), [hard], tmp_path / "c.parquet", session)
        assert row["reason"] == "editor_failed"


def test_a_row_that_is_damaged_is_named(tmp_path: Path) -> None:
    traces = Traces(tmp_path / "c.parquet", 1)
    traces.set_alone()
    traces.row("a").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"c\.rows/.*\.parquet: damaged .*delete it"):
        edited(Inverting(), [item(tmp_path, "a", "red")], tmp_path / "c.parquet")


def test_a_chunk_that_hangs_after_quick_ones_is_given_up_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GivenUpError(Exception):
        pass

    def end(_: int) -> None:
        raise GivenUpError

    monkeypatch.setattr(os, "_exit", end)
    edit = Editing(Inverting(), "toy", session=1, seed=0, timeout_s=1)
    quick = [item(tmp_path, f"q{number}", "red") for number in range(30)]
    edit(NO_BENCHMARK, quick, tmp_path / "0.parquet")
    slow = [Item(f"s{number}", "", "en", quick[0].pictures, "hang") for number in range(30)]
    start = time.monotonic()
    with pytest.raises(GivenUpError):
        edit(NO_BENCHMARK, slow, tmp_path / "1.parquet")
    assert time.monotonic() - start < 15  # and not 30


@pytest.mark.slow
@pytest.mark.parametrize(("text", "reason"), [("hang", "late"), ("crash", "crashed")])
def test_a_row_that_hangs_or_ends_its_process_is_found_out(
    tmp_path: Path, text: str, reason: str
) -> None:
    folder = benchmark(tmp_path / "b", [told(0, "go"), told(1, text)])
    assert in_processes(folder, tmp_path / "c.parquet", *[1] * 8) > 1
    made = rows(tmp_path / "c.parquet")
    assert [row["reason"] for row in made] == [None, reason]


def test_a_row_is_blamed_for_ends_of_one_session_alone(tmp_path: Path) -> None:
    path, own = tmp_path / "c.parquet", item(tmp_path, "a", "red")
    for session in (1, 1, 2):
        traces = Traces(path, session)
        traces.set_alone()
        traces.begin(own.id)
    [row] = edited(Inverting(), [own], path, session=2)
    assert row["reason"] is None
    for _ in range(2):
        Traces(path, 3).begin(own.id)
    Traces(path, 3).set_alone()
    [row] = edited(Inverting(), [own], path, session=3)
    assert row["reason"] == "crashed"


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
