"""What an ablation says: which step brings how much, and which one does not hold."""

import json
from pathlib import Path

import pytest
import toy_ablation
from finished_evaluation import figures, measured

from reasonray.core.recipe import load
from reasonray.dataset.manifest import complete_manifest
from reasonray.evaluation.ablation.report import gains, write_report
from reasonray.evaluation.ablation.variants import Variant, variants
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.report import outcome_of
from reasonray.evaluation.results import Outcome
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
