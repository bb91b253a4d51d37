import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from reasonray.cli.main import call
from reasonray.core.errors import UserError
from reasonray.core.packing import fit_on_gpus
from reasonray.core.recipe import RECIPES, Recipe, load
from reasonray.costs import architectures, plan
from reasonray.costs.generation import GenerationPlan, plan_generation
from reasonray.costs.hardware import KINDS
from reasonray.costs.work import CPU_SECONDS, cpu_seconds, picture_size, visits
from reasonray.dataset.manifest import Manifest, PartCounts, StageTiming

pytestmark = pytest.mark.slow

MINI: dict[str, Any] = {"count": 1000, "gpu": "cpu", "num_gpus": 8}
ZOO = "package:reasonray/mini/zoo"


def manifest(folder: Path, recipe: Recipe, seconds: float = 3.0, accepted: int = 10) -> Path:
    """Of a run of ten inputs a part, each stage of which took as long for each of its rows."""
    names = [name for pool in recipe.pools for name in pool.stages]
    thirds = {"I": 1 / 3, "II": 1 / 3, "III": 1 / 3}
    due = {name: round(30 * visits(name, thirds)) for name in names}
    content = Manifest(
        inputs=30, accepted=24, rejected=6,
        parts={
            "I": PartCounts(inputs=10, accepted=4, rejected=6),
            "II": PartCounts(inputs=10, accepted=accepted, rejected=10 - accepted),
            "III": PartCounts(inputs=10, accepted=accepted, rejected=10 - accepted),
        },
        rejections={}, distinct_instructions=24, models=[], reasonray="0",
        recipe_hash=recipe.hash(), divergence_threshold=None, seconds=60,
        stages={
            name: StageTiming(rows=rows, seconds=rows * seconds, rows_per_second=1 / seconds)
            for name, rows in due.items()
        },
        recipe=recipe.model_dump(mode="json"),
    )  # fmt: skip
    path = folder / "manifest.json"
    path.write_text(content.model_dump_json())
    return path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plan paper", ["UNet 860 M", "7.27 G", "FSDP over 8", "LoRA of rank", "cached", "fits"]),
        ("plan mini", ["on 2 cores", "language_model", "UNet 3.42 M", "1 token (last)"]),
        ("plan current --gpu a100", ["Qwen3-30B", "llmdet_large", "A100-hours", "on 4 GPUs"]),
    ],
)
def test_each_shipped_recipe_is_planned_to_the_end(
    line: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(line.split()) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for word in ["Assumed", "Measured", "samples", "disk", *words]:
        assert word in said.out
    assert said.out.index("Assumed") < said.out.index("Stages")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plan papr", "did you mean paper?"),
        ("plan paper --gpu foo", "--gpu foo: unknown (valid: h200, h100, a100, l4, cpu)"),
        ("plan paper --gpu h10", "did you mean h100?"),
        ("plan paper --count 0", "--count"),
        ("plan paper --utilisation 2", "--utilisation"),
        ("plan paper --measured nowhere.json", "cannot be read"),
        ("plan paper --measured not-one.json", "not a manifest of reasonray"),
        ("plan mini --gpu cpu --gpus 1", "pools take at least 2 cores of 4 GiB"),
        ("plan paper --gpus 1", "--gpus 1: this recipe's pools take at least 2 H100s"),
        ("plan paper --set stages.paint.model.name=CompVis/stable-diffusion-v1-4", "no GLIGEN"),
        (f"plan mini --set stages.caption.model.name={ZOO}/detector", "is of grounding-dino"),
        (f"plan mini --set editor.mllm.name={ZOO}/captioner", "is of blip-2, not of Llava"),
        (f"plan mini --set editor.base.name={ZOO}/detector", "is of grounding-dino, not of UNet"),
        ("plan mini --parts IV", "parts"),
    ],
)
def test_a_mistake_is_one_line(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not-one.json").write_text(json.dumps({"inputs": 3}))
    assert call(line.split()) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert words in said.err


@pytest.mark.parametrize(
    ("recipe", "gpu"), [("mini", "cpu"), ("paper", "a100"), ("current", "h100")]
)
def test_what_ships_fits_on_gpus_of_80_gb(recipe: str, gpu: str) -> None:
    pools = plan_generation(load(recipe), 100, KINDS[gpu], 8, 0.2, None).pools
    assert [pool.config.stages for pool in pools if not pool.fits] == []


def test_pictures_are_as_large_as_the_recipe_lets_them_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes, disks = [], []
    for max_side in ("null", "2048", "1024", "512"):
        small = load("mini", [f"images.max_side={max_side}"])
        sizes.append(picture_size(small))
        disks.append(plan_generation(small, 100, KINDS["cpu"], 8, 0.2, None).disk)
    assert sizes == [(1024, 768)] * 3 + [(512, 384)]
    assert disks[0] == disks[1] == disks[2] == pytest.approx(4 * disks[3])
    assert cpu_seconds("quality", small) == pytest.approx(CPU_SECONDS["quality"] / 4)
    assert cpu_seconds("propose", small) == CPU_SECONDS["propose"]
    assert call(["plan", "mini", "--set", "images.max_side=512"]) == 0
    assert "pictures of 512 x 384" in capsys.readouterr().out


def test_what_is_told_of_the_dataset_stands_on_lines_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prices = "language_model.server.prompt_price=1 language_model.server.completion_price=1"
    for settings in ([], [each for price in prices.split() for each in ("--set", price)]):
        assert call(["plan", "paper", *settings]) == 0
        begun = [line.split("  ")[0].strip() for line in capsys.readouterr().out.splitlines()]
        names = ["speed", "cost", "language model", "samples", "disk", "trained", "frozen", "steps"]
        assert [name for name in names if name not in begun] == []


def test_values_out_of_range_are_told() -> None:
    for wrong in ({"count": 0}, {"num_gpus": 0}, {"utilisation": 0.0}, {"price": 0.0}):
        with pytest.raises(UserError, match="expected"):
            plan("mini", **{**MINI, **wrong})


def test_the_settings_that_are_printed_make_the_recipe_as_planned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["plan", "paper"]) == 0
    said = capsys.readouterr().out
    [line] = [line for line in said.splitlines() if line.startswith("  --set pools.")]
    settings = [word for word in line.split() if word != "--set"]
    # The editor's processes are left open there: as many as the cluster has GPUs.
    assert not any(word.startswith("editor.") for word in settings)
    assert said.count("as it stands") == 1
    given = load("paper", settings)
    assert all(
        given.pools[pool.index].max_actors >= pool.actors for pool in generated("h100", 8).pools
    )
    assert call(["plan", "paper", *line.split()]) == 0
    again = capsys.readouterr().out
    assert "--set pools" not in again
    assert "as it stands" not in again


def test_a_recipe_as_it_stands_is_no_faster_than_its_actors() -> None:
    few, many = (generated("h100", 8, f"pools.5.max_actors={n}") for n in (2, 50))
    paint = next(pool for pool in few.pools if pool.index == 5)
    assert paint.actors > 2
    assert few.hours == many.hours == many.own_hours
    assert few.own_hours == pytest.approx(few.count * paint.need.seconds / 2 / 3600)
    assert few.settings == [f"pools.5.max_actors={paint.actors}"]
    # Without Part I, two pools go; the settings still name the recipe's.
    assert (
        generated("h100", 8, "pools.5.max_actors=2", 'parts=["III"]')
        .settings[0]
        .startswith("pools.5.")
    )


def test_actors_that_do_not_pack_are_not_planned() -> None:
    # Shares that fill eight GPUs, but not one by one.
    pools = generated("h100", 8, "pools.5.num_gpus=0.6").pools
    shares = [pool.config.num_gpus for pool in pools for _ in range(pool.actors)]
    assert fit_on_gpus(shares, [8])
    with pytest.raises(UserError, match="at least 4 H100s"):
        generated("h100", 3, "pools.5.num_gpus=0.8", "pools.5.min_actors=3")


def test_an_actor_on_cores_takes_its_memorys_part_of_them() -> None:
    found = generated("cpu", 64)
    paint = next(pool for pool in found.pools if pool.index == 5)
    assert not paint.fits
    assert sum(pool.actors * pool.memory for pool in found.pools) <= 64 * 4 * 2**30
    assert generated("cpu", 64, "pools.5.num_cpus=5").pools[5].fits


def test_price_and_number_are_of_the_kind_that_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["plan", "paper", "--price", "2", "--set", "editor.machines.num_gpus=0"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "at $2 an hour" in said
    assert "at $0.05 an hour" in said
    assert "an H100's peak" in said
    assert "a core's peak" in said
    assert "with 1 worker" in said


def test_a_recipe_without_an_editor_is_planned_without_its_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load((RECIPES / "mini.yaml").read_text())
    del content["editor"]
    (tmp_path / "no.yaml").write_text(yaml.safe_dump(content))
    assert call(["plan", str(tmp_path / "no.yaml")]) == 0
    assert "no section editor" in capsys.readouterr().out


def test_a_model_that_nobody_knows_is_told_and_not_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(architectures, "_hub_answers", lambda: False)
    line = "plan mini --set stages.paint.model.name=nobody/painter"
    assert call(line.split()) == 0
    said = capsys.readouterr().out
    assert "paint: nobody/painter is unknown" in " ".join(said.split())
    assert "not counted" in " ".join(said.split())


def test_a_measured_run_gives_seconds_and_rejections(tmp_path: Path) -> None:
    found = plan("mini", measured=manifest(tmp_path, load("mini")), **MINI)
    assert all(stage.is_measured for stage in found.generation.stages)
    assert {stage.seconds for stage in found.generation.stages} == {3.0}
    assert found.generation.accepted == pytest.approx(800)
    part_one = plan(
        "mini", measured=tmp_path, overrides=['parts=["I"]'], **MINI
    ).generation  # fmt: skip
    assert part_one.accepted == pytest.approx(400)
    assert {stage.name: stage.rows for stage in part_one.stages}["rewrite"] == pytest.approx(1000)


def test_what_a_pool_does_beside_its_stages_is_part_of_each_of_their_rows(tmp_path: Path) -> None:
    recipe = load("mini")
    path = manifest(tmp_path, recipe)
    content = json.loads(path.read_text())
    [asking, painting] = ["+".join(pool.stages) for pool in recipe.pools]
    worked = content["stages"]["paint"]["seconds"] + content["stages"]["quality"]["seconds"]
    content["pools"] = {
        asking: {"busy_seconds": 1.0, "idle_seconds": 500.0},  # measured worse than its stages
        painting: {"busy_seconds": 1.5 * worked, "idle_seconds": 7.0},
    }
    path.write_text(json.dumps(content))
    seconds = {
        stage.name: stage.seconds for stage in plan("mini", measured=path, **MINI).generation.stages
    }
    assert seconds["paint"] == seconds["quality"] == pytest.approx(4.5)
    assert seconds["rewrite"] == pytest.approx(3.0)


def test_nothing_is_trained_on_what_was_all_rejected(tmp_path: Path) -> None:
    path = manifest(tmp_path, load("mini"), accepted=0)
    found = plan("mini", measured=path, overrides=['parts=["II"]'], **MINI)
    assert found.generation.accepted == 0
    assert found.training == "no samples to train on"


def test_a_stage_without_a_model_is_measured_in_an_actor_with_a_gpu(tmp_path: Path) -> None:
    path = manifest(tmp_path, load("paper"))
    found = plan("paper", count=1000, gpu="h100", num_gpus=8, measured=path).generation
    stages = {stage.name: stage for stage in found.stages}
    assert all(stage.is_measured for stage in stages.values())
    # Of a core, and of half a GPU.
    assert stages["categories"].device_seconds == 3.0
    assert stages["caption"].device_seconds == 1.5


def test_only_stages_with_the_same_settings_are_taken_from_a_measured_run(tmp_path: Path) -> None:
    path = manifest(tmp_path, load("mini"))
    changed = ["stages.paint.num_inference_steps=20"]
    found = plan("mini", measured=path, overrides=changed, **MINI)
    measured = {stage.name: stage.is_measured for stage in found.generation.stages}
    assert not measured.pop("paint")
    assert all(measured.values())
    assert found.measured is not None
    assert found.measured.ignored == ["paint"]
    with pytest.raises(UserError, match="other models or settings than this recipe"):
        plan("paper", count=1000, gpu="h100", num_gpus=8, measured=path)


def test_a_run_on_cores_tells_nothing_about_gpus(tmp_path: Path) -> None:
    on_gpu = ["pools.1.num_gpus=0.5"]
    path = manifest(tmp_path, load("mini"))
    found = plan(
        "mini", count=1000, gpu="h100", num_gpus=1, measured=path, overrides=on_gpu
    ).generation
    measured = {stage.name: stage.is_measured for stage in found.stages}
    assert not measured["paint"]
    assert measured["propose"]


def generated(gpu: str, num_gpus: int, *settings: str) -> GenerationPlan:
    return plan_generation(load("paper", settings), 100, KINDS[gpu], num_gpus, 0.2, None)


def test_a_longer_sampling_costs_as_much_more() -> None:
    def seconds(steps: int) -> float:
        found = generated("a100", 2, f"stages.paint.num_inference_steps={steps}")
        return {stage.name: stage.device_seconds for stage in found.stages}["paint"]

    # One picture in 50 steps, 20 % of an A100's peak: the field measures one to two seconds.
    assert 1 < seconds(50) < 2
    assert seconds(100) == pytest.approx(2 * seconds(50), rel=0.05)


def test_an_actor_that_asks_for_too_little_of_a_gpu_is_marked() -> None:
    def fits(*settings: str) -> dict[str, bool]:
        pools = generated("l4", 4, *settings).pools
        return {pool.config.stages[-1]: pool.fits for pool in pools}

    # 9 GiB in half of 22 and 19 GiB in a quarter of 22.
    assert fits()["paint"]
    assert not fits()["ground"]
    assert fits("pools.3.batch_size=2")["ground"]


def test_pools_that_need_no_gpu_keep_up_with_those_that_do() -> None:
    found = generated("h100", 64)
    assert found.rate == min(pool.rate for pool in found.pools if pool.machine.is_gpu)
    assert sum(pool.actors * pool.config.num_gpus for pool in found.pools) <= 64
