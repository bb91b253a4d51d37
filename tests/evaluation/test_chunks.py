"""The files of an evaluation's chunks: what binds them together, and what is done again."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from finished_evaluation import CHUNK, figures, measured
from toy_editors import Inverting, benchmark, pair

from reasonray.core.errors import RowError, UserError
from reasonray.core.images import encode_png
from reasonray.core.recipe import load
from reasonray.evaluation import yardsticks
from reasonray.evaluation.chunks import (
    Chunk,
    check_settings,
    chunk_files,
    chunks_of,
    figures_before,
    forget_failures,
    forget_figures_before,
    read_chunk,
    unfinished,
)
from reasonray.evaluation.editing import Editing
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.subjects import Subject, opened
from reasonray.evaluation.traces import Traces

EDITOR = Spec("mine", "/m")


def subject(folder: Path, num_pairs: int = 4, **changes: object) -> Subject:
    return opened(str(benchmark(folder / "b", [pair(n, **changes) for n in range(num_pairs)])))


def check(folder: Path, own: Subject, spec: Spec = EDITOR, *overrides: str) -> None:
    check_settings(folder / "out", own, spec, load("mini", overrides))


def finished(folder: Path, own: Subject, failed: Sequence[int] = ()) -> list[Chunk]:
    """All of its chunks, whose pictures are the inputs."""
    check(folder, own)
    edits = [
        RowError("late", "no picture within 3 s") if number in failed else item.before()
        for number, item in enumerate(own.items)
    ]
    measured(folder / "out", own, "mine", edits, [figures(n) for n in range(len(edits))])
    return chunks_of(folder / "out", own, EDITOR, CHUNK)


def test_what_was_edited_by_something_else_is_refused_and_both_folders_are_named(
    tmp_path: Path,
) -> None:
    own = subject(tmp_path)
    finished(tmp_path, own)
    edits, scores = (tmp_path / "out" / kind / "ours/mine" for kind in ("edits", "scores"))
    with pytest.raises(UserError, match=f"with another editor; .*{edits} and {scores}$"):
        check(tmp_path, own, Spec("mine", "/other"))
    # Who deletes the edits alone has figures of what is not there any more.
    shutil.rmtree(edits)
    with pytest.raises(UserError, match=f"with another edits; .* or delete {scores}$"):
        check(tmp_path, own, Spec("mine", "/other"))
    shutil.rmtree(scores)
    check(tmp_path, own, Spec("mine", "/other"))


def test_other_measures_leave_the_edits(tmp_path: Path) -> None:
    own = subject(tmp_path)
    finished(tmp_path, own)
    with pytest.raises(UserError, match=r"another clip\.name; .* delete [^ ]*/scores/ours/mine$"):
        check(tmp_path, own, EDITOR, "evaluation.clip.name=other")


def test_a_benchmark_that_was_made_anew_at_its_place_is_noticed(tmp_path: Path) -> None:
    finished(tmp_path, subject(tmp_path))
    check(tmp_path, subject(tmp_path))
    with pytest.raises(UserError, match="with another items"):
        check(tmp_path, subject(tmp_path, truth_caption="a wolf"))


def test_what_has_never_edited_anything_binds_nobody(tmp_path: Path) -> None:
    own = subject(tmp_path)
    check(tmp_path, own, Spec("mine", "/mistyped"))
    check(tmp_path, own)
    finished(tmp_path, own)
    with pytest.raises(UserError, match="another editor"):
        check(tmp_path, own, Spec("mine", "/mistyped"))


def test_chunks_whose_settings_are_lost_are_nobody_s(tmp_path: Path) -> None:
    own = subject(tmp_path)
    finished(tmp_path, own)
    (tmp_path / "out/edits/ours/mine/settings.json").unlink()
    with pytest.raises(UserError, match=r"nobody knows what \(no .*settings\.json\)"):
        check(tmp_path, own)


def test_a_chunk_is_done_if_its_edits_and_its_figures_are_there(tmp_path: Path) -> None:
    first, second = finished(tmp_path, subject(tmp_path))
    assert unfinished(tmp_path / "out", [first, second]) == []
    Path(first.edits).unlink()
    Path(second.scores).unlink()
    assert unfinished(tmp_path / "out", [first, second]) == [first, second]


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing"])
def test_a_damaged_chunk_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    own = subject(tmp_path)
    first, second = finished(tmp_path, own)
    Path(first.edits).write_bytes(content)
    with pytest.raises(UserError, match=r"edits/ours/mine/000000\.parquet: damaged .*delete it"):
        read_chunk(Path(first.edits), own.items[:CHUNK])
    shutil.copy(second.scores, first.scores)
    with pytest.raises(UserError, match=r"000000\.parquet: holds other rows .*delete it"):
        read_chunk(Path(first.scores), own.items[:CHUNK])


@pytest.mark.parametrize("column", ["id", "reason", "detail", "num_unseen"])
def test_a_table_of_another_kind_is_no_chunk(tmp_path: Path, column: str) -> None:
    own = subject(tmp_path)
    first, _ = finished(tmp_path, own)
    for path in (Path(first.edits), Path(first.scores)):
        pq.write_table(pq.read_table(path).drop_columns([column]), path)
        with pytest.raises(UserError, match=rf"{path}: holds other rows .*delete it"):
            read_chunk(path, own.items[:CHUNK])


def test_chunks_are_in_the_order_of_their_items_and_other_files_are_nobody_s(
    tmp_path: Path,
) -> None:
    chunks = ["000000.parquet", "000004.parquet", "999996.parquet", "1000000.parquet"]
    others = ["notes.parquet", "000000-copy.parquet", ".000004.parquet.4711", "4.parquet"]
    for name in [*others, *chunks, "000004.rows.parquet", "settings.json"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "000000.rows").mkdir()
    assert [path.name for path in chunk_files(tmp_path)] == chunks
    assert chunk_files(tmp_path / "nowhere") == []


def test_a_page_in_the_middle_of_a_chunk_may_be_damaged(tmp_path: Path) -> None:
    own = subject(tmp_path)
    first, _ = finished(tmp_path, own)
    path = Path(first.edits)
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_chunk(path, own.items[:CHUNK])


def test_rows_that_failed_are_done_again_and_no_other(tmp_path: Path) -> None:
    own = subject(tmp_path)
    first, second = finished(tmp_path, own, failed=[1, 2])
    assert forget_failures(first, own.items[:CHUNK]) == 2
    assert forget_failures(second, own.items[CHUNK:]) == 0
    assert unfinished(tmp_path / "out", [first, second]) == [first]
    edit = Editing(Inverting(), "mine", session=7, seed=0, timeout_s=20)
    items, path = own.items[:CHUNK], Path(first.edits)
    assert edit(own.benchmark, items, path) == 0
    # The toy inverts, the others' pictures are still the inputs.
    same = [
        row["picture"] == encode_png(item.before())
        for row, item in zip(read_chunk(path, items).to_pylist(), items, strict=True)
    ]
    assert same == [True, False, False, True]
    assert not path.with_name("000000.rows").exists()


@pytest.mark.parametrize("failed", [[1, 2], range(CHUNK)])
def test_what_a_killed_process_left_of_a_row_is_not_taken_for_its_second_try(
    tmp_path: Path, failed: Sequence[int]
) -> None:
    own = subject(tmp_path)
    first, _ = finished(tmp_path, own, failed=failed)
    items, path = own.items[:CHUNK], Path(first.edits)
    left = Traces(path, session=3)
    left.set_alone()
    for number in failed:
        row = pq.read_table(path).slice(number, 1)
        pq.write_table(row, left.row(items[number].id))
    assert forget_failures(first, items) == len(failed)
    assert Traces(path, session=7).are_alone() == (len(failed) < CHUNK)
    edit = Editing(Inverting(), "mine", session=7, seed=0, timeout_s=20)
    assert edit(own.benchmark, items, path) == 0


def test_a_picture_without_a_figure_is_measured_again(tmp_path: Path) -> None:
    own = subject(tmp_path)
    first, _ = finished(tmp_path, own)
    items = own.items[:CHUNK]
    unjudged = yardsticks.Measured({}, failure=RowError("lm_failed", "no reply"))
    table = yardsticks.measure(
        lambda pairs: [unjudged] * len(pairs), items, read_chunk(Path(first.edits), items)
    )
    pq.write_table(table, first.scores)
    assert forget_failures(first, items) == CHUNK
    assert Path(first.edits).exists()
    assert not Path(first.scores).exists()


def test_figures_of_pictures_that_stay_are_not_measured_again(tmp_path: Path) -> None:
    own = subject(tmp_path)
    first, _ = finished(tmp_path, own, failed=[1, 2])
    items, path, scores = own.items[:CHUNK], Path(first.edits), Path(first.scores)
    before = read_chunk(scores, items).to_pylist()
    forget_failures(first, items)
    Editing(Inverting(), "mine", session=7, seed=0, timeout_s=20)(own.benchmark, items, path)
    asked: list[str] = []

    def yardstick(pairs: yardsticks.Pairs) -> list[yardsticks.Measured]:
        asked.extend(item.id for item, _ in pairs)
        return [yardsticks.Measured({"L1": 0.5}) for _ in pairs]

    edits = read_chunk(path, items)
    table = yardsticks.measure(yardstick, items, edits, figures_before(scores, edits))
    assert asked == [items[1].id, items[2].id]
    rows = table.to_pylist()
    assert [rows[0], rows[3]] == [before[0], before[3]]
    assert rows[1]["axes"] == [("L1", 0.5)]
    # Of another picture they are not.
    other = edits.set_column(
        edits.schema.get_field_index("picture"), "picture", edits["picture"][::-1]
    )
    assert figures_before(scores, other).keys() == set()
    forget_figures_before(scores)
    assert figures_before(scores, edits) == {}
    assert not list(scores.parent.glob("*.before"))
