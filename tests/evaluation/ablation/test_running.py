"""`reasonray ablate`: what is refused before any work, what is gone on with, and all on Ray."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_base
import tiny_editor
import toy_ablation
from finished_evaluation import figures, measured
from one_cluster import Cluster
from public_benchmarks import MAKERS

from reasonray.cli.main import call
from reasonray.core.place import read_json
from reasonray.core.recipe import load
from reasonray.core.record import PARTS
from reasonray.dataset.manifest import complete_manifest
from reasonray.editor import features
from reasonray.editor.finished import INDEX
from reasonray.editor.job import check_settings
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.editor.worker import EDITOR
from reasonray.evaluation import chunks
from reasonray.evaluation.ablation.variants import variants
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.subjects import opened

DRIVER = "import sys; from reasonray.cli.main import call; sys.exit(call(sys.argv[1:]))"

NAMES = ["baseline", "mllm", "I", "I+II", "I+II+III"]


@pytest.fixture
def laid_out(tmp_path: Path) -> Path:
    toy_ablation.lay_out(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert call(words) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_a_dataset_that_lacks_a_part_is_said(
    laid_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_base.data(laid_out / "less", [tiny_base.sample(n, "I") for n in range(3)])
    words = [*toy_ablation.line(laid_out, laid_out / "out"), "--data", str(laid_out / "less")]
    message = refused(capsys, words)
    assert "less: no accepted samples of part II, III; an ablation compares" in message
    assert not (laid_out / "out").exists()


def test_what_is_no_benchmark_is_said_before_anything_is_trained(
    laid_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = toy_ablation.line(laid_out, laid_out / "out")
    assert "no folder of reasonray benchmark" in refused(
        capsys, [*words, "--benchmark", str(laid_out / "data")]
    )
    twice = [*words, "--benchmark", str(laid_out / "benchmark")]
    assert "benchmark ours: named twice" in refused(capsys, twice)
    MAKERS["risebench"](laid_out / "rise")
    judged = [*words, "--benchmark", f"risebench={laid_out / 'rise'}"]
    assert "evaluation.judge" in refused(capsys, judged)
    assert not (laid_out / "out").exists()


def test_a_base_that_takes_no_picture_is_no_baseline(
    laid_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_editor.unet(in_channels=4).save_pretrained(laid_out / "base" / "unet")
    message = refused(capsys, toy_ablation.line(laid_out, laid_out / "out"))
    assert "a Stable Diffusion, which takes no picture" in message
    assert not (laid_out / "out").exists()


def test_charts_that_could_not_be_drawn_are_said_before_anything_is_trained(
    laid_out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = refused(capsys, toy_ablation.line(laid_out, laid_out / "out"))
    assert message.endswith("it comes with the extra ablate: pip install 'reasonray[ablate]'\n")
    assert not (laid_out / "out").exists()


def test_what_is_complete_is_not_made_again(
    laid_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Features, trainings and figures are there; Ray is not."""
    output, data = laid_out / "out", laid_out / "data"
    recipe = load(laid_out / "recipe.yaml")
    compared = variants(recipe, complete_manifest(data))
    own = opened(str(laid_out / "benchmark"))
    before = [item.pictures[0].open() for item in own.items]
    full = load(recipe, compared[-1].settings)
    cache = output / "features" / features.key(full.editor, data, PARTS)
    cache.mkdir(parents=True)
    (cache / features.INFO).write_text("{}")
    for number, variant in enumerate(compared):
        training = output / "variants" / variant.name / "training"
        (training / EDITOR).mkdir(parents=True)
        (training / EDITOR / INDEX).write_text("{}")
        check_settings(training, load(recipe, variant.settings), data, variant.parts)
        axes = [figures(n, 0.1 * number) for n in range(len(own.items))]
        spec = Spec(variant.name, str(training / EDITOR))
        chunks.check_settings(output / "evaluation", own, spec, recipe)
        measured(output / "evaluation", own, variant.name, before, axes)
    words = toy_ablation.line(laid_out, output)
    assert call(words) == 0
    told = capsys.readouterr()
    assert told.out == f"{output / 'table.md'}\n"
    assert told.err.count("complete, nothing to do") == 1 + len(compared)
    assert "everything is measured" in told.err
    assert "| reasoning | baseline → I |" in (output / "table.md").read_text()
    charts = {path: path.read_bytes() for path in (output / "charts").iterdir()}
    assert len(charts) == 4
    noted = {path.parent.name: read_json(path) for path in output.glob("variants/*/variant.json")}
    assert sorted(noted) == sorted(NAMES)
    assert noted["I+II"]["parts"] == ["I", "II"]
    assert "editor.num_steps=2" in noted["I+II"]["settings"]
    assert call(words) == 0
    assert all(path.read_bytes() == content for path, content in charts.items())
    capsys.readouterr()
    # Others' steps would stand beside these.
    message = refused_last(capsys, [*words, "--set", "editor.num_steps=3"])
    assert "begun with other settings; different: editor.num_steps" in message
    # And what is said of these is not what was refused.
    for name, content in noted.items():
        assert read_json(output / "variants" / name / "variant.json") == content


def refused_last(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert call(words) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("default")
def test_an_ablation_that_is_killed_again_and_again_ends_as_one_that_is_not(
    cluster: Cluster, laid_out: Path
) -> None:
    """Five trainings and their evaluation: killed in a training and in the evaluation."""
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_ADDRESS": cluster.address,
    }  # fmt: skip

    def start(output: Path) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-c", DRIVER, *toy_ablation.line(laid_out, output)]
        with output.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(words, env=environment, stderr=log)

    killed, whole = laid_out / "killed", laid_out / "whole"
    for pattern in (
        "variants/I/training/metrics.jsonl",
        "evaluation/scores/ours/mllm/*.parquet",
    ):
        driver = start(killed)
        while not list(killed.glob(pattern)):
            assert driver.poll() is None, killed.with_suffix(".log").read_text()
            time.sleep(0.05)
        driver.kill()
        driver.wait()
    assert not (killed / "results.json").exists()
    for output in (killed, whole):
        assert start(output).wait(timeout=500) == 0, output.with_suffix(".log").read_text()
    ours, theirs = (json.loads((each / "results.json").read_text()) for each in (killed, whole))
    assert ours == theirs
    for name in ("table.md", "charts/ours-data.svg", "charts/ours-model.png"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    # Computed once, for all trainings.
    assert len(list(whole.glob("features/*/features.json"))) == 1
    steps = {
        name: json.loads((whole / f"variants/{name}/training/counts.json").read_text())
        for name in NAMES
    }
    assert [each["editing_steps"] for each in steps.values()] == [0, 0, 2, 2, 2]
    assert [each["alignment_steps"] for each in steps.values()] == [0, 1, 1, 1, 1]
    counts = [steps[name]["trained_on"] + steps[name]["held_out"] for name in NAMES[2:]]
    assert counts == [6, 12, 18]
    baseline = ReasonEditPipeline.from_pretrained(whole / "variants/baseline/training/editor")
    untouched = tiny_editor.unet().state_dict()
    assert all(
        (value == untouched[name]).all() for name, value in baseline.unet.state_dict().items()
    )
