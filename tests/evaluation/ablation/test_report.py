"""What an ablation says: which step brings how much, and which one does not hold."""

import json
import math
from pathlib import Path

import pytest
import toy_ablation
from finished_evaluation import figures, measured

from reasonray.core.recipe import load
from reasonray.dataset.manifest import complete_manifest
from reasonray.evaluation.ablation.report import gains, write_report
from reasonray.evaluation.ablation.variants import Variant, variants
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.items import Item, Scored
from reasonray.evaluation.report import outcome_of
from reasonray.evaluation.results import EditorScores, Outcome
from reasonray.evaluation.subjects import opened

OFFSETS = {"baseline": 0.0, "mllm": 0.01, "I": 0.2, "I+II": 0.2, "I+II+III": 0.3}
"""How much each variant has over the baseline, in every measure and item."""


def made(folder: Path) -> tuple[list[Variant], Outcome]:
    """Variants of known figures; I+II differs from I item by item, but not in the mean."""
    toy_ablation.lay_out(folder)
    compared = variants(load(folder / "recipe.yaml"), complete_manifest(folder / "data"))
    own = opened(str(folder / "benchmark"))
    before = [item.pictures[0].open() for item in own.items]
    for name, offset in OFFSETS.items():
        wobble = [0.05 * (-1) ** (n // 2) if name == "I+II" else 0.0 for n in range(len(own.items))]
        axes = [figures(n, offset + wobble[n]) for n in range(len(own.items))]
        measured(folder / "evaluation", own, name, before, axes)
    specs = [Spec(each.name, f"/{each.name}") for each in compared]
    return compared, outcome_of(folder / "evaluation", specs, own, {"clip": {"name": "a-clip"}})


@pytest.fixture
def ablation(tmp_path: Path) -> tuple[list[Variant], Outcome]:
    return made(tmp_path)


def test_each_step_has_its_paired_gain_and_holds_or_not(
    ablation: tuple[list[Variant], Outcome],
) -> None:
    found = {
        (each.before, each.after, each.group, each.measure): each
        for each in gains(ablation[1].scores)
    }
    steps = {key[:2] for key in found}
    assert steps == {
        ("baseline", "I"), ("I", "I+II"), ("I+II", "I+II+III"),
        ("baseline", "mllm"), ("mllm", "I+II+III"),
    }  # fmt: skip
    first = found["baseline", "I", "reasoning", "CLIP-I"]
    assert first.difference == pytest.approx(0.2)
    assert first.interval == pytest.approx((0.2, 0.2))
    assert first.holds
    # More of a distance is worse.
    assert not found["baseline", "I", "reasoning", "L1"].holds
    second = found["I", "I+II", "direct", "CLIP-I"]
    assert second.difference == pytest.approx(0.0, abs=1e-9)
    assert second.interval is not None
    assert second.interval[0] < 0 < second.interval[1]
    assert not second.holds


@pytest.mark.parametrize(
    ("measure", "sign"), [("L1", -1), ("L2", -1), ("CLIP-I", 1), ("DINO", 1), ("following", 1)]
)
def test_a_step_holds_where_its_whole_interval_is_on_the_better_side(
    measure: str, sign: int
) -> None:
    """From the baseline to I all items are better, to I+II most, to I+II+III all are worse."""
    steps: dict[str, list[float]] = {
        "baseline": [0.0] * 8,
        "I": [sign * (0.5 + 0.01 * number) for number in range(8)],
        "I+II": [sign * (1.3 - 0.2 * number) for number in range(8)],
        "I+II+III": [-sign * number for number in range(8)],
        "mllm": [math.nan] * 8,
    }
    items = [Item(str(number), "", "en", (), "go") for number in range(8)]
    scored = [Scored(each, {}) for each in items]
    nothing: list[str | None] = [None] * 8
    scores = {
        name: EditorScores(scored, {measure: values}, nothing, nothing, nothing, [], [{}] * 8)
        for name, values in steps.items()
    }
    made_of = {(each.before, each.after): each for each in gains(scores)}
    for step, difference, holds in (
        (("baseline", "I"), 0.535, True),
        (("I", "I+II"), 0.065, False),
        (("I+II", "I+II+III"), -4.1, False),
    ):
        assert made_of[step].difference == pytest.approx(sign * difference)
        assert made_of[step].holds == holds
    assert made_of["baseline", "mllm"].difference is None
    assert not made_of["baseline", "mllm"].holds


def test_a_report_has_table_gains_and_two_charts(
    tmp_path: Path, ablation: tuple[list[Variant], Outcome]
) -> None:
    compared, outcome = ablation
    path = write_report(tmp_path / "out", compared, [outcome])
    assert path == tmp_path / "out/table.md"
    text = path.read_text()
    assert "- mllm: the multimodal model in the text encoder's place" in text
    [step] = [line for line in text.splitlines() if line.startswith("| direct | baseline → I |")]
    assert "**+0.2000 (+0.2000 to +0.2000)**" in step
    [step] = [line for line in text.splitlines() if line.startswith("| direct | I → I+II |")]
    assert "**" not in step
    charts = sorted(path.name for path in (tmp_path / "out/charts").iterdir())
    assert charts == ["ours-data.png", "ours-data.svg", "ours-model.png", "ours-model.svg"]
    assert all(f"](charts/{name})" in text for name in charts if name.endswith(".png"))
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert list(results["variants"]) == list(OFFSETS)
    ours = results["benchmarks"]["ours"]
    assert ours["measured_by"] == {"clip": {"name": "a-clip"}}
    mean = ours["variants"]["I"]["direct"]["CLIP-I"]
    assert mean["interval"][0] < mean["mean"] < mean["interval"][1]
    assert len(ours["gains"]) == 5 * 2 * 5


def test_a_benchmark_without_clip_i_is_shown_by_its_first_measure(
    tmp_path: Path, ablation: tuple[list[Variant], Outcome]
) -> None:
    compared, outcome = ablation
    for own in outcome.scores.values():
        own.values.pop("CLIP-I")
    table = {
        variant: {
            group: {name: cell for name, cell in row.items() if name != "CLIP-I"}
            for group, row in by_group.items()
        }
        for variant, by_group in outcome.table.items()
    }
    shown = Outcome(outcome.subject, {}, outcome.scores, table, {})
    write_report(tmp_path / "out", compared, [shown])
    assert "L1, mean and 95 % interval" in (tmp_path / "out/charts/ours-data.svg").read_text()
