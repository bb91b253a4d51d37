"""An untrained base (InstructPix2Pix) and mllm on disk, and a dataset to train on."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tiny_editor
from diffusers import StableDiffusionInstructPix2PixPipeline
from toy_stages import recipe

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.place import Place, make_folder
from reasonray.core.recipe import Recipe
from reasonray.core.record import ACCEPTED_SCHEMA, Image, Part, Row, sample_id, to_table
from reasonray.core.sections import OutputConfig
from reasonray.core.writing import write_file
from reasonray.dataset.manifest import MANIFEST, Summary, make_manifest
from reasonray.dataset.shards import Shards, with_image_features
from reasonray.editor import features
from reasonray.editor.frozen import Frozen

SIZE = 32
SIZES = ((SIZE + 8, SIZE), (SIZE, SIZE), (SIZE, SIZE + 20))
"""Of the records' pictures, in turn."""


def base(folder: Path) -> Path:
    """A diffusers InstructPix2Pix folder, float32."""
    pipeline: Any = StableDiffusionInstructPix2PixPipeline(
        vae=tiny_editor.vae(),
        unet=tiny_editor.unet(),
        scheduler=tiny_editor.scheduler(),
        **tiny_editor.text_parts(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def mllm(folder: Path) -> Path:
    """A LLaVA folder."""
    parts = tiny_editor.multimodal_parts()
    parts["mllm"].save_pretrained(folder)
    parts["processor"].save_pretrained(folder)
    return folder


def editor_settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """An `editor` section that trains these for a few steps; a change to a section adds to it."""
    settings: dict[str, Any] = {
        "base": {"name": str(base(folder / "base"))},
        "mllm": {"name": str(mllm(folder / "mllm"))},
        "image_size": SIZE,
        "num_crops": 2,
        "connector": {"num_heads": 2, "num_queries": 6},
        "tokens": "text",
        "batch_size": 4,
        "alignment_steps": 3,
        "num_steps": 5,
        "num_warmup_steps": 2,
        "learning_rate": 1e-3,
        "ema_decay": 0.5,
        "validation_fraction": 0.2,
        "precision": "float32",
        "machines": {"micro_batch_size": 4, "checkpoint_every": 2},
        "validation": {"validate_every": 3, "num_samples": 1, "num_inference_steps": 2},
    }
    for key, value in changes.items():
        settings[key] = {**settings[key], **value} if isinstance(value, dict) else value
    return settings


def with_micro_batches(config: EditorConfig, size: int) -> EditorConfig:
    """The same settings with another `machines.micro_batch_size`."""
    machines = config.machines.model_copy(update={"micro_batch_size": size})
    return config.model_copy(update={"machines": machines})


EDITED = 1000
"""Added to a picture's seed for the edited one."""


def picture(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    small = PIL.Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    size = SIZES[seed % EDITED % len(SIZES)]
    small.resize(size, PIL.Image.Resampling.BICUBIC).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{seed}.png"}


def sample(number: int, part: Part = "I", **changes: object) -> Row:
    row: dict[str, Any] = {
        "id": sample_id(part, "toy", f"{number:04}"),
        "part": part,
        "source": "toy",
        "source_id": f"{number:04}",
        "input_image": picture(number),
        "edited_image": picture(EDITED + number),
        "input_caption": "a bee",
        "edited_caption": "some honey",
        "instruction": f"Show what it makes{' of late' * (number % 3)}.",
        "direct_instruction": "Turn the bee into some honey",
        **changes,
    }
    return row  # type: ignore[return-value]


def cached(
    config: EditorConfig, data: Place, folder: Place, parts: Sequence[Part] = ("I",)
) -> features.Features:
    """The features of some parts of a dataset, computed into a folder."""
    make_folder(folder)
    frozen = Frozen(config)
    chunks = features.chunks(data, parts, folder)
    for chunk in chunks:
        features.write_chunk(chunk, frozen, batch_size=3)
    features.finish(folder, [chunk.file for chunk in chunks], frozen)
    return features.Features(folder)


def data(folder: Path, rows: list[Row], made: Recipe | None = None) -> Path:
    """A complete output of these accepted rows, in row groups of eight; by a toy recipe or this."""
    layout = OutputConfig(row_group_rows=8)
    shards = Shards(folder / "accepted", with_image_features(ACCEPTED_SCHEMA), layout)
    summary = Summary()
    for start in range(0, len(rows), 8):
        table = to_table(rows[start : start + 8], ACCEPTED_SCHEMA)
        shards.write(table)
        summary.add(table, "accepted")
    shards.close()
    manifest = make_manifest(made or recipe(), summary, threshold=None, seconds=1, timings={})
    write_file(folder / MANIFEST, manifest.model_dump_json())
    return folder
