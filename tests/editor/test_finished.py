"""The finished editor's folder: what was trained is what is in it."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_base
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from safetensors.torch import load_file
from torch import Tensor

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.place import Place, names, place
from reasonray.editor import finished, model, training
from reasonray.editor.batches import Batches
from reasonray.editor.pipeline import LORA_WEIGHTS, ReasonEditPipeline

pytestmark = pytest.mark.slow

Trained = tuple[EditorConfig, model.Editor, list[dict[str, Any]], Path]


@pytest.fixture(scope="module", params=["mllm", "text"])
def training_once(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """An editor with adapters after some steps, what it saved on the way, and its dataset."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("finished")
    settings = tiny_base.editor_settings(
        folder, lora_rank=2, condition=request.param, alignment_steps=0, learning_rate=0.02
    )
    config = EditorConfig.model_validate(settings)
    data = tiny_base.data(folder / "data", [tiny_base.sample(number) for number in range(4)])
    samples = tiny_base.cached(config, data, folder / "features")
    editor, scheduler = model.load_editor(config, samples.width, seed=0)
    saved: list[dict[str, Any]] = []
    worker = training.Worker(save=lambda state: saved.append(copy.deepcopy(state)))
    batches = Batches(samples, range(4), config, seed=0)
    training.train(editor, scheduler, batches, [], config, worker, 0.5)
    return config, editor, saved, data


@pytest.fixture
def trained(training_once: Trained) -> Trained:
    """The same for each test: writing an editor changes it."""
    config, editor, saved, data = training_once
    return config, copy.deepcopy(editor), saved, data


def write(trained: Trained, lora_export: str, folder: Path) -> Path:
    write_to(trained, lora_export, folder, folder.parent / "metrics.jsonl")
    return folder


def write_to(trained: Trained, lora_export: str, folder: Place, metrics: Path) -> None:
    config, editor, _, data = trained
    output = config.output.model_copy(update={"lora_export": lora_export})
    changed = config.model_copy(update={"output": output})
    counts = {"trained_on": 4, "held_out": 0, "left_out": 1, "editing_steps": 5, "epochs": 5}
    settings = {"parts": ["I"], "counts": counts}
    finished.write_editor(editor, changed, folder, data, settings, metrics)
    assert "leaves out 1, whose edit no crop keeps" in (folder / "README.md").read_text()


@torch.no_grad()
def predicted(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 8, 16, 16, generator=generator)
    states = torch.randn(2, 5, unet.config.cross_attention_dim, generator=generator)
    prediction: Tensor = unet(noisy, torch.tensor([3, 700]), encoder_hidden_states=states).sample
    return prediction


def base_unet(config: EditorConfig) -> Any:
    return model.load_editor(config.model_copy(update={"lora_rank": None}), 128, 0)[0].unet


def test_merged_adapters_are_in_the_unet_s_own_weights(trained: Trained, tmp_path: Path) -> None:
    config, editor, _, _ = trained
    expected = predicted(editor.unet)
    assert (expected - predicted(base_unet(config).eval())).abs().max() > 1e-3
    folder = write(trained, "merged", tmp_path / "editor")
    [path] = (folder / "unet").glob("*.safetensors")
    assert load_file(path).keys() == base_unet(config).state_dict().keys()
    assert not (folder / LORA_WEIGHTS).exists()
    unet = ReasonEditPipeline.from_pretrained(folder).unet
    assert torch.allclose(predicted(unet), expected, atol=1e-5)


def test_separate_adapters_leave_the_base_s_unet_as_it_was(
    trained: Trained, tmp_path: Path
) -> None:
    config, editor, _, _ = trained
    expected = predicted(editor.unet)
    folder = write(trained, "separate", tmp_path / "editor")
    [path] = (folder / "unet").glob("*.safetensors")
    found, base = load_file(path), base_unet(config).state_dict()
    assert found.keys() == base.keys()
    assert all(torch.equal(found[name], value) for name, value in base.items())
    assert all(name.startswith("unet.") for name in load_file(folder / LORA_WEIGHTS))
    pipe = ReasonEditPipeline.from_pretrained(folder)
    assert torch.allclose(predicted(pipe.unet), expected, atol=1e-6)
    # Diffusers' own two ways to read them.
    alone = base_unet(config).eval()
    alone.load_lora_adapter(folder, prefix="unet", weight_name=LORA_WEIGHTS)
    assert torch.allclose(predicted(alone), expected, atol=1e-6)
    if config.condition == "text":
        theirs: Any = StableDiffusionInstructPix2PixPipeline.from_pretrained(config.base.name)
        theirs.load_lora_weights(folder, weight_name=LORA_WEIGHTS)
        assert torch.allclose(predicted(theirs.unet), expected, atol=1e-6)


@pytest.mark.parametrize("lora_export", ["merged", "separate"])
def test_an_editor_on_a_store_is_the_one_on_a_disk(
    trained: Trained, lora_export: str, bucket: str, tmp_path: Path
) -> None:
    expected = predicted(trained[1].unet)
    write_to(trained, lora_export, place(bucket) / "editor", tmp_path / "metrics.jsonl")
    pipe = ReasonEditPipeline.from_pretrained(f"{bucket}/editor")
    assert torch.allclose(predicted(pipe.unet), expected, atol=1e-5)
    lora = names(place(bucket) / "editor").count(LORA_WEIGHTS)
    assert lora == (lora_export == "separate")


def test_what_a_killed_training_has_left_of_its_editor_goes(
    trained: Trained, tmp_path: Path
) -> None:
    (tmp_path / ".editor.1").mkdir()
    write(trained, "merged", tmp_path / "editor")
    assert names(tmp_path) == ["editor"]


def test_a_loaded_editor_with_adapters_can_be_saved_again(trained: Trained, tmp_path: Path) -> None:
    first = ReasonEditPipeline.from_pretrained(write(trained, "separate", tmp_path / "editor"))
    first.save_pretrained(tmp_path / "again")
    second: Any = ReasonEditPipeline.from_pretrained(tmp_path / "again")
    assert second.config.tokens == first.config.tokens
    assert torch.equal(predicted(second.unet), predicted(first.unet))
    second.fuse_lora()
    second.unload_lora_weights()
    second.save_pretrained(tmp_path / "merged")
    third = ReasonEditPipeline.from_pretrained(tmp_path / "merged")
    assert not hasattr(third.unet, "peft_config")
    assert torch.allclose(predicted(third.unet), predicted(first.unet), atol=1e-5)


def test_the_averaged_adapters_are_exported(trained: Trained, tmp_path: Path) -> None:
    saved = trained[2]
    averages = [value.numpy() for value in saved[-1]["average"]["shadow_params"]]
    latest = [v.numpy() for name, v in saved[-1]["editor"].items() if "lora" in name]
    folder = write(trained, "separate", tmp_path / "editor")
    exported = [value.numpy() for value in load_file(folder / LORA_WEIGHTS).values()]

    def holds(value: Any, among: list[Any]) -> bool:
        return any(value.shape == other.shape and np.array_equal(value, other) for other in among)

    assert len(exported) == len(latest) > 0
    assert all(holds(value, averages) for value in exported)
    assert not any(holds(value, latest) for value in exported)


def test_few_steps_of_a_large_batch_are_warned_of() -> None:
    """500 samples, 25 epochs of them, in the default's batches of 1,024."""
    few = finished.few_steps({"editing_steps": EditorConfig().steps(500)})
    assert few is not None
    assert few.startswith("13 steps teach an editor little")
    assert "editor.batch_size" in few
    assert finished.few_steps({"editing_steps": EditorConfig().steps(38_000)}) is None
    # Whoever wants none has said so.
    assert finished.few_steps({"editing_steps": 0}) is None
