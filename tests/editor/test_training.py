"""The training without Ray: losses from features, whole, killed and gone on with."""

import contextlib
import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_base
import tiny_editor
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from reasonray.core.editor_sections import ConnectorConfig, EditorConfig
from reasonray.core.errors import RunError
from reasonray.core.sections import ModelConfig
from reasonray.editor import features, frozen, metrics_log, model, objective, training
from reasonray.editor.batches import Batch, Batches, of_all, padded, split
from reasonray.editor.online import Online

pytestmark = pytest.mark.slow

Losses = list[tuple[str, int, float]]


def losses(folder: Path) -> Losses:
    lines = [json.loads(line) for line in (folder / metrics_log.METRICS).read_text().splitlines()]
    return [(line["stage"], line["step"], line["loss"]) for line in lines if "loss" in line]


def run(
    config: EditorConfig,
    samples: Any,
    folder: Path,
    *,
    stop_after: int | None = None,
    restored: dict[str, Any] | None = None,
) -> tuple[Losses, dict[str, Any] | None]:
    """Train in this process; `stop_after` checkpoints a kill is played."""
    folder.mkdir(exist_ok=True)
    kept: list[dict[str, Any]] = []

    class KilledError(Exception):
        pass

    def save(state: dict[str, Any]) -> None:
        kept.append(copy.deepcopy(state))
        if len(kept) == stop_after:
            raise KilledError

    trained_on, held_out = split(samples.origins, config.validation_fraction)
    editor, scheduler = model.load_editor(config, samples.null.shape[1], seed=0)
    worker = training.Worker(save=save, folder=folder, restored=restored)
    batches = Batches(samples, trained_on, config, seed=0)
    small = config.model_copy(update={"dropout": 0.0, "num_crops": 1})
    with contextlib.suppress(KilledError):
        training.train(
            editor, scheduler, batches, of_all(samples, held_out, small, 0), config, worker, 0.5
        )
    return losses(folder), kept[-1] if kept else None


@pytest.fixture(scope="module")
def undisturbed(config: EditorConfig, samples: features.Features, place: Path) -> Losses:
    """The losses of a whole training on cached features."""
    return run(config, samples, place / "undisturbed")[0]


def test_cached_and_online_features_give_the_same_losses(
    config: EditorConfig, data: Path, undisturbed: Losses, tmp_path: Path
) -> None:
    computed, _ = run(config, Online(config, data, ["I"]), tmp_path / "online")
    assert len(undisturbed) == 8
    for ours, theirs in zip(undisturbed, computed, strict=True):
        assert ours[:2] == theirs[:2]
        assert abs(ours[2] - theirs[2]) < 1e-3


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_killed_run_goes_on_with_the_same_losses(
    config: EditorConfig,
    samples: features.Features,
    undisturbed: Losses,
    tmp_path: Path,
    stop_after: int,
) -> None:
    _, state = run(config, samples, tmp_path / "killed", stop_after=stop_after)
    with (tmp_path / "killed" / metrics_log.METRICS).open("a") as file:
        file.write('{"stage": "editing", "st')  # what it was writing
    resumed, _ = run(config, samples, tmp_path / "killed", restored=state)
    assert resumed == undisturbed


def test_micro_batches_change_nothing(
    config: EditorConfig,
    samples: features.Features,
    undisturbed: Losses,
    tmp_path: Path,
) -> None:
    small, _ = run(tiny_base.with_micro_batches(config, 1), samples, tmp_path / "small")
    for ours, theirs in zip(undisturbed, small, strict=True):
        assert abs(ours[2] - theirs[2]) < 1e-4


def test_alignment_trains_the_connector_alone(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    before, _ = model.load_editor(config, 128, seed=0)
    aligned = config.model_copy(update={"num_steps": 0, "alignment_steps": 4})
    _, state = run(aligned, samples, tmp_path / "aligned")
    assert state is not None
    for name, value in before.state_dict().items():
        changed = not torch.equal(value, state["editor"][name])
        assert changed == name.startswith("connector."), name


def test_alignment_brings_the_connector_to_the_text_encoding(
    config: EditorConfig, samples: features.Features, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Where their lengths agree: without the UNet, and with every instruction heard."""
    connector = ConnectorConfig(kind="resampler", num_queries=24, num_heads=2, num_layers=1)
    changes = {"connector": connector, "num_steps": 0, "alignment_steps": 30, "dropout": 0.3}
    aligned = config.model_copy(update=changes)
    alignment, seen = objective.Objective.alignment, []

    def watched(self: objective.Objective, editor: nn.Module, batch: Batch, device: Any) -> Any:
        seen.append(batch)
        with monkeypatch.context() as without:
            without.setattr(UNet2DConditionModel, "forward", None)
            return alignment(self, editor, batch, device)

    def distance(editor: model.Editor) -> float:
        taken = samples.take([(index, 0) for index in range(20)])
        given, _ = editor.connector(*padded([[each.reasoning] for each in taken]))
        taught = torch.from_numpy(np.array([each.taught for each in taken], np.float32))
        return float((given - taught).square().mean().item())

    monkeypatch.setattr(objective.Objective, "alignment", watched)
    editor, _ = model.load_editor(aligned, 128, seed=0)
    before = distance(editor)
    _, state = run(aligned, samples, tmp_path / "aligned")
    assert state is not None
    editor.load_state_dict(state["editor"])
    assert distance(editor) < before / 2
    [null], _ = padded([[samples.null]])
    for batch in seen:
        for states, mask in zip(batch.states, batch.mask, strict=True):
            assert not torch.equal(states[mask], null)


def test_the_baseline_trains_without_connector_and_alignment(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    text = config.model_copy(update={"condition": "text"})
    made = tiny_base.cached(text, data, tmp_path / "features")
    found, _ = run(text, made, tmp_path / "run")
    assert [stage for stage, _, _ in found] == ["editing"] * 5


def test_no_steps_leave_the_base_as_it_is(config: EditorConfig, data: Path, tmp_path: Path) -> None:
    changes = {"condition": "text", "num_steps": 0, "validation_fraction": 0.0}
    text = config.model_copy(update=changes)
    samples = Online(text, data, ["I"])
    editor, scheduler = model.load_editor(text, samples.null.shape[1], seed=0)
    before = copy.deepcopy(editor.unet.state_dict())
    worker = training.Worker(folder=tmp_path)
    training.train(
        editor, scheduler, Batches(samples, range(20), text, seed=0), [], text, worker, 0.5
    )
    after = editor.unet.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not metrics_log.read_metrics(tmp_path / metrics_log.METRICS)


def test_min_snr_and_adapters_are_choices(
    config: EditorConfig,
    samples: features.Features,
    undisturbed: Losses,
    tmp_path: Path,
) -> None:
    weighted, _ = run(config.model_copy(update={"min_snr_gamma": 5.0}), samples, tmp_path / "snr")
    # Nothing weighs more than before, and what was nearly clean weighs less.
    assert all(a[2] >= b[2] for a, b in zip(undisturbed[3:5], weighted[3:5], strict=True))
    assert undisturbed[3:] != weighted[3:]
    editor, _ = model.load_editor(config.model_copy(update={"lora_rank": 2}), 128, seed=0)
    trained = [name for name, p in editor.unet.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)


def test_adapters_on_a_text_to_image_base_leave_the_picture_s_channels_to_be_learnt(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(config.base.name, base)
    tiny_editor.unet(in_channels=4).save_pretrained(base / "unet")
    other = {"base": ModelConfig(name=str(base)), "lora_rank": 2, "alignment_steps": 0}
    _, state = run(config.model_copy(update=other), samples, tmp_path / "run")
    assert state is not None
    assert state["editor"]["unet.conv_in.weight"][:, 4:].abs().max() > 0


def test_a_loss_that_is_no_number_stops_and_names_the_batch(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    class Broken:
        ids, origins, groups = samples.ids, samples.origins, samples.groups
        left_out, shapes, null = samples.left_out, samples.shapes, samples.null

        def take(self, variants: Any) -> Any:
            taken = samples.take(variants)
            bad = np.full_like(taken[0].target, np.nan)
            return [frozen.Sample(**{**vars(taken[0]), "target": bad}), *taken[1:]]

    with pytest.raises(RunError, match=r"nan-batch\.json"):
        run(config.model_copy(update={"alignment_steps": 0}), Broken(), tmp_path / "run")
    told = json.loads((tmp_path / "run" / "nan-batch.json").read_text())
    assert len(told["ids"]) == 4
    assert told["step"] == 0


def test_a_device_is_waited_for_once_a_step_to_see_whether_the_loss_is_a_number(
    config: EditorConfig, samples: features.Features, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    looks, isfinite = [], torch.isfinite

    def watched(value: torch.Tensor) -> torch.Tensor:
        looks.append(value)
        return isfinite(value)

    monkeypatch.setattr(torch, "isfinite", watched)
    steps, _ = run(tiny_base.with_micro_batches(config, 1), samples, tmp_path / "run")
    assert len(looks) == len(steps) == 8


def test_the_wrapped_module_is_what_is_stepped(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    seen: list[nn.Module] = []

    def wrap(module: nn.Module) -> nn.Module:
        seen.append(module)
        return module

    editor, scheduler = model.load_editor(config, 128, seed=0)
    worker = training.Worker(wrap=wrap, folder=tmp_path)
    training.train(editor, scheduler, Batches(samples, range(20), config, 0), [], config,
                   worker, 0.5)  # fmt: skip
    assert seen == [editor, editor]


def test_a_training_that_learns_no_more_ends_with_its_best_weights(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    """Also where it was killed between two validations."""
    spoiling = {"learning_rate": 0.3, "alignment_steps": 0, "num_steps": 40, "early_stop": 2}
    checked = config.validation.model_copy(update={"validate_every": 2})
    changed = config.model_copy(update={**spoiling, "validation": checked})
    whole, _ = run(changed, samples, tmp_path / "whole")
    assert len(whole) < 40
    lines = metrics_log.read_metrics(tmp_path / "whole" / metrics_log.METRICS)
    held_out = [line["held_out"] for line in lines if "held_out" in line]
    assert min(held_out) < min(held_out[-2:])
    _, state = run(changed, samples, tmp_path / "killed", stop_after=1)
    resumed, _ = run(changed, samples, tmp_path / "killed", restored=state)
    assert resumed == whole
    editor, scheduler = model.load_editor(changed, 128, seed=0)
    trained_on, out = split(samples.origins, config.validation_fraction)
    small = changed.model_copy(update={"dropout": 0.0, "num_crops": 1})
    measured = of_all(samples, out, small, 0)
    worker = training.Worker()
    training.train(
        editor, scheduler, Batches(samples, trained_on, changed, 0), measured, changed, worker, 0.5
    )
    losses_of = objective.Objective(scheduler, changed, 0.5)
    assert training.held_out_loss(editor, losses_of, measured, worker) == min(held_out)


def test_steps_follow_from_epochs_and_samples(config: EditorConfig) -> None:
    free = config.model_copy(update={"num_steps": None, "num_epochs": 2.5, "batch_size": 4})
    assert free.steps(16) == 10
    assert free.steps(17) == 11
    assert config.steps(10**6) == 5
    paper = EditorConfig()
    assert 900 < paper.steps(38_000) < 950


def test_each_stage_has_its_own_learning_rate(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    aligning = config.model_copy(update={"alignment_learning_rate": 0.02, "alignment_steps": 10})
    _, state = run(aligning, samples, tmp_path / "run", stop_after=5)
    assert state is not None
    assert (state["stage"], state["rate"]["_last_lr"]) == ("alignment", [0.02])
    _, state = run(aligning, samples, tmp_path / "both")
    assert state is not None
    assert (state["stage"], state["rate"]["_last_lr"]) == ("editing", [config.learning_rate])


def test_warm_up_takes_a_tenth_of_a_stage_at_most(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    changes = {"num_warmup_steps": 100, "alignment_steps": 0, "num_steps": 20}
    _, state = run(config.model_copy(update=changes), samples, tmp_path / "run")
    assert state is not None
    assert state["rate"]["_last_lr"] == [config.learning_rate]
    _, state = run(config.model_copy(update=changes), samples, tmp_path / "one", stop_after=1)
    assert state is not None
    assert state["rate"]["_last_lr"] == [config.learning_rate]
