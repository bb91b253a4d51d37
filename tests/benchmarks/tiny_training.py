"""What the editor's benchmarks train: an untrained UNet beside the mini zoo's frozen models."""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

import reasonray
from reasonray.core.editor_sections import EditorConfig
from reasonray.editor import features, frozen, model, training
from reasonray.editor.batches import Batches, Samples

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "helpers"))

import tiny_base  # noqa: E402

ZOO = Path(reasonray.__file__).parent / "mini/zoo"
COUNT, BATCH, STEPS = 64, 16, 6


def config(folder: Path, **changes: Any) -> EditorConfig:
    """64 x 64 pixels; the base's folder is written."""
    for part in ("vae", "scheduler", "text_encoder", "tokenizer"):
        shutil.copytree(ZOO / "painter" / part, folder / "base" / part)
    settings = {
        "base": {"name": str(folder / "base")},
        "mllm": {"name": "package:reasonray/mini/zoo/mllm"},
        "image_size": 64,
        "num_crops": 1,
        "tokens": "all",
        "batch_size": BATCH,
        "alignment_steps": 0,
        "num_steps": STEPS,
        "num_warmup_steps": 0,
        "precision": "float32",
        "machines": {"micro_batch_size": BATCH, "checkpoint_every": 10**9},
        **changes,
    }
    made = EditorConfig.model_validate(settings)
    channels, side, _ = frozen.Frozen(made).latent_shape((made.image_size, made.image_size))
    width = model.load_text_parts(made)[0].config.hidden_size
    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel(
        sample_size=side,
        in_channels=2 * channels,
        out_channels=channels,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=width,
        attention_head_dim=8,
        norm_num_groups=16,
    )
    unet.save_pretrained(folder / "base" / "unet")
    return made


def data(folder: Path) -> Path:
    """A dataset's folder."""
    return tiny_base.data(folder, [tiny_base.sample(number) for number in range(COUNT)])


def cached(config: EditorConfig, data: Path, folder: Path) -> features.Features:
    """Its features."""
    return tiny_base.cached(config, data, folder)


def seconds(config: EditorConfig, samples: Samples) -> float:
    """CPU time of one of our steps, the making of the batch included."""
    editor, scheduler = model.load_editor(config, samples.null.shape[1], seed=0)
    batches = Batches(samples, range(COUNT), config, seed=0)
    started = time.process_time()
    training.train(editor, scheduler, batches, [], config, training.Worker(), 0.18215)
    return (time.process_time() - started) / config.steps(COUNT)
