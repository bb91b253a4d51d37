from pathlib import Path

import pytest
from public_benchmarks import IMGEDIT_ROWS, imgedit, picture

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.benchmarks.imgedit import TYPES
from reasonray.evaluation.items import Axes, Benchmark, Figure, Scored


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    imgedit(tmp_path)
    return open_benchmark("imgedit", str(tmp_path))


def axes(kind: str, *numbers: int) -> dict[str, float]:
    return dict(zip(TYPES[kind], numbers, strict=False))


def values(benchmark: Benchmark, *judged: Axes | None) -> dict[tuple[str, str], Figure]:
    scored = [Scored(*pair) for pair in zip(benchmark.items(), judged, strict=True)]
    return {(each.measure, each.group): each for each in benchmark.aggregate(scored)}


def pair(benchmark: Benchmark, judged: Axes | None) -> list[float | None]:
    return list(benchmark.score(benchmark.items()[0], judged).values())


def test_the_list_gives_one_shape(benchmark: Benchmark, tmp_path: Path) -> None:
    first = benchmark.items()[0]
    assert (first.id, first.group, first.instruction) == ("1082", "adjust", "Make its shell blue.")
    assert first.pictures[0].uri == str(tmp_path / "Benchmark/singleturn/animal/000000001.jpg")
    assert benchmark.output_name(first) == "1082.png"


def test_the_hubs_name_of_the_list_is_read_too(benchmark: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "basic_edit.json").rename(tmp_path / "Benchmark/singleturn/singleturn.json")
    again = open_benchmark("imgedit", str(tmp_path))
    assert [item.id for item in again.items()] == list(IMGEDIT_ROWS)


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_has_its_own_three_axes_in_one_call(tmp_path: Path, kind: str) -> None:
    imgedit(tmp_path, {"1": {"id": "a/1.jpg", "prompt": "Do it.", "edit_type": kind}})
    benchmark = open_benchmark("imgedit", str(tmp_path))
    [call] = benchmark.calls(benchmark.items()[0], picture("green"))
    assert list(call.axes) == list(TYPES[kind])
    assert set(call.axes.values()) == {(1, 5)}
    assert [each.getpixel((0, 0)) for each in call.pictures] == [(255, 0, 0), (0, 128, 0)]
    assert "Do it." in call.prompt


def test_worked_examples(benchmark: Benchmark) -> None:
    assert pair(benchmark, axes("adjust", 5, 4, 3)) == [4.0, 4.0]
    assert pair(benchmark, axes("adjust", 5, 3, 3)) == [3.67, pytest.approx(11 / 3)]


def test_what_was_not_done_is_saved_by_no_other_axis_as_intended(benchmark: Benchmark) -> None:
    assert pair(benchmark, axes("adjust", 2, 5, 5)) == [4.0, 2.0]
    assert pair(benchmark, axes("adjust", 4, 5, 3)) == [4.0, pytest.approx(11 / 3)]


def test_a_table_has_the_types_and_the_mean_of_all_items(benchmark: Benchmark) -> None:
    figures = values(
        benchmark, axes("adjust", 5, 5, 5), axes("style", 4, 3, 3), axes("style", 3, 3, 3)
    )
    assert figures["score, as published", "style"].value == round((3.33 + 3) / 2, 2)
    assert figures["score, as intended", "style"].value == pytest.approx((10 / 3 + 3) / 2)
    assert figures["score, as intended", ""].value == pytest.approx((5 + 10 / 3 + 3) / 3)


def test_a_missing_picture_stops_their_script_and_is_the_lowest_score(
    benchmark: Benchmark,
) -> None:
    good = axes("style", 5, 5, 5)
    figures = values(benchmark, axes("adjust", 5, 5, 5), good, None)
    assert figures["score, as published", ""].value is None
    intended = figures["score, as intended", "style"]
    assert (intended.value, intended.num_items, intended.num_missing) == (3.0, 2, 1)


def test_lines_with_anything_more_are_passed_over_and_the_mean_is_of_the_others(
    benchmark: Benchmark,
) -> None:
    reply = "Brief reasoning: none.\nPrompt Compliance: 1.\nVisual Seamlessness: 5\nDetail: 5"
    parsed = benchmark.parse("adjust", reply)
    assert parsed == axes("adjust", 5, 5)
    assert pair(benchmark, parsed) == [5.0, None]
    whole = benchmark.parse("adjust", "A: 1\nB: 4\nC: 4")
    assert whole == axes("adjust", 1, 4, 4)
    for unread in ("", "Prompt Compliance: one", "A: 1\nB: 2\nC: 3\nD: 4"):
        assert benchmark.parse("adjust", unread) is None


def test_a_reply_that_was_never_valid_is_counted(benchmark: Benchmark) -> None:
    figures = values(benchmark, {}, axes("style", 4, 4, 4), axes("style", 4, 4, 4))
    for end in ("published", "intended"):
        figure = figures[f"score, as {end}", ""]
        assert (figure.value, figure.num_items, figure.num_unjudged) == (4.0, 3, 1)


def test_an_unknown_type_is_named(tmp_path: Path) -> None:
    imgedit(tmp_path, {"5": IMGEDIT_ROWS["9"] | {"edit_type": "dream"}})
    with pytest.raises(UserError, match=r"basic_edit\.json item 5: edit_type is 'dream'; expected"):
        open_benchmark("imgedit", str(tmp_path)).items()
