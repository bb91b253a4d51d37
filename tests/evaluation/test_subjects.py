"""Benchmarks by their names on the command line, and what tells that one is still the same."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from public_benchmarks import MAKERS, write
from toy_editors import benchmark, pair, png

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.subjects import opened

PUBLIC = sorted(MAKERS)


def two_pairs(folder: Path) -> Path:
    return benchmark(folder, [pair(0), pair(1)])


@pytest.mark.parametrize("name", PUBLIC)
def test_a_benchmark_that_was_moved_is_the_same(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path / "here")
    before = opened(f"{name}={tmp_path / 'here'}").content
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert opened(f"{name}={tmp_path / 'there'}").content == before


@pytest.mark.parametrize(
    "changes",
    [
        {"input_image": png((7, 7, 7))},
        {"truth": png((7, 7, 7))},
        {"truth_caption": "a wolf"},
        {"input_caption": "a lion"},
        {"reasoning_type": "causal"},
        {"box": [0.0, 0.0, 1.0, 1.0]},
    ],
)
def test_a_benchmark_that_was_made_anew_is_another(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    before = opened(str(two_pairs(tmp_path / "b"))).content
    assert opened(str(two_pairs(tmp_path / "b"))).content == before
    benchmark(tmp_path / "b", [pair(0), pair(1, **changes)])
    assert opened(str(tmp_path / "b")).content != before


def test_a_picture_that_was_replaced_or_lost_makes_another_benchmark(tmp_path: Path) -> None:
    MAKERS["risebench"](tmp_path)
    contents = [opened(f"risebench={tmp_path}").content]
    picture = tmp_path / "data/spatial_reasoning_images/1_ans.png"  # a reference
    write(picture, "white")
    contents.append(opened(f"risebench={tmp_path}").content)
    picture.unlink()
    contents.append(opened(f"risebench={tmp_path}").content)
    assert len(set(contents)) == 3
    (tmp_path / "notes.txt").write_text("mine")
    assert opened(f"risebench={tmp_path}").content == contents[-1]


def test_several_of_our_own_have_names(tmp_path: Path) -> None:
    folder = two_pairs(tmp_path / "lr=0.1" / "b")
    drawn = opened(f"drawn={folder}")
    assert (drawn.name, drawn.path, type(drawn.benchmark)) == ("drawn", str(folder), Ours)
    assert opened(str(folder)).name == "ours"
    with pytest.raises(UserError, match=r"did you mean risebench\?"):
        opened(f"risebrench={tmp_path}")


def test_a_relative_path_is_made_absolute_and_may_hold_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = two_pairs(tmp_path / "lr=1")
    monkeypatch.chdir(tmp_path)
    for text in ("lr=1", "ours=lr=1", "./lr=1"):
        assert Path(opened(text).path).samefile(folder)
        assert Path(opened(text).path).is_absolute()


def test_a_file_of_pairs_that_is_lost_or_damaged_is_said(tmp_path: Path) -> None:
    folder = two_pairs(tmp_path / "b")
    [file] = (folder / "pairs").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"00000\.parquet: damaged .*make the benchmark anew"):
        opened(str(folder))
    file.unlink()
    with pytest.raises(UserError, match=r"holds 0 pairs, benchmark\.json says 2"):
        opened(str(folder))


def test_pairs_of_one_id_are_named(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "b", [pair(0), pair(0)])
    with pytest.raises(UserError, match=r"III/toy/0000/0#direct.*give each item an id of its own"):
        opened(str(folder))


def test_a_damaged_column_is_said_when_its_picture_is_read(tmp_path: Path) -> None:
    """The list is whole, the bytes of a picture are not: that is its row's."""
    folder = two_pairs(tmp_path / "b")
    [file] = (folder / "pairs").iterdir()
    table = pq.read_table(file)
    cut = [{"bytes": b"\x89PNG", "path": None}] * table.num_rows
    number = table.column_names.index("input_image")
    kind = table.schema.field("input_image").type
    pq.write_table(table.set_column(number, "input_image", pa.array(cut, kind)), file)
    assert len(opened(str(folder)).items) == 4
    assert opened(str(folder)).content
