import base64
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonray.core.errors import UserError
from reasonray.core.reading import read_bytes
from reasonray.core.sections import SourceConfig
from reasonray.sources.instructpix2pix_parquet import read
from reasonray.sources.item import Item


def write(path: Path, count: int, *, first: int = 0, row_group_size: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + count)
    table = pa.table(
        {
            "original_prompt": [f"before {n}" for n in numbers],
            "original_image": [{"bytes": b"in%d" % n, "path": None} for n in numbers],
            "edit_prompt": [f"edit {n}" for n in numbers],
            "edited_prompt": [f"after {n}" for n in numbers],
            "edited_image": [{"bytes": b"out%d" % n, "path": "x.jpg"} for n in numbers],
        }
    )
    pq.write_table(table, path, row_group_size=row_group_size)


def items(path: Path) -> list[Item]:
    return list(read(SourceConfig(format="instructpix2pix-parquet", path=str(path)), []))


def test_every_cell_is_found_again_across_files_and_row_groups(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00002.parquet", 7)
    write(tmp_path / "data/train-00001-of-00002.parquet", 4, first=7)
    found = items(tmp_path)
    assert len({item.source_id for item in found}) == 11
    assert found[8].source_id == "data/train-00001-of-00002/1"
    for number, item in enumerate(found):
        assert item.edited_uri is not None
        assert read_bytes(item.input_uri) == b"in%d" % number
        assert read_bytes(item.edited_uri) == b"out%d" % number
        assert item.input_caption == f"before {number}"
        assert item.direct_instruction == f"edit {number}"
        assert item.edited_caption == f"after {number}"


def test_ids_sort_as_the_rows_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 101)
    ids = [item.source_id for item in items(tmp_path)]
    assert (ids[0], ids[-1]) == ("a/000", "a/100")
    assert ids == sorted(ids)


def test_one_file_can_be_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 2)
    write(tmp_path / "b.parquet", 3)
    assert [item.source_id for item in items(tmp_path / "b.parquet")] == ["b/0", "b/1", "b/2"]


def test_plain_binary_columns_and_absent_captions_will_do(tmp_path: Path) -> None:
    table = pa.table({"original_image": [b"1"], "edited_image": [b"2"], "edit_prompt": ["x"]})
    pq.write_table(table, tmp_path / "a.parquet")
    (item,) = items(tmp_path)
    assert read_bytes(item.input_uri) == b"1"
    assert item.input_caption is None


def test_a_null_cell_is_a_missing_image(tmp_path: Path) -> None:
    cells = pa.array([None], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"original_image": cells, "edited_image": cells, "edit_prompt": ["x"]})
    pq.write_table(table, tmp_path / "a.parquet")
    (item,) = items(tmp_path)
    with pytest.raises(FileNotFoundError, match="original_image"):
        read_bytes(item.input_uri)


def test_base64_may_stand_where_bytes_should(tmp_path: Path) -> None:
    content = bytes(range(256))
    cells = [{"bytes": base64.b64encode(content).decode()}]
    columns = {"original_image": cells, "edited_image": cells, "edit_prompt": ["x"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read_bytes(items(tmp_path)[0].input_uri) == content


def test_files_of_data_that_are_not_read_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1)
    for name in ("b.parquet.incomplete", "c.arrow", "d.tar", "README.md", "imgs/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    notices: list[str] = []
    source = SourceConfig(format="instructpix2pix-parquet", path=str(tmp_path))
    assert len(list(read(source, notices))) == 1
    [notice] = notices
    assert "3 files are passed over" in notice
    assert "the first: b.parquet.incomplete" in notice


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected .parquet files.*found an empty folder"):
        items(tmp_path)
    pq.write_table(pa.table({"image": [b""], "edit_prompt": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(
        UserError, match=r"a.parquet: no column original_image, edited_image .it has image, edit"
    ):
        items(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        items(tmp_path / "gone.parquet")
    write(tmp_path / "a.parquet", 9)
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a.parquet: cannot be read as Parquet"):
        items(tmp_path)


@pytest.mark.parametrize(
    ("column", "cells", "kind"),
    [
        ("edit_prompt", [["x"]], "list<.*string>, expected string"),
        ("edit_prompt", [3], "int64, expected string"),
        ("original_prompt", [{"text": "x"}], "struct<text: string>, expected string"),
        ("edited_image", [[1, 2, 3]], "list<.*int64>, expected images"),
        ("edited_image", [[{"bytes": b"1"}]], "list<.*>, expected images"),
        ("original_image", [3.5], "double, expected images"),
        ("original_image", [{"array": [1]}], "struct<array: list<.*>>, expected images"),
        ("original_image", [{"bytes": 3}], "struct<bytes: int64>, expected images"),
    ],
)
def test_a_column_of_another_type_is_said_before_the_start(
    tmp_path: Path, column: str, cells: list[object], kind: str
) -> None:
    table = {"original_image": [b"1"], "edited_image": [b"2"], "edit_prompt": ["x"]}
    pq.write_table(pa.table({**table, column: cells}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=f"a.parquet: column {column} holds {kind}"):
        items(tmp_path)


def test_texts_may_be_of_any_string_type_and_images_be_paths(tmp_path: Path) -> None:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs/a.jpg").write_bytes(b"1")
    table = {
        "original_image": ["imgs/a.jpg"],
        "edited_image": [{"path": "imgs/a.jpg"}],
        "edit_prompt": pa.array(["x"]).dictionary_encode(),
        "original_prompt": pa.array(["before"], pa.large_string()),
        "edited_prompt": pa.nulls(1),
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    (item,) = items(tmp_path)
    assert (item.direct_instruction, item.input_caption) == ("x", "before")
    assert item.edited_caption is None
    assert read_bytes(item.input_uri) == read_bytes(item.edited_uri or "") == b"1"
