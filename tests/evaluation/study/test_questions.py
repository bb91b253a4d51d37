import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from studies import picture

from reasonray.core.errors import UserError
from reasonray.core.record import IMAGE
from reasonray.evaluation.study.questions import in_order, read_questions

ITEM = {"id": "a", "instruction": "Turn it.", "kind": "direct", "input_image": "a.png"}


def lines(path: Path, *items: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [item if isinstance(item, str) else json.dumps(item) for item in items]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def table(path: Path, rows: list[dict[str, Any]], image: pa.DataType = IMAGE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [(name, pa.string()) for name in ("id", "instruction", "kind", "group")]
    schema = pa.schema([*texts, ("input_image", image)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=2)
    return path


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def test_lines_name_pictures_beside_their_file(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    picture(2).save(tmp_path / "b.png")
    path = lines(
        tmp_path / "items.jsonl",
        "\ufeff"
        + json.dumps({**ITEM, "instruction": "a line\u2028and another"}, ensure_ascii=False),
        "",
        {**ITEM, "id": 7, "input_image": str(tmp_path / "b.png"), "group": "animals", "more": 1},
    )
    first, second = read_questions(str(path))
    assert (first.id, first.instruction, first.group) == ("a", "a line\u2028and another", "")
    assert (second.id, second.kind, second.group) == ("7", "direct", "animals")
    assert first.before.open().tobytes() == picture(1).tobytes()
    assert second.before.open().tobytes() == picture(2).tobytes()


@pytest.mark.parametrize("form", ["struct", "bytes", "path"])
def test_parquet_holds_pictures_or_names_them(form: str, tmp_path: Path) -> None:
    kinds = {"struct": IMAGE, "bytes": pa.binary(), "path": pa.string()}
    cells: dict[str, Callable[[int], Any]] = {
        "struct": lambda number: {"bytes": png(number), "path": None},
        "bytes": png,
        "path": lambda number: f"inputs/{number}.png",
    }
    (tmp_path / "inputs").mkdir()
    for number in range(5):
        picture(number).save(tmp_path / f"inputs/{number}.png")
    rows = [{**ITEM, "id": str(n), "input_image": cells[form](n)} for n in range(5)]
    path = table(tmp_path / "items.parquet", rows, kinds[form])
    questions = read_questions(str(path))
    assert [each.id for each in questions] == ["0", "1", "2", "3", "4"]
    for number, question in enumerate(questions):
        assert question.before.open().tobytes() == picture(number).tobytes()


def test_of_a_folder_the_files_that_hold_items_are_read(tmp_path: Path) -> None:
    rows = [
        {**ITEM, "id": str(n), "input_image": {"bytes": png(n), "path": None}} for n in range(2)
    ]
    table(tmp_path / "b/items-0.parquet", rows[:1])
    table(tmp_path / "b/items-1.parquet", rows[1:])
    pq.write_table(pa.table({"score": [1.0]}), tmp_path / "b/scores.parquet")
    table(tmp_path / "b/.run/left.parquet", rows)
    lines(tmp_path / "b/items.jsonl", ITEM)
    assert [each.id for each in read_questions(str(tmp_path / "b"))] == ["0", "1"]
    lines(tmp_path / "l/items.jsonl", ITEM)
    lines(tmp_path / "l/log.jsonl", {"step": 1})
    lines(tmp_path / "l/broken.jsonl", "{")
    assert [each.id for each in read_questions(str(tmp_path / "l"))] == ["a"]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["{"], "line 1, column 2: not JSON"),
        (["[]"], "line 1: expected an object with id, instruction, kind, input_image"),
        ([{**ITEM, "id": ""}], "line 1: id: expected text, not ''"),
        ([{**ITEM, "kind": None}], "line 1: kind: expected text, not None"),
        ([{**ITEM, "instruction": " "}], "line 1: instruction: expected text"),
        ([{**ITEM, "instruction": ["x"]}], "line 1: instruction: expected text"),
        ([ITEM, {**ITEM, "id": "b", "input_image": 3}], "line 2: input_image: expected a path"),
        ([ITEM, ITEM], "items 'a' and 'a': both have the picture a.png"),
        ([], "no items are in it"),
    ],
)
def test_a_malformed_line_is_said_with_its_place(
    items: list[Any], message: str, tmp_path: Path
) -> None:
    path = lines(tmp_path / "items.jsonl", *items)
    with pytest.raises(UserError) as caught:
        read_questions(str(path))
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_other_files_are_the_users_mistake(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "kind": ["direct"]}), tmp_path / "few.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "items.csv").write_text("id")
    (tmp_path / "none").mkdir()
    cases = {
        "few.parquet": "no column instruction, input_image (it has id, kind)",
        "broken.parquet": "cannot be read",
        "items.csv": "expected a folder, a .jsonl or a .parquet file",
        "none": "no Parquet or JSONL file below it has the columns id, instruction, kind",
        "nowhere": "not there",
    }
    for name, message in cases.items():
        with pytest.raises(UserError) as caught:
            read_questions(str(tmp_path / name))
        assert message in str(caught.value), name


def test_kinds_stand_as_in_the_papers_table() -> None:
    assert in_order({"unheard", "reasoning", "a", "direct"}) == [
        "direct",
        "reasoning",
        "a",
        "unheard",
    ]
