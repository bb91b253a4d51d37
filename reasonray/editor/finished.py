"""What comes out of a training: sample edits as it goes on, and the finished editor's folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.place import Place, remove
from reasonray.core.writing import filled
from reasonray.dataset.manifest import MANIFEST
from reasonray.editor.batches import Samples, padded
from reasonray.editor.frozen import Frozen, Sample, alike
from reasonray.editor.metrics_log import read_metrics
from reasonray.editor.model import Editor, load_scheduler, load_text_parts, load_vae
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.editor.sampling import denoise, three_passes
from reasonray.models.pixels import to_images

INDEX = "model_index.json"
"""Of an editor's folder; the last of its files that is written."""

MIN_STEPS = 100
"""InstructPix2Pix took ten thousand; fewer than this many mean that the recipe is for more data."""

CARD = """\
---
library_name: diffusers
pipeline_tag: image-to-image
tags:
- image-editing
- reasoning
---
# Reasoning editor

```python
from reasonray.editor.pipeline import ReasonEditPipeline

pipe = ReasonEditPipeline.from_pretrained("FOLDER")
pipe(image=picture, instruction="Show what it makes instead.").images[0]
```

{figures}

Started from `{base}`, conditioned on {condition}. Of the accepted samples of parts {parts} it \
{counts}. The data's manifest is `data-manifest.json`, the settings are `training.json`.
"""


class Artist:
    """Draws edits of held-out samples, from their features.

    Args:
        config: the base's VAE and scheduler; steps and guidance of its `validation`.
        samples, indices: what is edited.
        folder: gets `step-<N>.png`: source, truth, edit, one row for each sample; None: computed
            in vain, beside a worker that shares the weights.
        device: where pictures are decoded.
    """

    def __init__(
        self,
        config: EditorConfig,
        samples: Samples,
        indices: Sequence[int],
        folder: Path | None,
        device: torch.device,
    ) -> None:
        self.vae: Any = load_vae(config).float().to(device)
        self.config, self.samples, self.indices = config, samples, list(indices)
        self.folder = folder
        self.scaling_factor: float = self.vae.config.scaling_factor
        self._unchanging: list[list[Image.Image]] = []

    @torch.no_grad()
    def draw(self, editor: Editor, step: int) -> Image.Image | None:
        """Write the sheet of a step, and give it back.

        Args:
            editor: with the weights to edit by, on their device.
            step: of the editing, in the file's name.

        Returns:
            RGB, a row for each sample; None without a folder.
        """
        held_out = self.samples.take([(index, 0) for index in self.indices])
        edited: dict[int, Tensor] = {}
        for places in alike([each.source.shape for each in held_out]):
            latents = self._edited(editor, [held_out[place] for place in places])
            edited.update(zip(places, latents, strict=True))
        if self.folder is None:
            return None
        if not self._unchanging:
            arrays = [[each.source for each in held_out], [each.target for each in held_out]]
            self._unchanging = [
                self._pictures([torch.from_numpy(array).float() for array in column])
                for column in arrays
            ]
        shown = [edited[place] / self.scaling_factor for place in range(len(held_out))]
        self.folder.mkdir(exist_ok=True)
        sheet = _sheet([*self._unchanging, self._pictures(shown)])
        sheet.save(self.folder / f"step-{step:06d}.png")
        return sheet

    def _edited(self, editor: Editor, samples: Sequence[Sample]) -> Tensor:
        """Latents BCHW, scaled, of samples of one shape."""
        drawn = self.config.validation
        device = next(editor.parameters()).device
        source = torch.from_numpy(np.stack([each.source for each in samples])).float()
        reasoning, null = (
            (states.to(device).float(), mask.to(device))
            for states, mask in (
                padded([each.condition(reasoning=True) for each in samples]),
                padded([[self.samples.null]]),
            )
        )  # fmt: skip
        if editor.connector is None:
            instructed, uninstructed = (reasoning[0], None), (null[0], None)
        else:
            instructed, uninstructed = editor.connector(*reasoning), editor.connector(*null)
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
        return denoise(
            editor.unet,
            load_scheduler(self.config),
            source.to(device),
            three_passes(instructed, uninstructed, torch.float32),
            noise.to(device),
            num_inference_steps=drawn.num_inference_steps,
            guidance_scale=drawn.guidance_scale,
            image_guidance_scale=drawn.image_guidance_scale,
        )

    def _pictures(self, latents: Sequence[Tensor]) -> list[Image.Image]:
        # One by one: beside a training there may be little memory.
        decode, device = self.vae.decode, self.vae.device
        return [to_images(decode(each[None].to(device)).sample.cpu())[0] for each in latents]


def write_editor(
    editor: Editor,
    config: EditorConfig,
    folder: Place,
    data: Place,
    settings: dict[str, Any],
    metrics: Path,
) -> None:
    """Write the pipeline's folder with its card: whole or not at all.

    Args:
        editor: with the weights to keep.
        config: where the frozen parts come from.
        folder: new.
        data: whose manifest is copied.
        settings: of the training.
        metrics: its `metrics.jsonl`.
    """
    frozen = Frozen(config)
    if config.lora_rank is not None and config.output.lora_export == "merged":
        editor.unet.fuse_lora()
        editor.unet.unload_lora()
    parts: dict[str, Any] = {"text_encoder": None, "tokenizer": None}
    if config.condition == "text":
        encoder, tokenizer = load_text_parts(config)
        parts = {"text_encoder": encoder, "tokenizer": tokenizer}
    pipeline = ReasonEditPipeline(
        vae=frozen.vae,
        unet=editor.unet,
        scheduler=load_scheduler(config),
        mllm=frozen.mllm,
        processor=frozen.processor,
        connector=editor.connector,
        tokens=config.tokens,
        **parts,
    )
    condition = f"`{config.mllm.name}`" if config.condition == "mllm" else "its text encoder"
    card = CARD.format(
        figures=_figures(metrics),
        base=config.base.name,
        condition=condition,
        counts=describe(settings["counts"]),
        parts=", ".join(settings["parts"]),
    )
    if isinstance(folder, Path):
        for stale in folder.parent.glob(f".{folder.name}.*"):
            remove(stale)  # of a training that was killed
    with filled(folder, last=INDEX) as temporary:
        pipeline.save_pretrained(temporary)
        (temporary / "data-manifest.json").write_bytes((data / MANIFEST).read_bytes())
        (temporary / "training.json").write_text(json.dumps(settings, indent=2) + "\n")
        (temporary / "README.md").write_text(card)


def describe(counts: Mapping[str, float]) -> str:
    """What a training is on, as it is said in the log and on the card; see `worker.count`."""
    left_out = counts["left_out"]
    lost = f", leaves out {left_out}, whose edit no crop keeps" if left_out else ""
    return (
        f"trains on {counts['trained_on']} samples, holds out {counts['held_out']}{lost}; "
        f"{counts['editing_steps']} steps, {counts['epochs']:g} epochs"
    )


def few_steps(counts: Mapping[str, float]) -> str | None:
    """A sentence where few samples make few steps of a large batch; else, or without any, None."""
    if counts["editing_steps"] >= MIN_STEPS or not counts["editing_steps"]:
        return None
    return (
        f"{counts['editing_steps']} steps teach an editor little: with so few samples lower "
        "editor.batch_size, or raise editor.num_epochs"
    )


def _figures(path: Path) -> str:
    """The card's sentence about the held-out loss, from a `metrics.jsonl`."""
    lines = read_metrics(path)
    losses = [(line["step"], line["held_out"]) for line in lines if "held_out" in line]
    if not losses:
        return "No sample was held out."
    (first, before), (last, after) = losses[0], losses[-1]
    best, lowest = min(losses, key=lambda each: each[1])
    return (
        f"Held-out loss {before:.4f} at step {first}, {after:.4f} at step {last}; the lowest, "
        f"{lowest:.4f}, at step {best}."
    )


def _sheet(columns: list[list[Image.Image]]) -> Image.Image:
    """Rows of pictures under the head source, truth, edit."""
    width = max(picture.width for column in columns for picture in column) + 4
    heights = [picture.height + 4 for picture in columns[0]]
    sheet = Image.new("RGB", (len(columns) * width, sum(heights) + 14), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (head, column) in enumerate(zip(("source", "truth", "edit"), columns, strict=True)):
        pen.text((place * width + 2, 1), head, fill="black")
        for row, picture in enumerate(column):
            sheet.paste(picture, (place * width, sum(heights[:row]) + 14))
    return sheet
