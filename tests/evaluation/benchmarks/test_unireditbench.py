from pathlib import Path

import pytest
from public_benchmarks import UNIREDIT_ROWS, picture, unireditbench

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.items import Axes, Benchmark, Figure, Scored

GOOD = {"consistency": 5, "reasoning": 5, "plausibility": 5}
FAIR = {"consistency": 4, "reasoning": 3, "plausibility": 5}  # 1.2 + 1.5 + 1 = 3.7


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    unireditbench(tmp_path)
    return open_benchmark("unireditbench", str(tmp_path))


def values(benchmark: Benchmark, *axes: Axes | None) -> dict[tuple[str, str], Figure]:
    scored = [Scored(*pair) for pair in zip(benchmark.items(), axes, strict=True)]
    return {(each.measure, each.group): each for each in benchmark.aggregate(scored)}


def test_rules_and_references_are_in_the_shape(benchmark: Benchmark) -> None:
    maze, weather = benchmark.items()
    assert (maze.id, maze.group) == ("maze/1", "maze")
    assert maze.full_instruction == "Walls cannot be crossed.\nDraw the way out."
    assert weather.rules == ""
    assert benchmark.output_name(maze) == "maze/1.png"


def test_reasoning_is_judged_beside_the_picture_before_and_the_reference(
    benchmark: Benchmark,
) -> None:
    calls = {call.name: call for call in benchmark.calls(benchmark.items()[0], picture("green"))}
    assert list(calls) == ["consistency", "reasoning", "plausibility"]
    shown = [each.getpixel((0, 0)) for each in calls["reasoning"].pictures]
    assert shown == [(255, 0, 0), (0, 0, 255), (0, 128, 0)]
    assert "Walls cannot be crossed. Draw the way out." in calls["reasoning"].prompt
    assert "A line from the gate to the exit." in calls["reasoning"].prompt
    assert len(calls["plausibility"].pictures) == 1


def test_a_worked_example(benchmark: Benchmark) -> None:
    figures = values(benchmark, GOOD, FAIR)
    for end in ("as published", "as intended"):
        assert figures[f"score, {end}", ""].value == pytest.approx((100 + 67.5) / 2)
        assert figures[f"score, {end}", "weather"].value == pytest.approx(67.5)
        assert figures[f"accuracy, {end}", ""].value == 50
        assert figures[f"reasoning, {end}", ""].value == 75


def test_reasoning_of_1_is_not_halved_here(benchmark: Benchmark) -> None:
    score = benchmark.score(benchmark.items()[0], GOOD | {"reasoning": 1})
    assert score["score, as intended"] == pytest.approx(25 * (1.5 + 0.5 + 1 - 1))


def test_a_missing_picture_leaves_their_means_so_that_failing_pays(benchmark: Benchmark) -> None:
    figures = values(benchmark, GOOD, None)
    published, intended = (figures[f"score, as {end}", ""] for end in ("published", "intended"))
    assert (published.value, intended.value) == (100, 50)
    assert (intended.num_items, intended.num_missing) == (2, 1)
    assert figures["accuracy, as published", ""].value == 100
    assert figures["accuracy, as intended", ""].value == 50
    assert figures["score, as published", "weather"].value is None


def test_a_reply_that_was_never_valid_is_counted(benchmark: Benchmark) -> None:
    figures = values(benchmark, GOOD, {"consistency": 1, "reasoning": 1})
    intended = figures["score, as intended", ""]
    assert (intended.value, intended.num_unjudged, intended.num_missing) == (100, 1, 0)
    assert figures["consistency, as intended", ""].value == 50
    assert figures["consistency, as published", ""].value == 100


def test_of_several_final_scores_the_first_counts(benchmark: Benchmark) -> None:
    assert benchmark.parse("reasoning", "**Final Score:** **4, 2**") == {"reasoning": 4}
    assert benchmark.parse("reasoning", "no score") is None


def test_an_item_without_its_reference_picture_is_named(tmp_path: Path) -> None:
    unireditbench(tmp_path, UNIREDIT_ROWS)
    text = (tmp_path / "data.json").read_text().replace("reference_image_path", "reference")
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match=r"data\.json item 0: no reference_image_path"):
        open_benchmark("unireditbench", str(tmp_path)).items()
