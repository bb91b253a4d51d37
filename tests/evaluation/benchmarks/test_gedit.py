import math
from pathlib import Path

import pytest
from public_benchmarks import GEDIT_ROWS, gedit, picture

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.benchmarks.gedit import TASKS
from reasonray.evaluation.items import Axes, Benchmark, Figure, Scored

TEN = {"success": 10, "overediting": 10, "naturalness": 10, "artifacts": 10}
LOW = {"success": 8, "overediting": 2, "naturalness": 9, "artifacts": 8}  # SC 2, PQ 8, O 4


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    gedit(tmp_path)
    return open_benchmark("gedit", str(tmp_path))


def values(benchmark: Benchmark, *axes: Axes | None) -> dict[tuple[str, str], Figure]:
    scored = [Scored(*pair) for pair in zip(benchmark.items(), axes, strict=True)]
    return {(each.measure, each.group): each for each in benchmark.aggregate(scored)}


def test_the_rows_give_one_shape(benchmark: Benchmark) -> None:
    first, *_, chinese = benchmark.items()
    assert (first.id, first.group, first.language) == ("color_alter/en/a", "color_alter", "en")
    assert first.pictures[0].open().size == (64, 32)
    assert (chinese.language, chinese.instruction) == ("zh", "变成绿色。")
    assert benchmark.output_name(chinese) == "fullset/color_alter/cn/d.png"


def test_the_edit_is_judged_in_the_sources_size(benchmark: Benchmark) -> None:
    calls = benchmark.calls(benchmark.items()[0], picture("green", (40, 90)))
    assert [call.name for call in calls] == ["SC", "PQ"]
    assert [[each.size for each in call.pictures] for call in calls] == [[(32, 16)] * 2, [(32, 16)]]
    assert dict(calls[0].axes) == {"success": (0, 10), "overediting": (0, 10)}
    assert "Make it green." in calls[0].prompt
    assert "Make it green." not in calls[1].prompt


def test_the_lower_figure_counts_and_the_whole_is_the_root(benchmark: Benchmark) -> None:
    score = benchmark.score(benchmark.items()[0], LOW)
    for end in ("as published", "as intended"):
        assert [score[f"{name}, {end}"] for name in ("SC", "PQ", "O")] == [2, 8, 4]


def test_a_table_is_the_plain_mean_of_the_tasks(benchmark: Benchmark) -> None:
    figures = values(benchmark, TEN, LOW, TEN, LOW)
    assert figures["O, as intended", "en: color_alter"].value == 7
    assert figures["O, as intended", "en: subject-add"].value == 10
    whole = figures["O, as intended", "en"]
    assert (whole.value, whole.num_items) == (8.5, 3)  # not the 8 of the three items
    assert figures["O, as intended", "en, intersection"].value == 7
    assert figures["O, as intended", "zh"].value == 4


def test_without_all_eleven_tasks_their_table_has_no_mean(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    assert values(benchmark, TEN, TEN, TEN, TEN)["O, as published", "en"].value is None
    rows = [GEDIT_ROWS[0] | {"task_type": task} for task in TASKS]
    gedit(tmp_path / "all", rows)
    whole = open_benchmark("gedit", str(tmp_path / "all"))
    figures = values(whole, *[LOW] * 10, None)
    assert figures["O, as published", "en"].value is None  # the eleventh has no picture
    assert figures["O, as intended", "en"].value == pytest.approx(40 / 11)
    assert values(whole, *[LOW] * 11)["O, as published", "en"].value == pytest.approx(4)


def test_a_missing_picture_leaves_their_means(benchmark: Benchmark) -> None:
    figures = values(benchmark, TEN, None, TEN, TEN)
    assert figures["O, as published", "en: color_alter"].value == 10
    intended = figures["O, as intended", "en: color_alter"]
    assert (intended.value, intended.num_missing) == (5, 1)


def test_a_reply_that_cannot_be_read_gets_a_random_score_as_published_alone(
    benchmark: Benchmark,
) -> None:
    unread = {name: LOW[name] for name in ("success", "overediting")}
    scores = [benchmark.score(item, unread) for item in benchmark.items()]
    guesses = [score["PQ, as published"] for score in scores]
    assert len(set(guesses)) > 1
    assert all(guess in range(11) for guess in guesses)
    assert [score["PQ, as intended"] for score in scores] == [None] * 4
    assert [score["O, as intended"] for score in scores] == [None] * 4
    assert guesses == [benchmark.score(i, unread)["PQ, as published"] for i in benchmark.items()]
    for guess, score in zip(guesses, scores, strict=True):
        assert guess is not None
        assert score["O, as published"] == pytest.approx(math.sqrt(2 * guess))
    assert values(benchmark, unread, TEN, TEN, TEN)["O, as intended", "en"].num_unjudged == 1


@pytest.mark.parametrize(
    ("reply", "axes"),
    [
        ('{"score": [8, 6],\n"reasoning": "fine"}', (8, 6)),
        ('Sure:\n{"score": 7, "reasoning": ""}', (7, 7)),
        ("[6, 0]", (6, 0)),
        (" 9 ", (9, 9)),
        ("Nine of ten.", None),
        ('{"score": "high"}', None),
        ('{"score": [8, 6]', (8, 6)),
        ("As [asked], [8, 6]", None),
    ],
)
def test_recorded_replies_are_read_as_their_script_does(
    benchmark: Benchmark, reply: str, axes: tuple[int, int] | None
) -> None:
    named = axes and dict(zip(("success", "overediting"), axes, strict=True))
    assert benchmark.parse("SC", reply) == named


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_type": "dream"}, "row 0: task_type is 'dream'; expected one of background_change"),
        ({"instruction_language": "zh"}, "row 0: instruction_language is 'zh'; expected one of en"),
        ({"key": "b"}, "two items are color_alter/en/b"),
        ({"Intersection_exist": None}, "row 0: Intersection_exist holds NoneType"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    gedit(tmp_path, [GEDIT_ROWS[0] | change, *GEDIT_ROWS[1:]])
    with pytest.raises(UserError, match=message):
        open_benchmark("gedit", str(tmp_path)).items()
