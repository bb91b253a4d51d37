import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_folders import captions, items, touch

from reasonray.core.errors import UserError
from reasonray.core.sections import SourceConfig
from reasonray.sources.folder import read


def noted(folder: Path) -> tuple[dict[str, str | None], list[str]]:
    """Each image's caption, and what is said before the start."""
    notices: list[str] = []
    source = SourceConfig(format="folder", path=str(folder))
    listed = list(read(source, notices))
    return {item.source_id: item.input_caption for item in listed}, notices


CAPTIONS = {"a.jpg": "a red ball, on a table", "sub/b.jpg": "a cup"}


@pytest.mark.parametrize("key", ["text", "caption", "prompt", "Text", "CAPTION"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_captions_are_read_whatever_their_file_and_key(tmp_path: Path, kind: str, key: str) -> None:
    touch(tmp_path, *CAPTIONS)
    lines = [{"file_name": name, key: text, "label": 3} for name, text in CAPTIONS.items()]
    if kind == "jsonl":
        captions(tmp_path, *lines)
    elif kind == "csv":
        with (tmp_path / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, lines[0])
            writer.writeheader()
            writer.writerows(lines)
    else:
        pq.write_table(pa.Table.from_pylist(lines), tmp_path / "metadata.parquet")
    assert noted(tmp_path) == (CAPTIONS, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", 'file_name;text\na.jpg;a red ball, on a table\nsub/b.jpg;"a cup"\n'),
        ("metadata.csv", "file_name\ttext\na.jpg\ta red ball, on a table\nsub/b.jpg\ta cup\n"),
        (
            "metadata.csv",
            'file_name, text\r\na.jpg, "a red ball, on a table"\r\n\r\nsub/b.jpg, a cup\n',
        ),
        ("Metadata.CSV", 'File_Name,Text\na.jpg,"a red ball, on a table"\nsub/b.jpg,a cup\n'),
    ],
)
def test_tables_are_read_as_spreadsheets_write_them(tmp_path: Path, name: str, text: str) -> None:
    touch(tmp_path, *CAPTIONS)
    (tmp_path / name).write_text(text, newline="")
    assert noted(tmp_path) == (CAPTIONS, [])


@pytest.mark.parametrize("text", ["", "file_name,text\n"])
def test_metadata_that_list_nothing_are_said(tmp_path: Path, text: str) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "metadata.csv").write_text(text)
    listed, [notice] = noted(tmp_path)
    assert listed == {"a.jpg": None}
    assert "metadata.csv: no image is listed in it" in notice


@pytest.mark.parametrize(
    ("image", "text"),
    [("A.JPG", "A.TXT"), ("IMG_1.JPG", "img_1.txt"), ("cafe\u0301.jpg", "caf\u00e9.txt")],
)
def test_the_text_beside_an_image_may_be_spelled_otherwise(
    tmp_path: Path, image: str, text: str
) -> None:
    touch(tmp_path, image)
    (tmp_path / text).write_text("a cup")
    assert noted(tmp_path) == ({image: "a cup"}, [])


def test_metadata_in_a_sub_folder_name_what_lies_there(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg", "sub/deep/c.jpg")
    captions(tmp_path, {"file_name": "a.jpg", "text": "a ball"})
    captions(
        tmp_path / "sub",
        {"file_name": "b.jpg", "text": "a cup"},
        {"file_name": "deep/c.jpg", "text": "a hat"},
    )
    assert noted(tmp_path) == (
        {"a.jpg": "a ball", "sub/b.jpg": "a cup", "sub/deep/c.jpg": "a hat"},
        [],
    )


def test_the_text_beside_an_image_is_its_caption(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{letter}.jpg" for letter in "abcdefg"))
    (tmp_path / "a.txt").write_text("\ufeffa red ball\n on a table\n", encoding="utf-8")
    (tmp_path / "b.caption").write_text("a cup")
    (tmp_path / "c.jpg.txt").write_text("a hat")
    (tmp_path / "d.txt").write_text("0 0.5 0.5 0.25 0.25\n")  # a detector's box
    (tmp_path / "e.txt").write_text("not this")
    (tmp_path / "f.txt").write_bytes(b"caf\xe9")
    captions(tmp_path, {"file_name": "e.jpg", "text": "this"})
    listed, notices = noted(tmp_path)
    assert listed == {
        "a.jpg": "a red ball on a table",
        "b.jpg": "a cup",
        "c.jpg": "a hat",
        "d.jpg": None,
        "e.jpg": "this",
        "f.jpg": None,
        "g.jpg": None,
    }
    assert "2 files are passed over, by extension: 2 .txt" in notices[0]
    assert "3 of 7 images have no caption" in notices[1]
    [damaged] = [item for item in items(tmp_path) if item.source_id == "f.jpg"]
    assert damaged.reason == "bad_annotation"
    assert "f.txt: byte 3: not UTF-8 text" in (damaged.detail or "")


def test_of_several_captions_the_first_is_used_which_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    captions(
        tmp_path,
        {"file_name": "a.jpg", "text": ["", "a ball", "a red ball"]},
        {"file_name": "b.jpg", "text": None, "caption": "a cup", "prompt": "x"},
    )
    listed, [notice] = noted(tmp_path)
    assert listed == {"a.jpg": "a ball", "b.jpg": "a cup"}
    assert "1 images have several captions; the first is used" in notice


def test_lines_whose_words_stand_elsewhere_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    captions(
        tmp_path,
        {"file_name": "a.jpg", "text": "a ball"},
        {"file_name": "b.jpg", "description": "a cup"},
        {"file_name": "c.jpg", "label": 3},
    )
    _, notices = noted(tmp_path)
    assert (
        "1 of 3 lines have no caption under text, caption or prompt (but description)" in notices[0]
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "metadata.jsonl",
            '{"file_name": "a.jpg", "alt": "a"}',
            "keys are file_name, alt; expected t",
        ),
        ("metadata.csv", "file_name,description\na.jpg,a ball", "keys are file_name, description"),
        (
            "metadata.csv",
            "file_name,text\na.jpg,a ball, red",
            "line 2: expected 2 cells .file_name, te",
        ),
        ("metadata.csv", "file_name,text\na.jpg", "line 2: expected 2 cells"),
        ("metadata.csv", "file_name;text\na.jpg;a;b", "expected 2 cells .* with ';' in it stands"),
        ("metadata.jsonl", '{"file_name": "a.jpg", "captions": ["a"]}', "file_name, captions; exp"),
        ("metadata.jsonl", '{"file_name": "a.jpg", "x": {"caption": "a"}}', "file_name, x; exp"),
        ("metadata.csv", 'file_name,text\na.jpg,"a', "metadata.csv: not CSV"),
        ("metadata.csv", b"file_name,text\na.jpg,caf\xe9", "byte 24: not UTF-8"),
        ("metadata.jsonl", '{"image": "a.jpg"}', "with file_name .it has image"),
        ("metadata.jsonl", '{"file_name": null}', "line 1: expected an object with file_name"),
        (
            "metadata.jsonl",
            '{"file_name": "a.jpg", "text": ["a", 3]}',
            "of a.jpg is no text: .'a', 3",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "x/a.jpg"}',
            "none of the 1 images .*the first: x/a.jpg",
        ),
        ("metadata.jsonl", '{"file_name": "/etc/a.jpg"}', "/etc/a.jpg leads out of the folder"),
        ("metadata.parquet", "PAR1", "metadata.parquet: cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_meant_is_said_before_the_start(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError, match=message):
        items(tmp_path)
