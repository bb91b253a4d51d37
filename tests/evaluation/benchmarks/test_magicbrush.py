from pathlib import Path

import pytest
from public_benchmarks import magicbrush, magicbrush_parquet, write

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.items import TRUTH_METRICS, Scored

VALUES = {"L1": 0.1, "L2": 0.02, "CLIP-I": 0.9, "DINO": 0.8, "CLIP-T": 0.3}


def test_every_turn_is_an_item_from_the_true_picture_before(tmp_path: Path) -> None:
    magicbrush(tmp_path)
    benchmark = open_benchmark("magicbrush", str(tmp_path))
    items = benchmark.items()
    assert [item.id for item in items] == ["30-1", "139-1", "139-2"]
    last = items[-1]
    assert last.instruction == "Change number 2."
    assert last.pictures[0].uri == str(tmp_path / "images/139/139-output1.png")
    assert last.references[0].uri == str(tmp_path / "images/139/139-output2.png")
    assert last.reference_text == "a 139-output2.png"
    assert last.input_caption == "a 139-output1.png"
    names = [benchmark.output_name(item) for item in items]
    assert names == ["30/30_1.png", "139/139_1.png", "139/139_inde_2.png"]
    assert (benchmark.yardstick, benchmark.rubric) == ("truth", "")


def test_parquet_gives_the_same_items_without_captions(tmp_path: Path) -> None:
    magicbrush(tmp_path / "folder")
    magicbrush_parquet(tmp_path / "parquet")
    folder, rows = (
        open_benchmark("magicbrush", str(tmp_path / name)).items() for name in ("folder", "parquet")
    )
    assert [(item.id, item.instruction, item.fields) for item in rows] == [
        (item.id, item.instruction, item.fields) for item in folder
    ]
    assert rows[2].references[0].open().getpixel((0, 0)) == (0, 0, 255)
    assert rows[2].reference_text == ""
    captions = {"139": {"139-output2.png": "a hat"}}
    write(tmp_path / "parquet/local_descriptions.json", captions)
    again = open_benchmark("magicbrush", str(tmp_path / "parquet")).items()
    assert [item.reference_text for item in again] == ["", "", "a hat"]


def test_the_table_is_the_mean_over_all_turns_and_by_turn(tmp_path: Path) -> None:
    magicbrush(tmp_path)
    benchmark = open_benchmark("magicbrush", str(tmp_path))
    first, second, third = benchmark.items()
    figures = benchmark.aggregate(
        [Scored(first, VALUES), Scored(second, VALUES | {"L1": 0.3}), Scored(third, None)]
    )
    whole = [each for each in figures if not each.group]
    assert [each.measure for each in whole] == list(TRUTH_METRICS)
    assert whole[0].value == pytest.approx(0.2)
    assert (whole[0].num_items, whole[0].num_missing) == (3, 1)
    assert [each.value for each in figures if each.group == "turn 2"] == [None] * 5


def test_without_a_caption_there_is_no_clip_t(tmp_path: Path) -> None:
    magicbrush_parquet(tmp_path)
    benchmark = open_benchmark("magicbrush", str(tmp_path))
    assert "CLIP-T" not in benchmark.score(benchmark.items()[0], VALUES)


def test_a_wrong_list_is_named(tmp_path: Path) -> None:
    magicbrush(tmp_path, {"30": [{"input": "30-input.png", "output": "30-output1.png"}]})
    with pytest.raises(UserError, match=r"edit_sessions\.json session 30 item 0: no instruction"):
        open_benchmark("magicbrush", str(tmp_path)).items()
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"no test\*\.parquet; found an empty folder"):
        open_benchmark("magicbrush", str(tmp_path / "none")).items()
