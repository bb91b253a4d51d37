"""Does an editor change the object that is meant into what is meant, and leave the others alone?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.recipe import Recipe
from reasonray.editor.model import load_editor, load_scheduler, load_text_parts, load_vae
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.mini.classifier import Classifier
from reasonray.mini.evaluation.edits import Edit, edits
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.sources.mini.world import render

BATCH = 25

Picture = NDArray[np.uint8]


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Of the recipe's base, on direct instructions, before any fine-tuning."""
    config = recipe.editor.model_copy(update={"condition": "text"})
    text_encoder, tokenizer = load_text_parts(config)
    pipe = ReasonEditPipeline(
        vae=load_vae(config),
        unet=load_editor(config, input_dim=1, seed=0)[0].unet.eval(),
        scheduler=load_scheduler(config),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
    )
    cases = edits("direct", count)
    target, others = recognised(cases, edited(pipe, cases, config))
    return [
        share("direct edit: target recognised", sum(target), len(target), 0.95),
        share("direct edit: other objects recognised", sum(others), len(others), 0.95),
    ]


def edited(pipe: Any, cases: Sequence[Edit], config: EditorConfig) -> list[Picture]:
    """An editor's pictures at the recipe's steps and guidance, each from noise of its own."""
    pipe.set_progress_bar_config(disable=True)
    pictures: list[Picture] = []
    for start in range(0, len(cases), BATCH):
        part = cases[start : start + BATCH]
        images = pipe(
            image=[Image.fromarray(render(edit.scene)) for edit in part],
            instruction=[edit.instruction for edit in part],
            num_inference_steps=config.validation.num_inference_steps,
            guidance_scale=config.validation.guidance_scale,
            image_guidance_scale=config.validation.image_guidance_scale,
            generator=[torch.Generator().manual_seed(start + i) for i in range(len(part))],
        ).images
        pictures += [np.asarray(image) for image in images]
    return pictures


def recognised(
    cases: Sequence[Edit], pictures: Sequence[Picture], classifier: Classifier | None = None
) -> tuple[list[bool], list[bool]]:
    """For each edit whether its target is in the box; for each other object whether it is there."""
    classifier = classifier or Classifier()
    target: list[bool] = []
    others: list[bool] = []
    for edit, picture in zip(cases, pictures, strict=True):
        objects = edit.truth.objects
        names = classifier.recognise([picture] * len(objects), [item.box for item in objects])
        for place, (name, item) in enumerate(zip(names, objects, strict=True)):
            (target if place == edit.index else others).append(name == item.category)
    return target, others
