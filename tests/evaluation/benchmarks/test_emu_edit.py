from pathlib import Path

import pytest
from public_benchmarks import EMU_ROWS, emu_edit

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.items import INPUT_METRICS, Benchmark, Scored

VALUES = {"CLIP-dir": 0.1, "CLIP-im": 0.9, "CLIP-out": 0.3, "L1": 0.1, "DINO": 0.8}


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    emu_edit(tmp_path)
    return open_benchmark("emu_edit", str(tmp_path))


def test_only_the_test_split_is_read_over_its_files(benchmark: Benchmark) -> None:
    items = benchmark.items()
    assert [item.id for item in items] == ["4", "7", "7-2"]
    assert (items[0].group, items[0].input_caption) == ("remove", "a dog with a ball")
    assert (items[0].reference_text, items[0].references) == ("a dog", ())
    assert items[2].pictures[0].open().getpixel((0, 0)) == (255, 0, 0)
    assert benchmark.output_name(items[2]) == "7-2.png"
    assert benchmark.yardstick == "input"


def test_the_table_has_all_metrics_and_the_tasks(benchmark: Benchmark) -> None:
    first, second, third = benchmark.items()
    figures = benchmark.aggregate(
        [
            Scored(first, VALUES),
            Scored(second, VALUES | {"CLIP-dir": 0.0, "L1": 0.3}),
            Scored(third, None),
        ]
    )
    whole = {each.measure: each for each in figures if not each.group}
    assert list(whole) == list(INPUT_METRICS)
    assert whole["L1"].value == pytest.approx(0.2)
    assert (whole["L1"].num_items, whole["L1"].num_missing) == (3, 1)
    # Of the second both captions are the same.
    assert (whole["CLIP-dir"].value, whole["CLIP-dir"].num_items) == (0.1, 2)
    assert {each.group for each in figures} == {"", "remove"}


def test_an_unknown_task_is_named(tmp_path: Path) -> None:
    emu_edit(tmp_path, [EMU_ROWS[0] | {"task": "dream"}, *EMU_ROWS[1:]])
    with pytest.raises(UserError, match="row 0: task is 'dream'; expected one of background"):
        open_benchmark("emu_edit", str(tmp_path)).items()
