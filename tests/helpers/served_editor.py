"""An untrained editor's folder, as a training leaves it."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import tiny_editor

from reasonray.editor.pipeline import ReasonEditPipeline

SIDE = 32
STEPS = 4


def editor_folder(folder: Path, **parts: Any) -> Path:
    """It edits at 32 pixels, in 4 steps if not told otherwise.

    `parts` read the instruction; none: a multimodal model does.
    """
    pipe: Any = ReasonEditPipeline(
        vae=tiny_editor.vae(),
        unet=tiny_editor.unet(),
        scheduler=tiny_editor.scheduler(),
        **(parts or tiny_editor.multimodal_parts()),
        tokens="text",
    )
    pipe.save_pretrained(folder)
    validation = {
        "num_inference_steps": STEPS, "guidance_scale": 2.0, "image_guidance_scale": 1.5,
    }  # fmt: skip
    settings = {"editor": {"image_size": SIDE, "validation": validation}}
    (folder / "training.json").write_text(json.dumps(settings))
    return folder


def no_forbidden_word(image: PIL.Image.Image, prompt: str) -> str | None:
    """A safety checker."""
    assert image.size == (SIDE, SIDE)
    return "a forbidden word" if "forbidden" in prompt else None
