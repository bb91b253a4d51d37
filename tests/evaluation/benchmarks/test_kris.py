from pathlib import Path

import pytest
from public_benchmarks import KRIS_ROWS, kris, picture

from reasonray.core.errors import RowError, UserError
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.items import Axes, Benchmark, Figure, Item, JudgeCall, Scored

EDITED = picture("green")


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    kris(tmp_path)
    return open_benchmark("kris", str(tmp_path))


def item(benchmark: Benchmark, group: str) -> Item:
    [one] = [each for each in benchmark.items() if each.group == group]
    return one


def asked(benchmark: Benchmark, group: str) -> dict[str, JudgeCall]:
    calls = benchmark.calls(item(benchmark, group), EDITED)
    return {call.name: call for call in calls}


def values(benchmark: Benchmark, judged: dict[str, Axes | None]) -> dict[tuple[str, str], Figure]:
    scored = [Scored(item(benchmark, group), axes) for group, axes in judged.items()]
    return {(each.measure, each.group): each for each in benchmark.aggregate(scored)}


def test_each_category_is_read_from_its_own_folder(benchmark: Benchmark, tmp_path: Path) -> None:
    items = benchmark.items()
    assert [each.id for each in items] == sorted(f"{group}/1" for group in KRIS_ROWS)
    biology = item(benchmark, "biology")
    assert (biology.instruction, biology.reference_text) == (
        "Water it.",
        "Plants rise with water.",
    )
    assert biology.pictures[0].uri == str(tmp_path / "KRIS_Bench/biology/1.png")
    assert len(item(benchmark, "multi-element_composition").pictures) == 3
    assert benchmark.output_name(biology) == "biology/1.jpg"


def test_knowledge_is_judged_with_the_instruction_in_one_call(benchmark: Benchmark) -> None:
    calls = asked(benchmark, "biology")
    assert list(calls["knowledge"].axes) == ["instruction", "knowledge"]
    assert "Plants rise with water." in calls["knowledge"].prompt
    assert "Plants" not in calls["consistency"].prompt
    assert "knowledge" not in asked(benchmark, "color_change")


def test_their_scripts_tell_the_judge_nothing_and_ours_do(benchmark: Benchmark) -> None:
    calls = asked(benchmark, "color_change")
    assert list(calls) == [
        *("consistency", "instruction"),
        *("consistency_as_published", "instruction_as_published"),
        "quality",
    ]
    for name in ("consistency", "instruction"):
        assert "The instruction: Paint the cup green.\n" in calls[name].prompt
        untold = calls[f"{name}_as_published"]
        assert "The instruction: \n" in untold.prompt
        assert list(untold.axes) == [f"{name}_as_published"]
    assert "The explanation: \n" in asked(benchmark, "biology")["knowledge_as_published"].prompt


def test_the_explanation_of_an_anomaly_is_shown_as_intended_alone(benchmark: Benchmark) -> None:
    calls = asked(benchmark, "anomaly_correction")
    assert "A clock has one face." in calls["instruction"].prompt
    assert "explanation" not in calls["instruction_as_published"].prompt


def test_categories_of_another_name_are_passed_over_as_published(benchmark: Benchmark) -> None:
    assert list(asked(benchmark, "count_change")) == ["consistency", "instruction", "quality"]
    figures = values(
        benchmark,
        {
            "count_change": {"consistency": 5, "instruction": 5, "quality": 5},
            "color_change": {"consistency": 1, "instruction": 1, "quality": 1}
            | {"consistency_as_published": 1, "instruction_as_published": 1},
        },
    )
    published, intended = (figures[f"AVG, as {end}", ""] for end in ("published", "intended"))
    assert (published.value, published.num_items) == (0, 1)
    assert (intended.value, intended.num_items) == (50, 2)


def test_frames_are_shown_in_order_with_the_edited_in_its_place(benchmark: Benchmark) -> None:
    call = asked(benchmark, "temporal_prediction")["instruction"]
    shown = [each.getpixel((0, 0)) for each in call.pictures]
    assert shown == [(255, 0, 0), (255, 0, 0), (0, 128, 0), (255, 0, 0)]
    assert "3. frame 3, made by the editor" in call.prompt
    assert "4. frame 4, given" in call.prompt


def test_a_viewpoint_is_judged_beside_its_truth(benchmark: Benchmark, tmp_path: Path) -> None:
    calls = asked(benchmark, "viewpoint_change")
    assert len(calls["instruction"].pictures) == 3
    assert len(calls["consistency"].pictures) == 2
    kris(tmp_path / "b", {"viewpoint_change": {"1": {"ori_img": "1.png", "ins_en": "Turn it."}}})
    without = open_benchmark("kris", str(tmp_path / "b"))
    with pytest.raises(RowError, match="viewpoint_change/1: no gt_img"):
        without.calls(without.items()[0], EDITED)


def test_all_sources_of_a_composition_are_shown(benchmark: Benchmark) -> None:
    call = asked(benchmark, "multi-element_composition")["consistency"]
    assert len(call.pictures) == 4
    assert "3. source picture 3\n4. the edited picture" in call.prompt


BOTH: dict[str, Axes | None] = {
    # 50, 100, 75 in per cent, and told nothing 0, 0, 75
    "color_change": {"consistency": 3, "instruction": 5, "quality": 4}
    | {"consistency_as_published": 1, "instruction_as_published": 1},
    # 100, 50, 0, 100, and told nothing 100, 25, 0, 100
    "biology": {"consistency": 5, "instruction": 3, "knowledge": 1, "quality": 5}
    | {"consistency_as_published": 5, "instruction_as_published": 2, "knowledge_as_published": 1},
}


def test_a_worked_example_in_which_every_score_counts_alike(benchmark: Benchmark) -> None:
    figures = values(benchmark, BOTH)
    # Over seven scores; the mean of the two items' means would be 68.75.
    assert figures["AVG, as intended", ""].value == pytest.approx(475 / 7)
    assert figures["AVG, as published", ""].value == pytest.approx(300 / 7)
    assert figures["AVG, as intended", "Factual Knowledge"].value == 75
    assert figures["AVG, as intended", "Natural Science"].value == 62.5
    assert figures["KP, as intended", "Natural Science: biology"].value == 0
    assert figures["VC, as intended", "Attribute Perception"].value == 50
    assert ("KP, as intended", "Attribute Perception") not in figures


def test_an_items_own_score_is_the_mean_of_its_figures(benchmark: Benchmark) -> None:
    score = benchmark.score(item(benchmark, "color_change"), BOTH["color_change"])
    assert score["AVG, as intended"] == 75
    assert score["AVG, as published"] == 25
    assert score["IF, as intended"] == 100


def test_missing_pictures_and_replies_leave_their_means(benchmark: Benchmark) -> None:
    figures = values(benchmark, {"color_change": None, "biology": {"consistency": 5, "quality": 3}})
    published, intended = (figures[f"AVG, as {end}", ""] for end in ("published", "intended"))
    assert published.value == 50  # the quality alone
    assert intended.value == pytest.approx((0 + 0 + 0 + 100 + 50) / 5)
    assert (intended.num_items, intended.num_missing, intended.num_unjudged) == (2, 1, 1)


@pytest.mark.parametrize(
    ("call", "reply", "axes"),
    [
        ("quality", '{"reasoning": "x", "quality_score": 4}', {"quality": 4}),
        ("consistency", "consistency score: 2, for 3 reasons", {"consistency": 2}),
        ("instruction", "It earns 4/5.", {"instruction": 4}),
        ("consistency", "I count 3 cups, all unchanged: perfect.", {"consistency": 3}),
        ("quality", "Perfect.", None),
        (
            "knowledge",
            '{"instruction_score": 5, "knowledge_score": 2}',
            {"instruction": 5, "knowledge": 2},
        ),
        ("knowledge", "knowledge_score: 3", {"knowledge": 3}),
        ("knowledge", "I count 3 cups.", None),
        ("quality_as_published", '{"quality_score": 1}', {"quality_as_published": 1}),
    ],
)
def test_any_digit_of_prose_is_taken_for_a_score_as_published(
    benchmark: Benchmark, call: str, reply: str, axes: dict[str, int] | None
) -> None:
    assert benchmark.parse(call, reply) == axes


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ({"dreams": KRIS_ROWS["biology"]}, "dreams/annotation.json: its folder is no category"),
        ({"biology": {"1": {"ori_img": "1.png"}}}, r"biology/annotation.json item 1: no ins_en"),
        ({"biology": {"1": {"ori_img": [], "ins_en": "x"}}}, "item 1: ori_img holds list"),
    ],
)
def test_a_wrong_folder_or_entry_is_named(
    tmp_path: Path, categories: dict[str, dict[str, dict[str, object]]], message: str
) -> None:
    kris(tmp_path, categories)
    with pytest.raises(UserError, match=message):
        open_benchmark("kris", str(tmp_path)).items()


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no annotation\.json; found an empty folder"):
        open_benchmark("kris", str(tmp_path)).items()
