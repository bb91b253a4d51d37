"""The training without Ray: features to files, batches from steps, losses from both."""

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny_base
import tiny_editor
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional

from reasonray.core.errors import RunError, UserError
from reasonray.core.sections import ConnectorConfig, EditorConfig, ModelConfig
from reasonray.editor import features, frozen, metrics_log, model, objective, training
from reasonray.editor.batches import Batch, Batches, padded, split
from reasonray.editor.online import Online


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("editor")


@pytest.fixture(scope="module")
def config(place: Path) -> EditorConfig:
    torch.set_num_threads(1)
    return EditorConfig.model_validate(tiny_base.editor_settings(place))


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return tiny_base.data(place / "data", [tiny_base.sample(number) for number in range(20)])


@pytest.fixture(scope="module")
def samples(config: EditorConfig, data: Path, place: Path) -> features.Features:
    return tiny_base.cached(config, data, place / "features")


def losses(folder: Path) -> list[tuple[str, int, float]]:
    lines = [json.loads(line) for line in (folder / metrics_log.METRICS).read_text().splitlines()]
    return [(line["stage"], line["step"], line["loss"]) for line in lines if "loss" in line]


def run(
    config: EditorConfig,
    samples: Any,
    folder: Path,
    *,
    stop_after: int | None = None,
    restored: dict[str, Any] | None = None,
) -> tuple[list[tuple[str, int, float]], dict[str, Any] | None]:
    """Train in this process; `stop_after` checkpoints a kill is played."""
    folder.mkdir(exist_ok=True)
    kept: list[dict[str, Any]] = []

    class KilledError(Exception):
        pass

    def save(state: dict[str, Any]) -> None:
        kept.append(copy.deepcopy(state))
        if len(kept) == stop_after:
            raise KilledError

    trained_on, held_out = split(samples.ids, config.validation_fraction)
    editor, scheduler = model.load_editor(config, samples.null.shape[1], seed=0)
    worker = training.Worker(save=save, folder=folder, restored=restored)
    batches = Batches(samples, trained_on, config, seed=0)
    small = config.model_copy(update={"batch_size": len(held_out), "dropout": 0.0})
    with contextlib.suppress(KilledError):
        training.train(
            editor, scheduler, batches, Batches(samples, held_out, small, 0), config, worker, 0.5
        )
    return losses(folder), kept[-1] if kept else None


def test_every_record_has_features_of_one_shape(
    samples: features.Features, config: EditorConfig
) -> None:
    assert len(samples.ids) == len(set(samples.ids)) == 20
    for sample in samples.take(range(20)):
        assert sample.source.shape == sample.target.shape == samples.latent_shape == (4, 16, 16)
        assert sample.reasoning.shape[1] == samples.null.shape[1] == 128
        assert sample.taught is not None
        assert len(sample.taught) == 24
    short, long = samples.take([0, 2])
    assert len(long.reasoning) > len(short.reasoning)


def test_a_mirrored_variant_is_cached_when_the_recipe_says_so(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    both = tiny_base.cached(config.model_copy(update={"flip": True}), data, tmp_path / "flipped")
    assert len(both.ids) == 40
    plain, mirrored = both.take([0, 1])
    assert mirrored.id == f"{plain.id}|flipped"
    assert not np.allclose(plain.source, mirrored.source, atol=0.01)
    trained_on, held_out = split(both.ids, 0.3)
    names = [{both.ids[i].partition("|")[0] for i in side} for side in (trained_on, held_out)]
    assert names[0].isdisjoint(names[1])
    assert names[1]


def test_another_model_or_dataset_or_preprocessing_is_another_cache(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    first = features.key(config, data, ["I"])
    assert first == features.key(config, data, ["I"])
    others = [
        config.model_copy(update={"image_size": 64}),
        config.model_copy(update={"tokens": "all"}),
        config.model_copy(update={"flip": True}),
        config.model_copy(update={"alignment_steps": 0}),
        config.model_copy(update={"mllm": config.base}),
        config.model_copy(update={"vae": config.base}),
    ]
    keys = [features.key(other, data, ["I"]) for other in others]
    more = tiny_base.data(tmp_path / "more", [tiny_base.sample(number) for number in range(21)])
    keys += [features.key(config, data, ["I", "II"]), features.key(config, more, ["I"])]
    assert len({first, *keys}) == len(keys) + 1
    again = config.model_copy(update={"learning_rate": 1.0})
    assert features.key(tiny_base.with_micro_batches(again, 1), data, ["I"]) == first


def test_a_model_changed_in_its_folder_is_another_cache(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(config.base.name, tmp_path / "base")
    moved = config.model_copy(update={"base": ModelConfig(name=str(folder))})
    first = features.key(moved, data, ["I"])
    for part, counts in (("unet", False), ("vae", True)):
        [path] = (folder / part).glob("*.safetensors")
        path.touch()
        assert (features.key(moved, data, ["I"]) != first) == counts


HUB = """
import sys
from pathlib import Path
import tiny_base
from reasonray.editor import features
from reasonray.core.sections import EditorConfig

config, (data, folder) = EditorConfig.model_validate_json(sys.argv[1]), map(Path, sys.argv[2:])
tiny_base.cached(config, data, folder)
found = features.pinned(config, folder)
print(found.base.revision, found.mllm.revision)
"""


def test_training_loads_the_commits_that_the_features_were_computed_with(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    commits = {"base": "0" * 40, "mllm": "1" * 40}
    for name, commit in commits.items():
        cached = tmp_path / f"hub/models--me--{name}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs/main").write_text(commit)
        (cached / "snapshots").mkdir()
        (cached / "snapshots" / commit).symlink_to(Path(getattr(config, name).name))
    models = {name: ModelConfig(name=f"me/{name}") for name in commits}
    hub = config.model_copy(update=models).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", HUB, hub, str(data), str(tmp_path / "features")],
        env={
            **os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(commits.values())


def test_a_vae_of_its_own_stands_in_for_the_bases(
    config: EditorConfig, data: Path, samples: features.Features, tmp_path: Path
) -> None:
    base = Path(config.base.name)
    without = tmp_path / "base"
    shutil.copytree(base, without, ignore=shutil.ignore_patterns("vae"))
    parts = {"base": ModelConfig(name=str(without)), "vae": ModelConfig(name=str(base / "vae"))}
    same = tiny_base.cached(config.model_copy(update=parts), data, tmp_path / "features")
    for ours, theirs in zip(same.take(range(20)), samples.take(range(20)), strict=True):
        assert np.array_equal(ours.source, theirs.source)
    with pytest.raises(UserError, match="/vae: no AutoencoderKL"):
        model.load_vae(config.model_copy(update={"base": parts["base"]}))


def test_cached_and_online_features_give_the_same_losses(
    config: EditorConfig, data: Path, samples: features.Features, tmp_path: Path
) -> None:
    from_cache, _ = run(config, samples, tmp_path / "cached")
    computed, _ = run(config, Online(config, data, ["I"]), tmp_path / "online")
    assert len(from_cache) == 8
    for ours, theirs in zip(from_cache, computed, strict=True):
        assert ours[:2] == theirs[:2]
        assert abs(ours[2] - theirs[2]) < 1e-3


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_killed_run_goes_on_with_the_same_losses(
    config: EditorConfig, samples: features.Features, tmp_path: Path, stop_after: int
) -> None:
    undisturbed, _ = run(config, samples, tmp_path / "whole")
    _, state = run(config, samples, tmp_path / "killed", stop_after=stop_after)
    with (tmp_path / "killed" / metrics_log.METRICS).open("a") as file:
        file.write('{"stage": "editing", "st')  # what it was writing
    resumed, _ = run(config, samples, tmp_path / "killed", restored=state)
    assert resumed == undisturbed


def test_micro_batches_change_nothing(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    whole, _ = run(config, samples, tmp_path / "whole")
    small, _ = run(tiny_base.with_micro_batches(config, 1), samples, tmp_path / "small")
    for ours, theirs in zip(whole, small, strict=True):
        assert abs(ours[2] - theirs[2]) < 1e-4


def test_an_epoch_sees_each_sample_once(samples: features.Features, config: EditorConfig) -> None:
    batches = Batches(samples, range(20), config, seed=3)
    epoch = [place for step in range(5) for place in batches.positions(step)]
    assert sorted(epoch) == list(range(20))
    following = [place for step in range(5, 10) for place in batches.positions(step)]
    assert sorted(following) == list(range(20))
    assert following != epoch


def test_ratio_and_dropout_are_those_of_the_recipe(
    samples: features.Features, config: EditorConfig
) -> None:
    wide = config.model_copy(update={"batch_size": 400, "reasoning_ratio": 0.25, "dropout": 0.1})
    batch = Batches(samples, range(20), wide, seed=1).part(0, range(400))
    no_picture = (batch.source == 0).flatten(1).all(1)
    null = torch.from_numpy(samples.null.astype(np.float32))
    no_text = torch.tensor(
        [bool(m.sum() == len(null)) and torch.equal(s[: len(null)], null)
         for s, m in zip(batch.states, batch.mask, strict=True)]
    )  # fmt: skip
    assert 0.15 < no_picture.float().mean() < 0.25
    assert 0.15 < no_text.float().mean() < 0.25
    assert 0.06 < (no_picture & no_text).float().mean() < 0.15
    said = {sample.id: len(sample.reasoning) for sample in samples.take(range(20))}
    lengths = {sample.id: len(sample.direct) for sample in samples.take(range(20))}
    told = [
        int(m.sum()) == said[name]
        for name, m, dropped in zip(batch.ids, batch.mask, no_text, strict=True)
        if not dropped and said[name] != lengths[name]
    ]
    assert 0.17 < sum(told) / len(told) < 0.33


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_that_of_diffusers_scripts(
    config: EditorConfig, samples: features.Features, kind: str, gamma: float | None
) -> None:
    """`train_instruct_pix2pix.py`, and `train_text_to_image.py` for what it lacks."""
    scale = 0.37
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", prediction_type=kind)
    weighted = config.model_copy(update={"min_snr_gamma": gamma})
    editor, _ = model.load_editor(weighted, 128, seed=0)
    batch = Batches(samples, range(20), weighted, seed=2).part(0, range(4))
    ours = objective.Objective(scheduler, weighted, scale)
    with torch.no_grad():
        found = ours.editing(editor, batch, torch.device("cpu"))
        latents = batch.target.float() * scale
        timesteps = (batch.times * 1000).long()
        noisy = scheduler.add_noise(latents, batch.noise, timesteps)
        states, mask = editor.connector(batch.states.float(), batch.mask)
        predicted = editor.unet(
            torch.cat([noisy, batch.source.float()], dim=1), timesteps, states,
            encoder_attention_mask=mask,
        ).sample  # fmt: skip
    velocity = scheduler.get_velocity(latents, batch.noise, timesteps)
    target = {"epsilon": batch.noise, "v_prediction": velocity, "sample": latents}[kind]
    loss = functional.mse_loss(predicted, target, reduction="none").mean(dim=(1, 2, 3))
    if gamma is not None:
        snr = scheduler.alphas_cumprod[timesteps] / (1 - scheduler.alphas_cumprod[timesteps])
        weights = torch.stack([snr, gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
        loss = loss * weights / {"epsilon": snr, "v_prediction": snr + 1, "sample": 1}[kind]
    assert torch.allclose(found, loss.sum(), rtol=1e-4)
    assert len({round(each, 3) for each in loss.tolist()}) == 4


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
        taken = samples.take(range(20))
        given, _ = editor.connector(*padded([each.reasoning for each in taken]))
        taught = torch.from_numpy(np.array([each.taught for each in taken], np.float32))
        return (given - taught).square().mean().item()

    monkeypatch.setattr(objective.Objective, "alignment", watched)
    editor, _ = model.load_editor(aligned, 128, seed=0)
    before = distance(editor)
    _, state = run(aligned, samples, tmp_path / "aligned")
    assert state is not None
    editor.load_state_dict(state["editor"])
    assert distance(editor) < before / 2
    [null], _ = padded([samples.null])
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


def test_min_snr_and_adapters_are_choices(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    plain, _ = run(config, samples, tmp_path / "plain")
    weighted, _ = run(config.model_copy(update={"min_snr_gamma": 5.0}), samples, tmp_path / "snr")
    # Nothing weighs more than before, and what was nearly clean weighs less.
    assert all(a[2] >= b[2] for a, b in zip(plain[3:5], weighted[3:5], strict=True))
    assert plain[3:] != weighted[3:]
    editor, _ = model.load_editor(config.model_copy(update={"lora_rank": 2}), 128, seed=0)
    trained = [name for name, p in editor.unet.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)


def test_adapters_on_a_text_to_image_base_leave_the_picture_s_channels_to_be_learnt(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
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
        ids, latent_shape, null = samples.ids, samples.latent_shape, samples.null

        def take(self, indices: Any) -> Any:
            taken = samples.take(indices)
            bad = np.full_like(taken[0].target, np.nan)
            return [frozen.Sample(**{**vars(taken[0]), "target": bad}), *taken[1:]]

    with pytest.raises(RunError, match=r"nan-batch\.json"):
        run(config.model_copy(update={"alignment_steps": 0}), Broken(), tmp_path / "run")
    told = json.loads((tmp_path / "run" / "nan-batch.json").read_text())
    assert len(told["ids"]) == 4
    assert told["step"] == 0


def test_bad_features_are_one_clear_message(
    config: EditorConfig, data: Path, samples: features.Features, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no finished features"):
        features.Features(tmp_path)
    made = tiny_base.cached(config, data, tmp_path / "features")
    path = next((tmp_path / "features").glob("*-00000.arrow"))
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    spoilt = table.set_column(1, "source", pa.array([b"123456"] * 8, pa.large_binary()))
    assert made.ids
    with pa.ipc.new_file(str(tmp_path / "spoilt"), spoilt.schema) as sink:
        sink.write_table(spoilt)
    (tmp_path / "spoilt").replace(path)
    broken = features.Features(tmp_path / "features")
    with pytest.raises(UserError, match=r"I/toy/0000/0: source has 3 values"):
        broken.take([0])
    rows = [tiny_base.sample(0, input_image={"bytes": b"no picture", "path": "a.png"})]
    bad = tiny_base.data(tmp_path / "bad", rows)
    chunk = features.chunks(bad, ["I"], tmp_path)[0]
    with pytest.raises(UserError, match=r"record I/toy/0000/0: input_image: a\.png"):
        features.write_chunk(chunk, frozen.Frozen(config), 4)
    assert not list(tmp_path.glob("*.arrow"))


@pytest.mark.parametrize("pattern", ["features.json", "*-00000.arrow"])
def test_a_damaged_cache_is_one_clear_message(
    config: EditorConfig, samples: features.Features, place: Path, tmp_path: Path, pattern: str
) -> None:
    folder = shutil.copytree(place / "features", tmp_path / "copy")
    assert features.Features(folder).ids == samples.ids
    [path] = folder.glob(pattern)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"damaged .*; delete this folder and run again"):
        features.Features(folder)
    if path.name == features.INFO:
        with pytest.raises(UserError, match="damaged"):
            features.pinned(config, folder)
    path.unlink()
    with pytest.raises(UserError, match=r"damaged|no finished features"):
        features.Features(folder)


def test_the_wrapped_module_is_what_is_stepped(
    config: EditorConfig, samples: features.Features, tmp_path: Path
) -> None:
    seen: list[nn.Module] = []

    def wrap(module: nn.Module) -> nn.Module:
        seen.append(module)
        return module

    editor, scheduler = model.load_editor(config, 128, seed=0)
    worker = training.Worker(wrap=wrap, folder=tmp_path)
    training.train(editor, scheduler, Batches(samples, range(20), config, 0), None, config,
                   worker, 0.5)  # fmt: skip
    assert seen == [editor, editor]
