"""What holds for every benchmark."""

import pickle
from pathlib import Path

import pytest
from public_benchmarks import MAKERS, picture

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks import BENCHMARKS, open_benchmark
from reasonray.evaluation.items import INPUT_METRICS, TRUTH_METRICS, Benchmark, Scored


@pytest.fixture(params=BENCHMARKS)
def benchmark(request: pytest.FixtureRequest, tmp_path: Path) -> Benchmark:
    MAKERS[request.param](tmp_path)
    return open_benchmark(request.param, str(tmp_path))


def test_every_benchmark_is_read_asked_scored_and_tabled_from_end_to_end(
    benchmark: Benchmark,
) -> None:
    items = benchmark.items()
    scored = []
    for item in items:
        edited = picture("green")
        calls = benchmark.calls(item, edited)
        assert bool(calls) == (benchmark.yardstick == "judge") == bool(benchmark.rubric)
        assert len({call.name for call in calls}) == len(calls)
        ranges = [pair for call in calls for pair in call.axes.items()]
        axes = {name: float(high) for name, (_, high) in ranges}
        assert len(axes) == len(ranges)
        for call in calls:
            assert all(
                f"- {name} ({low} to {high})" in call.prompt
                for name, (low, high) in ranges
                if name in call.axes
            )
            assert all(each.mode == "RGB" for each in call.pictures)
        names = TRUTH_METRICS if benchmark.yardstick == "truth" else INPUT_METRICS
        scored.append(Scored(item, axes or dict.fromkeys(names, 0.5)))
        assert benchmark.score(item, scored[-1].axes)
    figures = benchmark.aggregate(scored)
    assert all(each.num_missing == each.num_unjudged == 0 for each in figures)
    tops = {each.value for each in figures if each.value is not None}
    assert tops in ({100.0}, {10.0}, {5.0}, {0.5})


def test_a_benchmark_of_which_nothing_came_has_counts_and_the_lowest_scores(
    benchmark: Benchmark,
) -> None:
    figures = benchmark.aggregate([Scored(item, None) for item in benchmark.items()])
    assert figures
    for each in figures:
        assert each.num_missing == each.num_items > 0
        assert each.value in (None, 1.0 if benchmark.name == "imgedit" else 0.0)
        if benchmark.yardstick == "judge":
            assert (each.value is None) == each.measure.endswith("as published")


def test_a_judge_that_never_answers_leaves_nothing_to_take_a_mean_of(benchmark: Benchmark) -> None:
    figures = benchmark.aggregate([Scored(item, {}) for item in benchmark.items()])
    for each in figures:
        assert each.num_unjudged == each.num_items > 0 or "as published" in each.measure
        if not each.measure.endswith("as published"):
            assert each.value is None


def test_items_are_the_same_whenever_read_and_travel_to_other_processes(
    benchmark: Benchmark,
) -> None:
    items = benchmark.items()
    assert pickle.loads(pickle.dumps(list(items))) == list(items)
    assert list(benchmark.items()) == list(items)
    outputs = [benchmark.output_name(item) for item in items]
    assert len(set(outputs)) == len(outputs)
    assert len(items) < benchmark.num_published


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such benchmark \(valid: risebench, kris"):
        open_benchmark("mine", str(tmp_path))


def test_a_folder_that_is_not_there_is_the_benchmarks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^benchmark {tmp_path}/no: there is no such folder"):
        open_benchmark("kris", f"{tmp_path}/no")
