import base64
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonray.core.reading import NoImageError, read_bytes
from reasonray.core.uris import is_local

CONTENT = bytes(range(256)) * 2
TEXT = base64.b64encode(CONTENT).decode()


def cell(folder: Path, value: Any, type: pa.DataType | None = None) -> str:
    """The URI of a Parquet file's only cell."""
    folder.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table({"x": pa.array([value], type)}), folder / "a.parquet")
    return f"{folder}/a.parquet#0/0/x"


def test_a_colon_in_a_file_s_name_is_no_protocol(tmp_path: Path) -> None:
    assert not any(map(is_local, ("s3://bucket/a", "memory://a", "zip://a::/data/b.zip")))
    assert all(map(is_local, ("/data/file://a.jpg", "photos", "./a://b", "~/a")))
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{tmp_path}/https://host/a.jpg")


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(CONTENT).decode(),
        "\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76)),
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/jpeg;charset=utf-8;BASE64,{TEXT}",
    ],
)
@pytest.mark.parametrize("is_struct", [False, True])
def test_a_cell_may_hold_base64(tmp_path: Path, text: str, is_struct: bool) -> None:
    value = {"bytes": None, "path": text} if is_struct else text
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if is_struct else None
    assert read_bytes(cell(tmp_path, value, kind)) == CONTENT


@pytest.mark.parametrize(
    "name", ["imgs/a.jpg", "./imgs/a.jpg", "imgs\\a.jpg", "{folder}/imgs/a.jpg"]
)
@pytest.mark.parametrize("is_struct", [False, True])
def test_a_cell_may_hold_a_path_beside_its_file(tmp_path: Path, name: str, is_struct: bool) -> None:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs/a.jpg").write_bytes(CONTENT)
    path = name.format(folder=tmp_path)
    assert read_bytes(cell(tmp_path, {"path": path} if is_struct else path)) == CONTENT


def test_a_hash_for_a_name_is_a_path_first(tmp_path: Path) -> None:
    name = "0123456789abcdef" * 4  # base64, too
    (tmp_path / name).write_bytes(CONTENT)
    assert read_bytes(cell(tmp_path, name)) == CONTENT


def test_a_path_in_an_archived_file_is_one_of_the_archive(tmp_path: Path) -> None:
    cell(tmp_path, "imgs/a.jpg")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(tmp_path / "a.parquet", "data/a.parquet")
        archive.writestr("data/imgs/a.jpg", CONTENT)
    assert read_bytes(f"zip://data/a.parquet::{tmp_path}/p.zip#0/0/x") == CONTENT


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("imgs/gone.jpg", "holds only a path, imgs/gone.jpg, and no such file lies beside"),
        ("../secret.jpg", "holds only a path"),
        ("/etc/hostname", "holds only a path, /etc/hostname"),
        ("https://host/a.jpg", "a URL, https://host/a.jpg, and URLs are not followed"),
        ("data:image/png;base64,###", "a data URI that is no base64"),
        ("", "the cell is empty"),
        (b"", "the cell is empty"),
        (None, "the cell is empty"),
        ({"bytes": None, "path": None}, "the cell is empty"),
        ({"bytes": b"", "path": "gone.jpg"}, "holds only a path, gone.jpg"),
    ],
)
def test_a_cell_that_leads_to_no_image_says_why(tmp_path: Path, value: Any, problem: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(CONTENT)
    with pytest.raises(NoImageError, match=problem):
        read_bytes(cell(tmp_path / "data", value))
