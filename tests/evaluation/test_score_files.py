import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonray.core.errors import UserError
from reasonray.evaluation.score_files import Key, Preference, Preferences, Scores, read_scores

ROWS: list[dict[str, Any]] = [
    {"id": "1", "editor": "a", "fit": 4, "note": "good"},
    {"id": "1", "editor": "b", "fit": 2, "note": ""},
    {"id": "2", "editor": "a", "fit": None, "note": "no reply"},
]


def written(folder: Path, kind: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"scores.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0])]
        lines += [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
        # As a spreadsheet saves it.
        path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_scores_are_read_in_every_form(tmp_path: Path, kind: str) -> None:
    scores = read_scores(written(tmp_path, kind, ROWS))
    assert isinstance(scores, Scores)
    assert scores.axes == {"fit": {Key("1", "a"): 4.0, Key("1", "b"): 2.0}}
    assert (scores.num_rows, scores.num_unscored) == (3, 1)


def test_several_people_s_scores_of_one_picture_are_averaged(tmp_path: Path) -> None:
    rows = [{"id": "1", "rater": rater, "fit": fit} for rater, fit in ((1, 2), (2, 5), (3, 5))]
    scores = read_scores(written(tmp_path, "csv", rows))
    assert isinstance(scores, Scores)
    assert scores.axes == {"fit": {Key("1"): 4.0}}


def test_ids_that_are_numbers_in_one_file_and_texts_in_another_are_the_same(tmp_path: Path) -> None:
    scores = [
        read_scores(written(tmp_path, kind, [{"id": 7, "fit": 1}])) for kind in ("json", "csv")
    ]
    assert isinstance(scores[0], Scores)
    assert isinstance(scores[1], Scores)
    assert scores[0].axes == scores[1].axes


def test_a_choice_between_two_editors_is_a_preference(tmp_path: Path) -> None:
    rows = [{"id": "1", "worker": "w", "chosen": "a", "rejected": "b"}]
    preferences = read_scores(written(tmp_path, "csv", rows))
    assert isinstance(preferences, Preferences)
    assert preferences.pairs[0].chosen_key == Key("1", "a")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_study_s_pairs_hold_pictures_beside_the_editors_names(tmp_path: Path, kind: str) -> None:
    shown: Any = {"bytes": b"x", "path": None} if kind == "parquet" else "pictures/1.png"
    row = {"id": "1", "chosen": shown, "rejected": shown, "worker": 3}
    row |= {"chosen_editor": "a", "rejected_editor": "b"}
    preferences = read_scores(written(tmp_path, kind, [row]))
    assert isinstance(preferences, Preferences)
    assert preferences.pairs == [Preference("1", "a", "b")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, "no such file"),
        ("a.txt", "id,fit\n1,2\n", "ends in .csv"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", "key,fit\n1,2\n", "no column id"),
        ("a.csv", "id,fit\n1,2,3\n", "more cells"),
        ("a.csv", "id,fit\n,2\n", "row 1: has no id"),
        ("a.csv", b"\xff\xfe", "is no csv"),
        ("a.json", "{}", "expected a list"),
        ("a.json", "[1]", "expected objects"),
        ("a.json", "[", "is no json"),
        ("a.jsonl", "{\n", "is no jsonl"),
        ("a.parquet", "PAR1", "is no parquet"),
        ("a.csv", "id,chosen,rejected\n1,a,\n", "row 1: has no rejected"),
    ],
)
def test_a_file_of_another_form_is_told_in_one_line(
    tmp_path: Path, name: str, content: str | bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=words) as error:
        read_scores(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
