import json
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from studies import Inputs, choose, lay_out, load, study, write_inputs

from reasonray.core.errors import UserError
from reasonray.evaluation.study.preferences import write_preferences
from reasonray.evaluation.study.store import Store


def test_each_answer_gives_a_pair_with_every_other_editor(tmp_path: Path) -> None:
    store = study(tmp_path, num_items=2, num_workers=2, quota=2)
    choose(store, 1, 1, "rival")
    choose(store, 1, 1, "ours")
    choose(store, 2, 3, "baseline")
    path = tmp_path / "new/pairs.parquet"
    assert write_preferences(tmp_path / "study", path) == (4, 0)
    rows = pq.read_table(path).to_pylist()
    pairs = [(row["worker"], row["chosen_editor"], row["rejected_editor"]) for row in rows]
    assert pairs == [
        (1, "ours", "baseline"), (1, "ours", "rival"), (2, "baseline", "ours"),
        (2, "baseline", "rival"),
    ]  # fmt: skip
    loaded = datasets.load_dataset(
        "parquet", data_files=str(path), cache_dir=str(tmp_path / "cache")
    )["train"]
    for row in loaded:
        name = row["id"].replace("/", "__") + ".png"
        for column in ("chosen", "rejected"):
            original = load(tmp_path / "in" / row[f"{column}_editor"] / name)
            assert row[column].tobytes() == original.tobytes()
        assert row["instruction"].startswith(row["kind"])
        assert row["input"].size == (48, 32)


def test_lines_name_the_pictures_from_where_they_stand(tmp_path: Path) -> None:
    store = study(tmp_path)
    choose(store, 1, 2, "ours")
    path = tmp_path / "else where/pairs.jsonl"
    assert write_preferences(tmp_path / "study", path) == (2, 0)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["rejected_editor"] for row in rows] == ["baseline", "rival"]
    for row in rows:
        pictures = [load(path.parent / row[name]) for name in ("input", "chosen")]
        original = load(tmp_path / f"in/ours/{row['id'].replace('/', '__')}.png")
        assert pictures[1].tobytes() == original.tobytes()
        assert not {worker.token for worker in store.workers()} & set(map(str, row.values()))


def test_the_very_same_picture_is_no_preference(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, 1, kinds=["direct"])
    same = Inputs(inputs.items, {**inputs.editors, "twin": inputs.editors["ours"]})
    lay_out(tmp_path / "study", same, num_workers=1)
    store = Store(tmp_path / "study")
    choose(store, 1, 1, "twin")
    assert write_preferences(tmp_path / "study", tmp_path / "a.jsonl") == (2, 1)


def test_without_answers_the_file_is_empty(tmp_path: Path) -> None:
    study(tmp_path)
    assert write_preferences(tmp_path / "study", tmp_path / "a.parquet") == (0, 0)
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0


def test_another_ending_is_the_users_mistake(tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(UserError, match=r"expected a file that ends in .parquet or .jsonl"):
        write_preferences(tmp_path / "study", tmp_path / "a.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_preferences(tmp_path / "study", tmp_path / "file/a.jsonl")
