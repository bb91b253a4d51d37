from pathlib import Path
from typing import Any

import pytest
from public_benchmarks import RISE_ROWS, picture, risebench, write

from reasonray.core.errors import RowError, UserError
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.items import Axes, Benchmark, Figure, Item, JudgeCall, Scored

EDITED = picture("green")


def opened(folder: Path, rows: list[dict[str, Any]] = RISE_ROWS) -> Benchmark:
    risebench(folder, rows)
    return open_benchmark("risebench", str(folder))


def items(folder: Path, rows: list[dict[str, Any]] = RISE_ROWS) -> dict[str, Item]:
    return {item.id: item for item in opened(folder, rows).items()}


def asked(folder: Path) -> dict[str, dict[str, JudgeCall]]:
    benchmark = opened(folder)
    return {
        item.id: {call.name: call for call in benchmark.calls(item, EDITED)}
        for item in benchmark.items()
    }


def colours(call: JudgeCall) -> list[object]:
    names = {(255, 0, 0): "before", (0, 0, 255): "truth", (0, 128, 0): "after"}
    return [names[each.getpixel((0, 0))] for each in call.pictures]  # type: ignore[index]


def scores(benchmark: Benchmark, item: Item, axes: Axes | None, measure: str) -> list[float | None]:
    """As published, as intended."""
    own = benchmark.score(item, axes)
    return [own[f"{measure}, as published"], own[f"{measure}, as intended"]]


def test_the_list_gives_one_shape(tmp_path: Path) -> None:
    first = items(tmp_path)["temporal_reasoning_1"]
    assert (first.group, first.language) == ("temporal_reasoning", "en")
    assert first.instruction == "Show it a month on."
    assert first.reference_text == "A withered leaf."
    assert first.pictures[0].uri == str(tmp_path / "data/temporal_reasoning_images/1.png")
    third = items(tmp_path)["spatial_reasoning_1"]
    assert third.references[0].uri.endswith("spatial_reasoning_images/1_ans.png")


def test_the_edited_picture_lies_where_their_script_looks(tmp_path: Path) -> None:
    benchmark = opened(tmp_path)
    name = benchmark.output_name(benchmark.items()[0])
    assert name == "images/temporal_reasoning/temporal_reasoning_1.png"


def test_each_kind_of_item_is_asked_about_as_their_script_does(tmp_path: Path) -> None:
    shown = {
        key: {name: colours(call) for name, call in calls.items()}
        for key, calls in asked(tmp_path).items()
    }
    assert shown == {
        "temporal_reasoning_1": {
            "consistency": ["before", "after"],
            "reasoning": ["after"],
            "plausibility": ["after"],
        },
        "causal_reasoning_1": {"reasoning": ["before", "after"], "plausibility": ["after"]},
        "spatial_reasoning_1": {
            "consistency": ["truth", "after"],
            "reasoning": ["truth", "after"],
            "plausibility": ["after"],
        },
        "logical_reasoning_1": {"consistency": ["before", "after"], "reasoning": ["after"]},
        "logical_reasoning_2": {
            "consistency": ["truth", "after"],
            "reasoning": ["truth", "after"],
            "reasoning_as_published": ["truth", "after"],
        },
        "logical_reasoning_3": {
            "consistency": ["truth", "after"],
            "reasoning": ["truth", "after"],
        },
    }


def test_the_prompt_says_what_is_shown_what_was_asked_and_what_is_right(tmp_path: Path) -> None:
    calls = asked(tmp_path)
    causal = calls["causal_reasoning_1"]["reasoning"]
    assert "1. the picture before the edit\n2. the edited picture" in causal.prompt
    assert "The instruction: Let it fall.\nThe reference: Shards on the floor." in causal.prompt
    assert "- reasoning (1 to 5): " in causal.prompt
    assert dict(causal.axes) == {"reasoning": (1, 5)}
    assert dict(calls["logical_reasoning_1"]["consistency"].axes) == {"consistency": (0, 1)}
    assert "The reference" not in calls["temporal_reasoning_1"]["consistency"].prompt


def test_where_one_logic_item_has_no_problem_theirs_have_none(tmp_path: Path) -> None:
    calls = asked(tmp_path)
    assert "Draw the next shape." in calls["logical_reasoning_2"]["reasoning"].prompt
    assert "Draw" not in calls["logical_reasoning_2"]["reasoning_as_published"].prompt
    assert "Draw" not in calls["logical_reasoning_3"]["reasoning"].prompt


@pytest.mark.parametrize(
    ("axes", "score"),
    [
        ((1, 5, 5), 70.0),  # .3 + 2.5 + 1 = 3.8
        ((4, 3, 5), 67.5),  # 1.2 + 1.5 + 1 = 3.7
        ((5, 1, 5), 12.5),  # (1.5 + .5 + 1) / 2 = 1.5
        ((1, 1, 1), 0.0),  # .5 is raised to 1
        ((5, 5, 5), 100.0),
    ],
)
def test_worked_examples_without_the_faulty_column(
    tmp_path: Path, axes: tuple[int, int, int], score: float
) -> None:
    benchmark = opened(tmp_path, RISE_ROWS[:1])
    judged = dict(zip(("consistency", "reasoning", "plausibility"), axes, strict=True))
    [item] = benchmark.items()
    assert scores(benchmark, item, judged, "score") == pytest.approx([score, score])
    right = 100.0 if axes == (5, 5, 5) else 0.0
    assert scores(benchmark, item, judged, "accuracy") == [right, right]


def test_with_the_column_their_score_forgets_consistency_in_every_other_item(
    tmp_path: Path,
) -> None:
    benchmark = opened(tmp_path)
    by_id = {item.id: item for item in benchmark.items()}
    judged = {"consistency": 1, "reasoning": 5, "plausibility": 5}
    wrong = scores(benchmark, by_id["temporal_reasoning_1"], judged, "score")
    assert wrong == pytest.approx([100.0, 70.0])  # .8 x 5 + .2 x 5, where .3 + 2.5 + 1 is meant
    free = scores(benchmark, by_id["causal_reasoning_1"], judged, "score")
    assert free == pytest.approx([100.0, 100.0])
    assert scores(benchmark, by_id["temporal_reasoning_1"], judged, "accuracy") == [0, 0]


@pytest.mark.parametrize(
    ("axes", "score"),
    [
        ((1, 1), 100.0),
        ((0, 1), 70.0),  # .3 x 1 + .7 x 5 = 3.8
        ((1, 0), 2.5),  # (.3 x 5 + .7 x 1) / 2 = 1.1
        ((0, 0), 0.0),
    ],
)
def test_logic_of_0_and_1_stands_for_1_and_5(
    tmp_path: Path, axes: tuple[int, int], score: float
) -> None:
    benchmark = opened(tmp_path)
    item = benchmark.items()[3]
    judged = dict(zip(("consistency", "reasoning"), axes, strict=True))
    assert scores(benchmark, item, judged, "score") == pytest.approx([score, score])


def test_logic_judged_without_its_problem_counts_as_published_alone(tmp_path: Path) -> None:
    benchmark = opened(tmp_path)
    judged = {"consistency": 1, "reasoning": 1, "reasoning_as_published": 0}
    pair = scores(benchmark, benchmark.items()[4], judged, "score")
    assert pair == pytest.approx([2.5, 100.0])


def test_a_reply_that_was_never_valid_is_wrong_in_their_accuracy_and_leaves_their_means(
    tmp_path: Path,
) -> None:
    benchmark = opened(tmp_path, RISE_ROWS[:1])
    [item] = benchmark.items()
    judged = {"consistency": 5, "plausibility": 5}
    assert scores(benchmark, item, judged, "accuracy") == [0.0, None]
    assert scores(benchmark, item, judged, "score") == [None, None]
    assert scores(benchmark, item, judged, "consistency") == [None, 100.0]


def figure(figures: list[Figure], measure: str, group: str = "") -> Figure:
    [one] = [each for each in figures if (each.measure, each.group) == (measure, group)]
    return one


def test_the_table_has_the_whole_the_categories_and_the_subtasks(tmp_path: Path) -> None:
    benchmark = opened(tmp_path)
    judged: list[Axes] = [
        {"consistency": 5, "reasoning": 5, "plausibility": 5},
        {"reasoning": 3, "plausibility": 5},
        {"consistency": 5, "reasoning": 3, "plausibility": 5},
        {"consistency": 1, "reasoning": 1},
        {"consistency": 1, "reasoning": 0, "reasoning_as_published": 1},
        {"consistency": 0, "reasoning": 0},
    ]
    scored = [Scored(*pair) for pair in zip(benchmark.items(), judged, strict=True)]
    figures = benchmark.aggregate(scored)
    groups = list(dict.fromkeys(each.group for each in figures))
    assert groups[:3] == ["", "temporal_reasoning", "temporal_reasoning: Ripening"]
    # 100, .8 x 3 + 1 = 3.4, 1.5 + 1.5 + 1 = 4, 100, 1.1, 1
    intended = figure(figures, "score, as intended")
    assert intended.value == pytest.approx((100 + 60 + 75 + 100 + 2.5 + 0) / 6)
    published = figure(figures, "score, as published")
    assert published.value == pytest.approx((100 + 60 + 60 + 100 + 100 + 0) / 6)
    assert figure(figures, "accuracy, as intended").value == pytest.approx(200 / 6)
    rows = figure(figures, "reasoning, as intended", "logical_reasoning: Rows")
    assert (rows.value, rows.num_items) == (0, 2)
    assert figure(figures, "plausibility, as intended").num_items == 3


def test_a_missing_picture_stops_their_script_and_is_the_lowest_score(tmp_path: Path) -> None:
    benchmark = opened(tmp_path, RISE_ROWS[:2])
    first, second = benchmark.items()
    figures = benchmark.aggregate(
        [Scored(first, {"consistency": 5, "reasoning": 5, "plausibility": 5}), Scored(second, None)]
    )
    intended = figure(figures, "score, as intended")
    assert (intended.value, intended.num_items, intended.num_missing) == (50.0, 2, 1)
    assert figure(figures, "accuracy, as intended").value == 50.0
    assert figure(figures, "score, as published").value is None


@pytest.mark.parametrize(
    ("reply", "axes"),
    [
        ("I saw 3 cups.\n\n**Final Score:** **4**", {"reasoning": 4}),
        ("Final Score: 2", {"reasoning": 2}),
        ("**Final Scores**: **5**", {"reasoning": 5}),
        ("**Final Score:** **1-5** is asked; Final Score: 3", {"reasoning": 1}),
        ("Final Score: 4, 5", None),
        ("Four of five.", None),
        ("", None),
    ],
)
def test_recorded_replies_are_read_as_their_script_does(
    tmp_path: Path, reply: str, axes: dict[str, int] | None
) -> None:
    assert opened(tmp_path).parse("reasoning", reply) == axes


def test_a_picture_that_is_missing_in_the_benchmark_is_the_rows_error(tmp_path: Path) -> None:
    benchmark = opened(tmp_path)
    (tmp_path / "data/temporal_reasoning_images/1.png").unlink()
    with pytest.raises(RowError, match=r"temporal_reasoning_images/1\.png"):
        benchmark.calls(benchmark.items()[0], EDITED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "moral_reasoning"}, "item 0: category is 'moral_reasoning'; expected one of"),
        ({"instruction": ["Show", "it"]}, "item 0: instruction holds list"),
        ({"image": None}, "item 0: no image"),
        ({"reference": None}, "item 0: no reference and no reference_img"),
        ({"index": "causal_reasoning_1"}, "two items are causal_reasoning_1"),
    ],
)
def test_a_wrong_entry_is_named_with_file_and_item(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    risebench(tmp_path)
    changed = [RISE_ROWS[0] | change, *RISE_ROWS[1:]]
    write(tmp_path / "datav2_total_w_subtask.json", changed)
    with pytest.raises(UserError, match=rf"datav2_total_w_subtask\.json.*{message}"):
        open_benchmark("risebench", str(tmp_path)).items()
